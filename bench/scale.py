"""What must not grow with the number of files: memory, index, start-up, and the time of every operation.

The same is done in a store that has few files and in one that has many, which lay on its disk when it was mounted, and
in those directories natively: a disk has its own price for many files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Final

import lmdb
import msgspec

from bench import anywhere, caches, rounds, stores
from bench.peers import Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.sizes import Size

Facts = dict[str, float]
NATIVELY: Final = ", natively"
_EVENTS: Final = b"events"  # the feed, which has its own bound (events.keep)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def find(directory: Path) -> None:
    subprocess.run(["find", directory, "-size", "+1M"], check=True)


def index_bytes(directory: Path) -> tuple[int, int]:
    """What the pages of all tables but the events take, and those of the events; of a store that is not mounted."""
    env = lmdb.open(str(directory), readonly=True, lock=False, max_dbs=64, lib_version=0)
    with env.begin() as txn:
        names = [bytes(key) for key, _ in txn.cursor()]
    sizes = {}
    for name in names:
        table = env.open_db(name)
        with env.begin() as txn:
            told = txn.stat(table)
        sizes[name] = told["psize"] * (told["branch_pages"] + told["leaf_pages"] + told["overflow_pages"])
    env.close()
    return sum(sizes.values()) - sizes[_EVENTS], sizes[_EVENTS]


def measure(base: Path, size: Size, tell: Callable[[str], object]) -> dict[str, Facts]:
    """Everything, for a tree root that is ours alone with few files in it and for one with many; by their number."""
    told: dict[str, Facts] = {str(files): {} for files in (size.few, size.many)}
    disks = {files: base / files / "full" for files in told}
    for files, disk in disks.items():
        tell(f"{files} files: making them natively")
        disk.mkdir(parents=True)
        took = seconds(lambda: anywhere.fill(str(disk), int(files)))  # noqa: B023  # called at once
        told[files]["made natively, files/s"] = int(files) / took
    os.sync()
    _take_turns(told, NATIVELY, disks, disks, size, tell)
    caches.forget_names()
    with contextlib.ExitStack() as mounts:
        roots = {}
        for files, disk in disks.items():
            tell(f"{files} files: the first walk, which adopts them")
            mountpoint = mounts.enter_context(stores.store(base / files, full=disk))
            roots[files] = mountpoint / "resources" / "full"
            told[files] |= _walk(base / files, roots[files], int(files))
        os.sync()
        _take_turns(told, "", roots, disks, size, tell)
        for files in told:
            tell(f"{files} files: stopping and starting")
            told[files] |= _restart(base / files, size.turns)
    for files, facts in told.items():
        index, events = index_bytes(base / files / "store" / "index")
        facts["index without events, bytes a file"] = index / int(files)
        facts["events in the index, bytes a file"] = events / int(files)
    shutil.rmtree(base)
    return told


def _walk(base: Path, root: Path, files: int) -> Facts:
    told = {"RssAnon when mounted, MB": stores.anonymous_mb(base)}
    told["first find (adopts), files/s"] = files / seconds(lambda: find(root))
    told["second find, files/s"] = files / seconds(lambda: find(root))
    told["RssAnon after find, MB"] = stores.anonymous_mb(base)
    return told


def _take_turns(
    told: dict[str, Facts],
    suffix: str,
    directories: dict[str, Path],
    disks: dict[str, Path],
    size: Size,
    tell: Callable[[str], object],
) -> None:
    """What a program gets in a new directory beside all those files, and anywhere among them; medians of some turns."""
    runs: rounds.Runs = {files: {} for files in told}
    for number in range(size.turns):
        for files, directory in directories.items():
            tell(f"{files} files: single operations{suffix}, turn {number + 1} of {size.turns}")
            place = Place(directory, disks[files])
            rates = rounds.work("names", place.work("work"), size)
            rates |= rounds.work("anywhere", place, msgspec.structs.replace(size, many=int(files)))
            (directory / "work").rmdir()
            os.sync()
            for line, rate in rates.items():
                runs[files].setdefault(f"{line}{suffix}", []).append(rate)
    for files, rates in rounds.medians(runs).items():
        told[files] |= rates


def _restart(base: Path, turns: int) -> Facts:
    """How long a stop in order takes, and the `fusestore mount` after it, which returns when the tree answers."""
    told = {"RssAnon after all that, MB": stores.anonymous_mb(base)}
    stops, starts = [], []
    for _ in range(turns):
        stops.append(seconds(lambda: stores.fusestore("umount", base / "mnt")))
        starts.append(seconds(lambda: stores.fusestore("mount", base / "store", base / "mnt")))
    return told | {"umount command, s": statistics.median(stops), "mount command, s": statistics.median(starts)}
