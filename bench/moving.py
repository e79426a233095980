"""What a move of one big file between two disks does to the requests of others meanwhile.

Beside the store, the same is asked of the disk itself and of the bare pass-through while `cp` and `sync` bring the file
over: what the disk and the two CPUs cost anybody is no fault of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import msgspec

from bench import peers, rounds, stores
from bench.stores import ENVIRONMENT, PROJECT
from tests.support.pair import two_disks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.peers import Place
    from bench.sizes import Size
    from tests.support.pair import Disks

Figures = dict[str, float]
Moved = dict[str, dict[str, Figures]]  # who -> "idle" or "during" -> line -> figure


def during(call: Callable[[], object], place: Place, size: Size) -> Figures:
    """The latencies that a program in `place` sees while `call` runs."""
    endless = msgspec.structs.replace(size, seconds=None)
    probe = subprocess.Popen(
        rounds.command("latency", place, endless),
        env=ENVIRONMENT,
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert probe.stdout is not None
    try:
        if probe.stdout.readline() != b"ready\n":
            raise RuntimeError("the probe did not begin")
        call()
        said, _ = probe.communicate(b"stop", timeout=60)
    finally:
        probe.kill()
        probe.wait()
    figures: Figures = json.loads(said)
    return figures


def measure(base: Path, size: Size, tell: Callable[[str], object]) -> tuple[Moved, Figures]:
    """Latencies idle and during the move, for each of whom it is asked; and what the move itself took."""
    told: Moved = {}
    with two_disks(size.moved + 600) as disks:
        fill(disks.hot / "big", size.moved)
        for name in (peers.NATIVE, peers.FLOOR_LOOKING):
            tell(f"{size.moved} MiB from disk to disk by cp, beside: {name}")
            with peers.installed([name])[0].mount(base / name) as place:
                work = place.work("work")
                idle = rounds.work("latency", work, size)
                _clear(work.directory)
                told[name] = {"idle": idle, "during": during(lambda: _copy(disks), work, size)}
            (disks.cold / "big").unlink()
        (disks.hot / "root").mkdir()
        (disks.hot / "big").rename(disks.hot / "root" / "big")
        os.sync()
        facts: Figures = {}
        with stores.store(base / "store", hot=disks.hot / "root", cold=disks.cold / "root") as mountpoint:
            tell(f"{size.moved} MiB from disk to disk by mv, beside: fusestore")
            work = peers.Place(mountpoint / "resources" / "main", base / "store" / "store" / "main").work("work")
            idle = rounds.work("latency", work, size)
            _clear(work.directory)
            resources = mountpoint / "resources"
            moving = during(lambda: facts.update(_move(base / "store", resources, size)), work, size)
            told["none"] = {"idle": idle, "during": moving}
    return told, facts


def fill(file: Path, megabytes: int) -> None:
    with open(file, "wb") as stream:
        stream.writelines(os.urandom(1 << 20) for _ in range(megabytes))
        stream.flush()
        os.fsync(stream.fileno())


def _copy(disks: Disks) -> None:
    subprocess.run(["cp", disks.hot / "big", disks.cold / "big"], check=True)
    subprocess.run(["sync", disks.cold / "big"], check=True)


def _clear(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()


def _move(base: Path, resources: Path, size: Size) -> Figures:
    start = time.perf_counter()
    os.rename(resources / "hot" / "big", resources / "cold" / "big")
    renamed = time.perf_counter()
    stores.wait_for_all(base)
    return {
        f"rename of {size.moved} MiB to another disk, ms": (renamed - start) * 1e3,
        "the bytes followed, verified and synced, MB/s": size.moved * (1 << 20) / 1e6 / (time.perf_counter() - renamed),
    }
