"""Others and programs change the same directories in turn: a second later the mount shows what lies on the disk."""

from __future__ import annotations

import os
import random
import stat
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.compare import assert_same
from tests.support.daemon import Root, mounted
from tests.support.meddling import CHANGES, Meddler
from tests.support.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pair import Disks

CALLS: Final = tuple(name for name in CHANGES if name not in ("take_out", "bring_back"))
NAMES: Final = ("a", "b", "c")


def play(tmp_path: Path, disk: Path, seed: int, rounds: int) -> None:
    roll = random.Random(seed)
    root = disk / f"meddled-{seed}"
    for away in (disk / f"away-{seed}", tmp_path / "away"):
        away.mkdir()
    with mounted(tmp_path / "own", {"shared": Root(root, "writers")}) as store, store.deadline(rounds * 10):
        shown = store.resources / "shared"
        (store.resources / "shared" / "away").mkdir()
        others = Meddler(root, disk / f"away-{seed}")
        programs = Meddler(shown, shown / "away")
        known: dict[tuple[int, int], bytes] = {}
        history: list[tuple[str, str, Path, Path]] = []
        for _ in range(rounds):
            for _ in range(roll.randint(1, 12)):
                who = roll.choice((others, programs))
                what = roll.choice(CHANGES if who is others else CALLS)
                path = roll.choice(who.paths() or [who.disk / "a"])
                directory = roll.choice([who.disk, *who.paths(stat.S_IFDIR)])
                other = directory / roll.choice(NAMES)
                if shown / "away" in (path, other) or root / "away" in (path, other):
                    continue
                history.append(("others" if who is others else "programs", what, path, other))
                who.do(what, path, other, roll.randbytes(roll.randint(1, 9)))
            tool("sleep", "1.1")  # what the kernel may remember
            try:
                assert_same(root, shown, ignore=frozenset({"top", "xattrs"}))
                _check_ids(root, shown, known)
            except AssertionError as error:
                last = "\n".join(f"{who} {what} {path} {other}" for who, what, path, other in history[-30:])
                raise AssertionError(f"{error}\nseed {seed}, after\n{last}") from error


def _check_ids(root: Path, shown: Path, known: dict[tuple[int, int], bytes]) -> None:
    """One id for each object, for as long as it is on the disk."""
    now: dict[tuple[int, int], bytes] = {}
    for path in shown.rglob("*"):
        if path.is_symlink():
            continue
        id = os.getxattr(path, "user.fusestore.id")
        status = (root / path.relative_to(shown)).stat()
        now[status.st_ino, _born_ns(root / path.relative_to(shown))] = id
    assert len(set(now.values())) == len(now), "two objects have one id"
    for thing in now.keys() & known.keys():
        assert now[thing] == known[thing], "an object has got another id"
    known |= now


def _born_ns(path: Path) -> int:
    return int(tool("stat", "-c", "%.9W", path).replace(".", ""))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_second_after_whoever_changed_it_the_mount_shows_what_lies_on_the_disk(
    tmp_path: Path, disks: Disks, kind: str
) -> None:
    play(tmp_path, disks.hot if kind == "ext4" else disks.cold, seed=1, rounds=8)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("seed", range(2, 6))
def test_the_mount_shows_what_lies_on_the_disk_over_many_more_rounds(
    tmp_path: Path, disks: Disks, kind: str, seed: int
) -> None:
    play(tmp_path, disks.hot if kind == "ext4" else disks.cold, seed=seed, rounds=60)
