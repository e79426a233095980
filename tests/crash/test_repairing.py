"""A death at any step of a repair: what is known to be damaged reads well, and the next pass takes it to its end."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

import pytest

from fusestore.jobs.scrubber import Scrubber
from fusestore.model import Outside, ReplicaState
from tests.crash.test_every_step import Death, Killed, devices, dies, founded, rest
from tests.support.byhand import finish

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.opened import Opened

__all__ = ["devices"]  # the fixture

HOT: Final = "resources/hot"
CONTENT: Final = b"content" * 100


def furnish(opened: Opened, copies: tuple[str, ...]) -> Path:
    """A file with two names and replicas, one bit of which has changed on its disk; returns where it is."""
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/file", CONTENT)
    opened.link(f"{HOT}/d/file", f"{HOT}/linked")
    opened.settle()
    for name in copies:
        opened.replicate(f"{HOT}/d/file", name)
    opened.rest()
    path = opened.disks["hot"] / "linked"
    times = path.stat()
    path.write_bytes(b"C" + CONTENT[1:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return path


def scrub(opened: Opened) -> None:
    scrubber = Scrubber(opened.store)
    scrubber.start("", 0, again=True)
    finish(scrubber.go_on())


def marks(opened: Opened) -> tuple[object, ...]:
    inode = opened.stat(f"{HOT}/linked")
    return inode.id, inode.number, inode.mode, inode.nlink, inode.mtime_ns, inode.version, inode.current_hash


@pytest.mark.parametrize("trash_s", [0, 3600])
@pytest.mark.parametrize("copies", [("cold",), ("warm", "cold")])
@pytest.mark.parametrize("outside", [Outside.NONE, pytest.param(Outside.WRITERS, marks=pytest.mark.long)])
def test_a_death_in_the_middle_of_a_repair_costs_nothing(
    devices: tuple[Path, Path], copies: tuple[str, ...], outside: Outside, trash_s: int
) -> None:
    for at in range(1, 500):
        with founded(devices, outside, "repair", trash_s) as opened:
            path = furnish(opened, copies)
            before = marks(opened)
            cut_off = dies(opened, [scrub, rest], at)
            if cut_off is not None:
                opened.crash()
                with contextlib.suppress(Killed):  # recovery may die too
                    opened.open(wrap=Death(at % 6 + 1).await_in)
                opened.crash()
                opened.open()
                opened.check()
                is_known = opened.store.index.verified(opened.find(f"{HOT}/linked")) is not None
                found = {opened.read(f"{HOT}/linked"), opened.read(f"{HOT}/d/file")}
                assert found == {CONTENT} or not (is_known or cut_off), f"death {at}"
                if at % 2:
                    opened.rest()
                scrub(opened)
            opened.rest()
            opened.check()
            assert marks(opened) == before, f"death {at}"
            assert path.read_bytes() == CONTENT, f"death {at}"
            assert not opened.store.index.unsound(), f"death {at}"
            states = [record.state for _, record in opened.store.index.replicas(opened.find(f"{HOT}/linked"))]
            assert states == [ReplicaState.CURRENT] * len(copies), f"death {at}"
            opened.assert_at_home()
        if cut_off is None:
            return
    raise AssertionError("the repair never ran through")
