"""Random reads, writes, cuts, maps, copies and replacements of files, several at once, give what they should."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.daemon import PROJECT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.daemon import Mounted

PROGRAMS: Final = 3
STEPS: Final = 400
MANY_STEPS: Final = 20_000
SEED: Final = 1000


def exercise(files: Sequence[Sequence[Path]], steps: int, timeout_s: float) -> None:
    """Have each of `files`, given by the paths it is moved between, worked on by a program of its own."""
    command = [sys.executable, "-m", "tests.support.exerciser"]
    running = [
        subprocess.Popen(
            [*command, *map(str, paths), str(SEED + number), str(steps)],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, paths in enumerate(files)
    ]
    try:
        said = [program.communicate(timeout=timeout_s)[1] for program in running]
    finally:
        for program in running:
            program.kill()
            program.wait()
    failed = [text for program, text in zip(running, said, strict=True) if program.returncode != 0]
    assert not failed, "\n".join(failed)


def test_random_work_on_files(area: Path) -> None:
    exercise([[area / str(number)] for number in range(PROGRAMS)], STEPS, 100)


def test_random_work_on_files_that_move_between_uploads_and_two_disks(travel: Mounted) -> None:
    places = (travel.uploads, travel.resources / "hot", travel.resources / "cold")
    exercise([[place / str(number) for place in places] for number in range(PROGRAMS)], STEPS, 100)
    travel.wait()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_much_random_work_on_files(area: Path) -> None:
    exercise([[area / str(number)] for number in range(PROGRAMS)], MANY_STEPS, 1000)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_much_random_work_on_files_that_move(travel: Mounted) -> None:
    places = (travel.uploads, travel.resources / "hot", travel.resources / "cold")
    exercise([[place / str(number) for place in places] for number in range(PROGRAMS)], MANY_STEPS, 1000)
    travel.wait()
