"""How long it takes until the bytes that a rename sends to another disk are there, verified, and their old place free.

Beside the store, in turn with it, are what people do by hand: a copy that is compared with its source, and `mv`, which
verifies nothing. Every turn begins with cold caches.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Final

from bench import caches, stores, switching
from bench.moving import fill
from tests.support.pair import two_disks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.sizes import Size

Followed = dict[str, dict[str, list[float]]]  # what was brought over -> how -> seconds, one figure a round

OURS: Final = "fusestore"
MV: Final = "mv + sync"
BIG: Final = "cp + sync + cmp"
SMALL: Final = "cp -a + diff -r"
RENAME: Final = "a rename to another disk"
AT_REST: Final = "the longest of many writes to a file at rest"
MOVING: Final = "the longest of all writes during a move of the file"
RENAMES: Final = 200
_DIRECTORY: Final = 100  # files in one
_FILE_BYTES: Final = 4096


def measure(
    base: Path, size: Size, rounds: int, tell: Callable[[str], object]
) -> tuple[Followed, dict[str, list[float]]]:
    """Seconds of each way for one big file and for many small ones; milliseconds that programs wait for a move."""
    big, small = f"{size.moved:,} MiB in one file", f"{size.small:,} files of 4 KiB"
    followed: Followed = {big: {BIG: [], MV: [], OURS: []}, small: {SMALL: [], MV: [], OURS: []}}
    with two_disks(2 * size.moved + size.small // 50 + 1000) as disks:
        for place in ("native", "root"):
            (disks.hot / place).mkdir()
            (disks.cold / place).mkdir()
            fill(disks.hot / place / "big", size.moved)
            _plant(disks.hot / place / "small", size.small)
        os.sync()
        hot, cold = disks.hot / "native", disks.cold / "native"
        with stores.store(base, hot=disks.hot / "root", cold=disks.cold / "root") as mountpoint:
            resources = mountpoint / "resources"
            subprocess.run(["ls", "-lR", resources], check=True, stdout=subprocess.DEVNULL)  # adopted
            for name, what, compared in (("big", big, BIG), ("small", small, SMALL)):
                for number in range(rounds):
                    tell(f"{what} from disk to disk, round {number + 1} of {rounds}")
                    followed[what][compared].append(_copied(hot, cold, name))
                    followed[what][MV].append(_moved(hot, cold, name))
                    _moved(cold, hot, name)
                    followed[what][OURS].append(_followed(base, resources, name))
            tell("renames from disk to disk, and writes to what is on its way")
            waits_ms = {RENAME: _renames_ms(base, resources)}
            waits_ms[AT_REST], waits_ms[MOVING] = switching.measure(base, resources, size.moved // 64)
            return followed, waits_ms


def _plant(directory: Path, count: int) -> None:
    for number in range(count):
        folder = directory / f"{number // _DIRECTORY}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_bytes(os.urandom(_FILE_BYTES))


def _forget() -> None:
    os.sync()
    caches.forget_content()
    caches.forget_names()


def _copied(hot: Path, cold: Path, name: str) -> float:
    _forget()
    start = time.perf_counter()
    if (hot / name).is_dir():
        subprocess.run(["cp", "-a", hot / name, cold / name], check=True)
        subprocess.run(["diff", "-r", hot / name, cold / name], check=True)
    else:
        subprocess.run(["cp", hot / name, cold / name], check=True)
        subprocess.run(["sync", cold / name], check=True)
        subprocess.run(["cmp", hot / name, cold / name], check=True)
    took_s = time.perf_counter() - start
    subprocess.run(["rm", "-r", cold / name], check=True)
    return took_s


def _moved(hot: Path, cold: Path, name: str) -> float:
    _forget()
    start = time.perf_counter()
    subprocess.run(["mv", hot / name, cold / name], check=True)
    subprocess.run(["sync", "-f", cold], check=True)
    return time.perf_counter() - start


def _followed(base: Path, resources: Path, name: str) -> float:
    """The move's own times: the command that waits for it looks now and then."""
    _forget()
    os.rename(resources / "hot" / name, resources / "cold" / name)
    stores.wait_for_all(base)
    moves = json.loads(stores.fusestore("moves", "--all", "--json", "--socket", base / "store" / "control.sock"))
    move = max(moves, key=lambda each: each["number"])
    if move["state"] != "done":
        raise RuntimeError(f"the move did not end: {move['reason']}")
    os.rename(resources / "cold" / name, resources / "hot" / name)
    stores.wait_for_all(base)
    took_ns: int = move["finished_ns"] - move["created_ns"]
    return took_ns / 1e9


def _renames_ms(base: Path, resources: Path) -> list[float]:
    """Of small files, and of the big one now and then, while those before are on their way."""
    for number in range(RENAMES):
        (resources / "hot" / f"{number}").write_bytes(bytes(number))
    stores.wait_for_all(base)
    took_ms = []
    for number in range(RENAMES):
        name = "big" if number % 50 == 0 else f"{number}"
        roots = ("hot", "cold") if number % 100 < 50 else ("cold", "hot")
        old, new = (resources / root / name for root in (roots if name == "big" else ("hot", "cold")))
        start = time.perf_counter()
        os.rename(old, new)
        took_ms.append((time.perf_counter() - start) * 1e3)
    stores.wait_for_all(base)
    return took_ms
