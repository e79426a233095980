"""Cases: each a directory of its own, a few calls made in it, and what they answered and changed; many at once.

Played in the mount and in a plain directory, and compared. Playing many cases in one go shares the waits that tell
times apart.
"""

from __future__ import annotations

import os
import stat
import time
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.compare import differences
from tests.support.twins import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.twins import Call

TICK_S: Final = 0.02  # file systems stamp with the kernel's clock tick, up to 10 ms
SHOWN: Final = 25
PLACES: Final = ("uploads", "main", "open")  # the parameters of the fixture `area`


class Case(NamedTuple):
    """What is made in a directory, and the calls that are then compared."""

    name: str
    furnish: Callable[[Path], None]
    calls: tuple[Call, ...]


class Outcome(NamedTuple):
    """What the calls answered, and which of "a", "m", "c", "n" (times, link count) changed, by last path."""

    answers: list[object]
    changed: dict[str, str]


# By path: which object it is, its times and link count.
Marks = dict[str, tuple[tuple[int, int], tuple[int, int, int, int]]]


def assert_same_outcomes(ours: Path, plain: Path, cases: Sequence[Case], *, moving: bool = False) -> None:
    """Play the cases below both directories, which end up alike, with everything of the same outcome.

    Args:
        moving: what is on its way between disks counts as a link of its directories until it has arrived.
    """
    here, there = play(ours, cases), play(plain, cases)
    if moving:
        here, there = _without_counts(here), _without_counts(there)
    found = [
        f"{case.name}: {case.calls}\n    here  {here[case.name]}\n    plain {there[case.name]}"
        for case in cases
        if here[case.name] != there[case.name]
    ]
    found += differences(plain, ours, ignore=frozenset({"mtime_ns", "disk_bytes"}))
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:SHOWN])


def _without_counts(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    return {
        name: Outcome(answers, {path: letters.replace("n", "") for path, letters in changed.items() if letters != "n"})
        for name, (answers, changed) in outcomes.items()
    }


def share(cases: Sequence[Case], area: Path, size: int = 1) -> list[Case]:
    """What is enough for every day: of each `size` cases in a row one, and that in one of the three places alone."""
    place = PLACES.index(area.parent.name)
    chosen = [zlib.crc32(b"%d" % group) % (len(PLACES) * size) for group in range(len(cases) // size + 1)]
    return [case for number, case in enumerate(cases) if chosen[number // size] == number % size * len(PLACES) + place]


def play(top: Path, cases: Sequence[Case]) -> dict[str, Outcome]:
    """Make the cases below `top` and make their calls."""
    umask = os.umask(0o022)
    sides: dict[str, Side] = {}
    try:
        for case in cases:
            (top / case.name).mkdir()
            case.furnish(top / case.name)
        time.sleep(TICK_S)
        before = {case.name: _marks(top / case.name) for case in cases}
        time.sleep(TICK_S)
        answers = {}
        for case in cases:
            side = sides[case.name] = Side(top / case.name)
            answers[case.name] = [side.play(call) for call in case.calls]
        return {case.name: Outcome(answers[case.name], _changes(top / case.name, before[case.name])) for case in cases}
    finally:
        os.umask(umask)
        for side in sides.values():
            side.close()


def _changes(top: Path, before: Marks) -> dict[str, str]:
    found = {}
    for path, (identity, now) in _marks(top).items():
        then = next((marks for other, marks in before.values() if other == identity), None)
        if then is not None:
            letters = "".join(letter for letter, left, right in zip("amcn", then, now, strict=True) if left != right)
            if letters:
                found[path] = letters
    return found


def _marks(top: Path) -> Marks:
    found: Marks = {}
    for directory, names, files in os.walk(top):
        for name in (".", *names, *files):
            status = os.lstat(os.path.join(directory, name))
            key = os.path.normpath(os.path.join(os.path.relpath(directory, top), name))
            # Looking changes the atime of directories and symlinks.
            atime_ns = status.st_atime_ns if stat.S_ISREG(status.st_mode) else 0
            identity = status.st_ino, stat.S_IFMT(status.st_mode)
            found[key] = identity, (atime_ns, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink)
    return found
