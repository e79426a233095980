"""How long single requests take: one forced getattr, one create, one read of 4 KiB, a pause, and again."""

from __future__ import annotations

import ctypes
import os
import random
import select
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bench.clock import Clock
    from bench.peers import Place
    from bench.sizes import Size

KINDS: Final = ("getattr", "create", "read 4 KiB")
STALL: Final = "longest stall"
_PAUSE_S: Final = 0.001
_FILES: Final = 64
_BLOCKS: Final = 4096
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_AT_EMPTY_PATH: Final = 0x1000
_AT_STATX_FORCE_SYNC: Final = 0x2000
_STATX_BASIC_STATS: Final = 0x7FF


def getattr_forced(fd: int, answer: ctypes.Array[ctypes.c_char]) -> None:
    """Ask the file system for the attributes, whatever the kernel remembers: exactly one GETATTR."""
    if _LIBC.statx(fd, b"", _AT_EMPTY_PATH | _AT_STATX_FORCE_SYNC, _STATX_BASIC_STATS, answer) != 0:
        raise OSError(ctypes.get_errno(), "statx")


class Probe:
    """Takes turns at the three kinds until it is told to stop."""

    def __init__(self, place: Place) -> None:
        os.chdir(place.directory)
        for number in range(_FILES):
            os.close(os.open(f"known{number}", os.O_CREAT | os.O_WRONLY, 0o644))
        with open("content", "wb") as file:
            file.writelines(os.urandom(4096) for _ in range(_BLOCKS))
        os.sync()
        self._known = [os.open(f"known{number}", os.O_PATH) for number in range(_FILES)]
        self._content = os.open("content", os.O_RDONLY)
        os.posix_fadvise(self._content, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead: one request of 4 KiB
        self._through_a_mount = place.directory.parent != place.backing
        self.took_ns: dict[str, list[int]] = {kind: [] for kind in KINDS}
        self.longest_ns = 0

    def run(self, seconds: float | None) -> None:
        """Go on for so long, or until standard input ends."""
        until = time.monotonic() + seconds if seconds is not None else float("inf")
        answer = ctypes.create_string_buffer(256)
        dice = random.Random(1)
        number = 0
        while time.monotonic() < until and not (seconds is None and _input_ended()):
            number += 1
            start = time.perf_counter_ns()
            getattr_forced(self._known[number % _FILES], answer)
            got = time.perf_counter_ns()
            fd = os.open(f"new{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            made = time.perf_counter_ns()
            os.close(fd)
            os.unlink(f"new{number}")
            spot = 4096 * dice.randrange(_BLOCKS)
            if self._through_a_mount:  # the page behind it stays in memory, as it does natively
                os.posix_fadvise(self._content, spot, 4096, os.POSIX_FADV_DONTNEED)
            asked = time.perf_counter_ns()
            os.pread(self._content, 4096, spot)
            end = time.perf_counter_ns()
            for kind, took in zip(KINDS, (got - start, made - got, end - asked), strict=True):
                self.took_ns[kind].append(took)
            self.longest_ns = max(self.longest_ns, got - start, made - got, asked - made, end - asked)
            time.sleep(_PAUSE_S)

    def figures(self) -> dict[str, float]:
        """p50 and p99 of each kind in µs; the longest of each, and of all calls, in ms."""
        told = {}
        for kind, took in self.took_ns.items():
            took.sort()
            told[f"{kind} p50"] = took[len(took) // 2] / 1e3
            told[f"{kind} p99"] = took[len(took) * 99 // 100] / 1e3
            told[f"{kind} longest"] = took[-1] / 1e6
        return {**told, STALL: self.longest_ns / 1e6}


def _input_ended() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def run(place: Place, size: Size, clock: Clock) -> None:
    """Every line of the part, in a directory of its own below `place`."""
    probe = Probe(place)
    if size.seconds is None:
        print("ready", flush=True)
    probe.run(size.seconds)
    clock.rates |= probe.figures()
