"""How long a write waits while the file it goes to moves from disk to disk, its switch included."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Final

from bench import stores
from bench.moving import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOVES: Final = 30
REST_S: Final = 0.5
_BLOCK: Final = bytes(4096)
_PAUSE_S: Final = 0.0005


def measure(base: Path, resources: Path, megabytes: int) -> tuple[list[float], list[float]]:
    """The longest write of 4 KiB, in ms: in each of some moments of rest, and during each of some moves."""
    hot, cold = (resources / root / "written" for root in ("hot", "cold"))
    fill(hot, megabytes)
    stores.wait_for_all(base)
    at_rest, moving = [], []
    with _written(hot, megabytes << 20) as longest_ms:
        for number in range(MOVES):
            longest_ms()
            time.sleep(REST_S)
            at_rest.append(longest_ms())
            os.rename(*((hot, cold) if number % 2 == 0 else (cold, hot)))
            stores.wait_for_all(base)
            moving.append(longest_ms())
    return at_rest, moving


@contextlib.contextmanager
def _written(file: Path, size: int) -> Iterator[Callable[[], float]]:
    """Have random blocks of a file overwritten, which stays open; yields what tells the longest since last asked."""
    longest_ns, ended = [0], threading.Event()

    def write() -> None:
        dice = random.Random(1)
        with open(file, "r+b", buffering=0) as stream:
            while not ended.is_set():
                stream.seek(len(_BLOCK) * dice.randrange(size // len(_BLOCK)))
                start = time.perf_counter_ns()
                stream.write(_BLOCK)
                longest_ns[0] = max(longest_ns[0], time.perf_counter_ns() - start)
                time.sleep(_PAUSE_S)

    def longest_ms() -> float:
        told, longest_ns[0] = longest_ns[0], 0
        return told / 1e6

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield longest_ms
    finally:
        ended.set()
        thread.join()
