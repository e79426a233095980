"""The trash of a mounted store, by its commands: what moves and rm leave there, how it comes back, when it ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import eventually

if TYPE_CHECKING:
    from tests.support.daemon import Mounted

pytestmark = pytest.mark.timeout(120)


def test_what_moves_and_rm_leave_is_listed_survives_a_kill_comes_back_and_ends_in_time(travel: Mounted) -> None:
    hot, cold = travel.resources / "hot", travel.resources / "cold"
    travel.configure("roots", hot={**_table(travel, "hot"), "trash_s": 3600, "trash_removed": True})
    travel.configure("roots", cold={**_table(travel, "cold"), "trash_s": 1, "trash_removed": True})
    travel.remount()
    (hot / "run").write_bytes(b"content")
    (hot / "gone").write_bytes(b"removed")
    travel.wait()
    os.rename(hot / "run", cold / "run")
    travel.wait()
    (hot / "gone").unlink()
    eventually(lambda: len(travel.json("trash", "list")) == 2, "both lie in the trash")
    found = travel.json("trash", "list")
    assert [(each["path"], each["why"]) for each in found] == [
        ("resources/cold/run", "moved"),
        ("resources/hot/gone", "removed"),
    ]
    assert len(travel.where(cold / "run")) == 1
    travel.kill9()
    travel.mount()
    assert travel.json("trash", "list", "--root", "hot") == found
    made = travel.json("trash", "restore", found[1]["name"], hot / "back")
    assert (hot / "back").read_bytes() == b"removed"
    assert (made["old_id"], made["path"]) == (found[1]["id"], "resources/hot/back")
    assert [line["command"] for line in travel.history(hot / "back")][-1] in ("restore", "write")
    assert travel.json("explain", found[1]["id"])["history"][-1]["command"] == "restore"
    travel.cli("trash", "restore", found[0]["name"], hot / "back", code=1)
    (cold / "run").unlink()
    eventually(lambda: not travel.json("trash", "list", "--root", "cold"), "its second is over", timeout_s=20)
    assert travel.json("trash", "empty")["files"] == 1
    assert "the trash is empty" in travel.cli("trash", "list").out


def _table(store: Mounted, name: str) -> dict[str, str]:
    return {"path": str(store.roots[name].directory)}
