"""Eight processes at once, each in a directory of its own; rates are those of all together."""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import TYPE_CHECKING, Final

from bench import data, names

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable
    from multiprocessing.synchronize import Barrier

    from bench.clock import Clock
    from bench.peers import Place
    from bench.sizes import Size

PROCESSES: Final = 8
_FORK: Final = multiprocessing.get_context("fork")
_LIMIT_S: Final = 300


def all_at_once(call: Callable[[], object]) -> float:
    """Run `call` in every process at the same time; returns the seconds from first start to last end.

    Raises:
        RuntimeError: one of them failed.
    """
    barrier = _FORK.Barrier(PROCESSES)
    times = _FORK.RawArray("d", 2 * PROCESSES)
    workers = [_FORK.Process(target=_work, args=(number, barrier, times, call)) for number in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(_LIMIT_S)
    if any(worker.exitcode != 0 for worker in workers):
        raise RuntimeError(f"the processes ended with {[worker.exitcode for worker in workers]}")
    return float(max(times[PROCESSES:]) - min(times[:PROCESSES]))


def _work(number: int, barrier: Barrier, times: ctypes.Array[ctypes.c_double], call: Callable[[], object]) -> None:
    os.chdir(f"p{number}")
    barrier.wait(_LIMIT_S)
    times[number] = time.monotonic()  # the same clock in all processes
    call()
    times[PROCESSES + number] = time.monotonic()


def run(place: Place, size: Size, clock: Clock) -> None:
    """Every line of the part, in directories of their own below `place`."""
    os.chdir(place.directory)
    for number in range(PROCESSES):
        os.mkdir(f"p{number}")
    count = size.files // 4
    megabytes = size.megabytes // PROCESSES

    def each(line: str, call: Callable[[int], object], *, before: int = 0) -> None:
        """Time `call` with every number, after as many times of it untimed as `before` says."""

        def loop() -> None:
            for number in range(count):
                call(number)

        for _ in range(before):
            all_at_once(loop)
        clock.rates[f"{line} × {PROCESSES}"] = PROCESSES * count / all_at_once(loop)

    def together(line: str, call: Callable[[], object]) -> None:
        clock.rates[f"{line} × {PROCESSES}"] = PROCESSES * megabytes * data.MIB / 1e6 / all_at_once(call)

    each("create", names.create)
    each("open + write 4 KiB", names.write_4k)
    os.sync()
    each("stat", names.stat, before=1)
    each("open + read 4 KiB", names.read_4k, before=1)
    each("rename", lambda number: os.rename(f"f{number}", f"g{number}"))
    each("unlink", lambda number: os.unlink(f"g{number}"))
    together("write 1 MiB + fsync", lambda: data.write(megabytes))
    all_at_once(data.read)
    together("read, warm", data.read)
    all_at_once(lambda: os.unlink(data.NAME))
