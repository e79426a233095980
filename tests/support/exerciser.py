"""Random work on one file, compared after each step with a model in memory: the idea of fsx.

Run as a program (`python -m tests.support.exerciser PATH... SEED STEPS`), so that several can work at the same time: on
a file of its own, which is also moved from path to path if several are given. Says what it did last where it fails.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import sys
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST: Final = 300_000
PAGE: Final = mmap.PAGESIZE
REMEMBERED: Final = 30


class Exerciser:
    """One file and what should be in it."""

    def __init__(self, paths: list[str], seed: int) -> None:
        self._paths = paths
        self._random = random.Random(seed)
        self._model = bytearray()
        self._fd = os.open(paths[0], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self.done: deque[str] = deque(maxlen=REMEMBERED)

    def run(self, steps: int) -> None:
        calls: list[Callable[[], str]] = [
            self._read, self._read, self._write, self._write, self._write, self._append, self._cut, self._map_read,
            self._map_write, self._map_write, self._reopen, self._second_handle, self._direct_read, self._copy_range,
            self._sync, self._size, self._replace, self._move,
        ]  # fmt: skip
        for step in range(steps):
            call = self._random.choice(calls)
            self.done.append(f"{step}: {call.__name__} {call()}")
            if step % 20 == 0:
                self._compare(0, LARGEST)
        os.fsync(self._fd)
        self._reopen()
        self._compare(0, LARGEST)
        os.close(self._fd)

    def _span(self, limit: int = LARGEST) -> tuple[int, int]:
        start = self._random.randrange(limit)
        return start, self._random.choice([1, 7, 512, PAGE, 5000, 65_536, 131_073])

    def _fill(self, size: int) -> bytes:
        return self._random.randbytes(min(size, 997)) * (size // 997 + 1)

    def _put(self, start: int, data: bytes) -> None:
        if start > len(self._model):
            self._model.extend(bytes(start - len(self._model)))
        self._model[start : start + len(data)] = data

    def _compare(self, start: int, size: int) -> None:
        self._same(os.pread(self._fd, size, start), start, size)

    def _same(self, found: bytes, start: int, size: int) -> None:
        wanted = self._model[start : start + size]
        if found != wanted:
            pairs = zip(found, wanted, strict=False)
            first = next((at for at, (x, y) in enumerate(pairs) if x != y), min(len(found), len(wanted)))
            raise AssertionError(f"{len(found)} bytes, {len(wanted)} expected; different from {start + first} on")

    def _read(self) -> str:
        start, size = self._span()
        self._compare(start, size)
        return f"{start}+{size}"

    def _write(self) -> str:
        start, size = self._span()
        data = self._fill(size)[:size]
        written = os.pwrite(self._fd, data, start)
        self._put(start, data[:written])
        return f"{start}+{written}"

    def _append(self) -> str:
        data = self._fill(777)[:777]
        fd = os.open(self._paths[0], os.O_WRONLY | os.O_APPEND)
        try:
            if len(self._model) < LARGEST:
                os.write(fd, data)
                self._put(len(self._model), data)
        finally:
            os.close(fd)
        return f"at {len(self._model)}"

    def _cut(self) -> str:
        size = self._random.choice([0, 1, self._random.randrange(LARGEST), self._random.randrange(LARGEST)])
        if self._random.random() < 0.5:
            os.ftruncate(self._fd, size)
        else:
            os.truncate(self._paths[0], size)
        if size < len(self._model):
            del self._model[size:]
        else:
            self._put(size, b"")
        return str(size)

    def _map_read(self) -> str:
        if not self._model:
            return "nothing"
        with mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ) as view:
            start, size = self._span(len(self._model))
            self._same(view[start : start + size], start, size)
            return f"{start}+{size}"

    def _map_write(self) -> str:
        if not self._model:
            return "nothing"
        with mmap.mmap(self._fd, 0) as view:
            start, size = self._span(len(self._model))
            data = self._fill(size)[: min(size, len(self._model) - start)]
            view[start : start + len(data)] = data
            self._put(start, data)
            if self._random.random() < 0.5:
                view.flush()
            return f"{start}+{len(data)}"

    def _reopen(self) -> str:
        os.close(self._fd)
        self._fd = os.open(self._paths[0], os.O_RDWR)
        return ""

    def _second_handle(self) -> str:
        start, size = self._span()
        fd = os.open(self._paths[0], os.O_RDONLY)
        try:
            self._same(os.pread(fd, size, start), start, size)
        finally:
            os.close(fd)
        return f"{start}+{size}"

    def _direct_read(self) -> str:
        fd = os.open(self._paths[0], os.O_RDONLY | os.O_DIRECT)
        try:
            start = self._random.randrange(LARGEST) // PAGE * PAGE
            with mmap.mmap(-1, 4 * PAGE) as buffer:
                count = os.preadv(fd, [buffer], start)
                self._same(buffer[:count], start, 4 * PAGE)
        finally:
            os.close(fd)
        return str(start)

    def _copy_range(self) -> str:
        start, size = self._span()
        to = start + size + self._random.randrange(10_000)
        count = os.copy_file_range(self._fd, self._fd, size, start, to)
        if count:
            self._put(to, bytes(self._model[start : start + count]))
        return f"{start}+{count} to {to}"

    def _sync(self) -> str:
        self._random.choice([os.fsync, os.fdatasync])(self._fd)
        return ""

    def _size(self) -> str:
        size = os.stat(self._paths[0]).st_size
        if {size, os.fstat(self._fd).st_size} != {len(self._model)}:
            raise AssertionError(f"size {size}, {len(self._model)} expected")
        return str(size)

    def _replace(self) -> str:
        """Write a new file and rename it over the old one, whose handle is still open until then."""
        new = self._paths[0] + ".new"
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        data = self._fill(self._random.randrange(20_000))
        os.write(fd, data)
        os.rename(new, self._paths[0])
        self._compare(0, LARGEST)  # the old one
        os.close(self._fd)
        self._fd, self._model = fd, bytearray(data)
        return str(len(data))

    def _move(self) -> str:
        old, new = self._paths[0], self._paths[-1]
        if old != new:
            os.rename(old, new)
            self._paths = [*self._paths[1:], old]
            self._paths = [new, *(path for path in self._paths if path != new)]
        return new


def main(arguments: list[str]) -> None:
    *paths, seed, steps = arguments
    exerciser = Exerciser(paths, int(seed))
    try:
        exerciser.run(int(steps))
    except BaseException:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write("\n".join(exerciser.done) + "\n")
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
