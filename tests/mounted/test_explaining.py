"""`fusestore explain` on a mounted store: who holds a file, what a move waits for, and what has gone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import eventually

if TYPE_CHECKING:
    from tests.support.daemon import Mounted

pytestmark = pytest.mark.timeout(120)


def test_the_process_that_has_a_file_open_is_named_and_the_verdict_comes_first(travel: Mounted) -> None:
    hot, cold = travel.resources / "hot", travel.resources / "cold"
    with open(hot / "run", "wb") as file:
        file.write(b"beginning")
        file.flush()
        os.rename(hot / "run", cold / "run")
        found = eventually(
            lambda: (said := travel.json("explain", cold / "run"))["code"] == "open-for-writing" and said,
            "it has moved",
        )
        assert {"pid": os.getpid(), "writes": True}.items() <= found["processes"][0].items()
        lines = travel.cli("explain", cold / "run").out.splitlines()
        assert lines[0] == found["verdict"]
        assert any(f"({os.getpid()})" in line for line in lines)
    travel.wait()
    assert travel.json("explain", cold / "run")["code"] == "at-home"
    (cold / "run").unlink()
    for what in (cold / "run", found["id"]):
        assert travel.json("explain", what)["code"] == "removed"
    travel.cli("explain", cold / "never", code=1)


def test_a_directory_on_its_way_says_what_its_move_waits_for_and_that_it_is_not_empty(travel: Mounted) -> None:
    hot, cold = travel.resources / "hot", travel.resources / "cold"
    (hot / "d").mkdir()
    (hot / "d" / "a").write_bytes(bytes(200 << 20))  # takes long enough to be paused
    os.rename(hot / "d", cold / "d")
    travel.cli("moves", "pause", cold / "d")
    found = travel.json("explain", cold / "d")
    assert found["code"] == "move-paused"
    assert "moves resume" in found["verdict"]
    assert {each["call"]: each["code"] for each in found["answers"]}["rmdir"] == "not_empty"
    travel.cli("moves", "resume", cold / "d")
    travel.wait()
    assert travel.json("explain", cold / "d")["code"] == "at-home"
