"""Disks with a volatile write cache: what was written and not flushed is lost with the power, or part of it.

A file of this file system is the backing file of a loop device, which turns a flush of the disk into an fsync of the
file. Every write that has completed is visible at once; `IMAGE` alone holds what was flushed, and a cut is a copy of
that with some of the rest. Python's kernel interface is the product's own; there is no other way to such a disk here.

    python -m tests.support.volatile FOLDER MOUNTPOINT BYTES NAME...     serves until standard input ends

    in    cut SEED SHARE     each block that was not flushed is kept with the probability SHARE
    out   done               FOLDER/cut-NAME of each disk is what a power cut would have left at one instant
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FUSEError, InodeT, ModeT, RequestContext

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT: Final = Path(__file__).resolve().parents[2]
BLOCK: Final = 4096  # what a disk writes whole or not at all
_FICLONE: Final = 0x40049409
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class Disk:
    """One backing file: what is visible, what is durable, and the writes between the two."""

    def __init__(self, folder: Path, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._folder = folder
        self._seen = os.open(folder / f"seen-{name}", _OPEN)
        self._durable = os.open(folder / f"durable-{name}", _OPEN)
        self._pending: list[tuple[int, bytes]] = []
        for fd in (self._seen, self._durable):
            os.ftruncate(fd, size)

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._seen, size, offset)

    def write(self, data: bytes, offset: int) -> int:
        self._pending.append((offset, data))
        return os.pwrite(self._seen, data, offset)

    def flush(self) -> None:
        for offset, data in self._pending:
            os.pwrite(self._durable, data, offset)
        self._pending.clear()

    def cut(self, chance: random.Random, share: float) -> None:
        """Leave what a power cut would now; of two writes to one block the later may be kept without the earlier."""
        fd = os.open(self._folder / f"cut-{self.name}", _OPEN | os.O_TRUNC)
        try:
            fcntl.ioctl(fd, _FICLONE, self._durable)
            for offset, data in self._pending:
                for start in range(0, len(data), BLOCK):
                    if chance.random() < share:
                        os.pwrite(fd, data[start : start + BLOCK], offset + start)
        finally:
            os.close(fd)


class Cabinet(pyfuse3.Operations):
    """A directory whose files are disks."""

    def __init__(self, disks: list[Disk]) -> None:
        super().__init__()
        self._disks = dict(enumerate(disks, pyfuse3.ROOT_INODE + 1))

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        entry = EntryAttributes()
        disk = self._disks.get(inode)
        entry.st_ino = inode
        entry.st_mode = ModeT(stat.S_IFREG | 0o600 if disk else stat.S_IFDIR | 0o700)
        entry.st_size = disk.size if disk else 0
        entry.st_nlink = 1
        entry.entry_timeout = entry.attr_timeout = 3600
        return entry

    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        for inode, disk in self._disks.items():
            if disk.name == os.fsdecode(name):
                return await self.getattr(InodeT(inode), ctx)
        raise FUSEError(errno.ENOENT)

    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=FileHandleT(inode), keep_cache=True)

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return self._disks[fh].read(size, off)

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return self._disks[fh].write(buf, off)

    async def flush(self, fh: FileHandleT) -> None:
        """Of a descriptor, at its close: no flush of the disk."""

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        self._disks[fh].flush()

    def cut(self, seed: str, share: float) -> None:
        chance = random.Random(seed)
        for disk in self._disks.values():
            disk.cut(chance, share)


async def _serve(cabinet: Cabinet) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        async for line in trio.wrap_file(sys.stdin):
            _, seed, share = line.split()
            cabinet.cut(seed, float(share))  # no request is served meanwhile: an instant
            sys.stdout.write("done\n")
            sys.stdout.flush()
        nursery.cancel_scope.cancel()


def main() -> None:
    folder, mountpoint, size, *names = sys.argv[1:]
    cabinet = Cabinet([Disk(Path(folder), name, int(size)) for name in names])
    pyfuse3.init(cabinet, mountpoint, {*pyfuse3.default_options, "fsname=volatile"})
    try:
        trio.run(_serve, cabinet)
    finally:
        pyfuse3.close(unmount=True)


# -- the other side ---------------------------------------------------------------------------------------------------


class Power:
    """What the disks hang on."""

    def __init__(self, program: subprocess.Popen[str], folder: Path) -> None:
        self._program = program
        self._folder = folder

    def cut(self, seed: str, share: float) -> Path:
        """Leave `cut-NAME` of each disk in the returned folder, as of now."""
        assert self._program.stdin is not None
        self._program.stdin.write(f"cut {seed} {share}\n")
        self._program.stdin.flush()
        self._expect("done")
        return self._folder

    def _expect(self, word: str) -> None:
        assert self._program.stdout is not None
        said = self._program.stdout.readline()
        assert said == f"{word}\n", f"the disks say {said!r}, not {word!r}"


@contextmanager
def volatile_disks(folder: Path, mountpoint: Path, size: int, names: list[str]) -> Iterator[Power]:
    """Serve new disks as `mountpoint/NAME`; `folder` lies on a file system with reflinks."""
    mountpoint.mkdir()
    command = (sys.executable, "-m", "tests.support.volatile", str(folder), str(mountpoint), str(size), *names)
    program = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        power = Power(program, folder)
        power._expect("serving")
        yield power
        assert program.stdin is not None
        program.stdin.close()
        program.wait(30)
    finally:
        program.kill()
        program.wait(30)
        for pipe in (program.stdin, program.stdout):
            if pipe is not None:
                pipe.close()


if __name__ == "__main__":
    main()
