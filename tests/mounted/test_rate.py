"""`moves.rate`: copies share a rate, and whoever has enough of them waits for none."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import eventually

if TYPE_CHECKING:
    from tests.support.daemon import Mounted

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20


def set_rate(subject: Mounted, rate: int) -> None:
    subject.umount()
    subject.configure("moves", rate=rate)
    subject.mount()


def test_moves_share_a_rate_and_their_copies_are_read_back_at_it(travel: Mounted) -> None:
    set_rate(travel, 4 * MIB)
    names = ("a", "b")
    for name in names:
        (travel.resources / "hot" / name).write_bytes(os.urandom(4 * MIB))
    travel.wait()
    began = time.monotonic()
    for name in names:
        os.rename(travel.resources / "hot" / name, travel.resources / "cold" / name)
    assert time.monotonic() - began < 1
    travel.wait("--all")
    assert time.monotonic() - began >= 3  # 8 MiB, copied and read back, are 4 s but for the end


def test_what_is_copied_slowly_is_paused_and_ended_at_once(travel: Mounted) -> None:
    set_rate(travel, MIB)
    old, new = travel.resources / "hot" / "f", travel.resources / "cold" / "f"
    kept = travel.resources / "main" / "kept"
    for path in (old, kept):
        path.write_bytes(os.urandom(40 * MIB))
    travel.wait()
    os.rename(old, new)
    eventually(lambda: travel.json("moves", "show", "1")["bytes_done"] > 0, "the copy has begun")
    travel.cli("moves", "pause", "1")
    travel.cli("replicate", kept, "--to", "cold")
    incoming = travel.roots["cold"].directory / ".fusestore" / "incoming"
    eventually(lambda: list(incoming.glob("*.replica")), "the replica has begun")
    began = time.monotonic()
    travel.umount()
    assert time.monotonic() - began < 8  # what is left of either takes more than 30 s
    travel.configure("moves", rate=0)
    travel.mount()
    assert travel.json("moves", "show", "1")["state"] == "paused"
    travel.cli("moves", "resume", "1")
    travel.wait()
    assert [each["state"] for each in travel.where(kept)] == ["current", "current"]
    assert [each["root"] for each in travel.where(new)] == ["cold"]
