"""Files that are written all the time move all the same, and no byte is lost or torn, whatever way it is written."""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.daemon import eventually
from tests.support.writer import MANNERS, SIZE, Writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Mounted

pytestmark = pytest.mark.timeout(180)
WRITERS: Final = ("append", "overwrite", "cut", "direct", "map", "overwrite", "append", "cut")
NO_CUTS: Final = ("append", "overwrite", "direct", "overwrite", "append", "direct", "overwrite", "append")


@pytest.fixture
def at_work(travel: Mounted, tmp_path: Path) -> Iterator[list[Writing]]:
    """Writers that the test starts; none outlives it."""
    working: list[Writing] = []
    try:
        yield working
    finally:
        for each in working:
            each.process.kill()
            each.process.wait()


def start(travel: Mounted, at_work: list[Writing], manners: tuple[str, ...], models: Path) -> list[str]:
    """A writer in each of these manners on a file of its own in `hot`; returns the names of the files."""
    names = [f"{number}-{manner}" for number, manner in enumerate(manners)]
    for number, (name, manner) in enumerate(zip(names, manners, strict=True)):
        path = travel.resources / "hot" / name
        path.write_bytes(os.urandom(SIZE))
        at_work.append(Writing(path, manner, number, models / name))
    return names


def carry(travel: Mounted, names: list[str], old: str, new: str) -> None:
    """Rename the files to another disk and wait until all their bytes are there."""
    for name in names:
        os.rename(travel.resources / old / name, travel.resources / new / name)
    travel.wait("--all", timeout_s=100)
    assert travel.moves() == []


def prove(travel: Mounted, at_work: list[Writing], names: list[str], root: str) -> None:
    """What lies in the mount, and on the disk, is what the writers have written."""
    for name, writing in zip(names, at_work, strict=True):
        for place in (travel.resources / root, travel.roots[root].directory):
            wrong = writing.difference((place / name).read_bytes())
            assert not wrong, f"{place / name}: {wrong}"


@pytest.mark.parametrize("manner", MANNERS)
def test_a_file_arrives_while_it_is_written_and_its_writer_goes_on_there(
    travel: Mounted, at_work: list[Writing], tmp_path: Path, manner: str
) -> None:
    names = start(travel, at_work, (manner,), tmp_path)
    for old, new in (("hot", "cold"), ("cold", "hot"), ("hot", "cold")):
        carry(travel, names, old, new)
        assert not (travel.roots[old].directory / names[0]).exists()
        assert at_work[0].process.poll() is None
    at_work[0].stop()
    travel.wait("--all")
    prove(travel, at_work, names, "cold")
    sys.stdout.write(f"{manner}: {at_work[0].report}\n")


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(400)])])
def test_no_byte_of_eight_writers_is_lost_or_torn_while_their_files_go_to_and_fro(
    travel: Mounted, at_work: list[Writing], tmp_path: Path, seconds: float
) -> None:
    names = start(travel, at_work, WRITERS, tmp_path)
    end = time.monotonic() + seconds
    for old, new in itertools.cycle((("hot", "cold"), ("cold", "hot"))):
        carry(travel, names, old, new)
        if time.monotonic() > end:
            break
    for writing in at_work:
        writing.stop()
    prove(travel, at_work, names, new)
    longest = sorted(round(writing.report["longest_ms"], 1) for writing in at_work)
    sys.stdout.write(f"the longest call of each writer, in ms: {longest}\n")


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_kill_9_while_written_files_move_loses_nothing_that_was_written(
    travel: Mounted, at_work: list[Writing], tmp_path: Path, rounds: int
) -> None:
    travel.allow_log("unclean|replay|recover|interrupted|leftover")
    for turn in range(rounds):
        names = start(travel, at_work, NO_CUTS, tmp_path)
        for name in names:
            os.rename(travel.resources / "hot" / name, travel.resources / "cold" / name)
        eventually(lambda: any((travel.roots["cold"].directory / name).exists() for name in names), "one arrives")  # noqa: B023
        time.sleep(turn % 4 / 10)  # the moment is random on purpose; nothing waits for it
        travel.kill9()
        for writing in at_work:
            writing.stop()
        travel.mount()
        travel.wait("--all", timeout_s=100)
        prove(travel, at_work, names, "cold")
        for name in names:
            (travel.resources / "cold" / name).unlink()
        at_work.clear()
