"""A disk that fails when it is told to: a directory served through FUSE by a process of its own.

    python -m tests.support.faulty SOURCE MOUNTPOINT FAULTS

FAULTS is a file of lines `REQUEST ERRNO`, read anew for each request: `write ENOSPC`, `fsync EIO`; `* EIO` is every
request, `lookup:NAME EIO` those for one name. Without the file nothing fails. Stopped by SIGSTOP it is a disk that
hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FUSEError, InodeT, RequestContext

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

PROJECT: Final = Path(__file__).resolve().parents[2]
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_OBJECT: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


P = ParamSpec("P")
R = TypeVar("R")


def request(
    method: Callable[Concatenate[FaultyDisk, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[FaultyDisk, P], Coroutine[Any, Any, R]]:
    """Let a request fail if it is to; the real disk's errors pass through."""
    name = method.__name__

    @functools.wraps(method)
    async def wrapped(self: FaultyDisk, /, *arguments: P.args, **named: P.kwargs) -> R:
        self.fail(name)
        try:
            return await method(self, *arguments, **named)
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None

    return wrapped


class FaultyDisk(pyfuse3.Operations):
    """Inodes by the numbers of the directory behind, each with a descriptor; nothing is cached by the kernel."""

    def __init__(self, source: str, faults: str) -> None:
        super().__init__()
        self._faults = faults
        self._fds: dict[int, int] = {pyfuse3.ROOT_INODE: os.open(source, _OBJECT)}
        self._lookups: dict[int, int] = {}
        self._listings: dict[int, tuple[int, list[bytes]]] = {}

    def fail(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            for line in Path(self._faults).read_text().splitlines():
                what, _, code = line.partition(" ")
                if what in (name, "*"):
                    raise FUSEError(getattr(errno, code))

    def path(self, number: int) -> str:
        return f"/proc/self/fd/{self._fds[number]}"

    def attributes(self, fd: int) -> EntryAttributes:
        status = os.fstat(fd)
        entry = EntryAttributes()
        for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_blocks", "st_ino"):
            setattr(entry, name, getattr(status, name))
        entry.st_atime_ns, entry.st_mtime_ns = status.st_atime_ns, status.st_mtime_ns
        entry.st_ctime_ns = status.st_ctime_ns
        entry.entry_timeout = entry.attr_timeout = 0
        return entry

    def introduce(self, parent: int, name: bytes) -> EntryAttributes:
        """+1 lookup"""
        fd = os.open(name, _OBJECT, dir_fd=self._fds[parent])
        entry = self.attributes(fd)
        if entry.st_ino in self._fds:
            os.close(fd)
        else:
            self._fds[entry.st_ino] = fd
        self._lookups[entry.st_ino] = self._lookups.get(entry.st_ino, 0) + 1
        return entry

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for number, count in inode_list:
            self._lookups[number] = self._lookups.get(number, 0) - count
            if self._lookups[number] <= 0 and number != pyfuse3.ROOT_INODE:
                del self._lookups[number]
                os.close(self._fds.pop(number))

    # -- names ------------------------------------------------------------------------------------------------------

    @request
    async def lookup(self, parent: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        self.fail(f"lookup:{os.fsdecode(name)}")
        return self.introduce(parent, name)

    @request
    async def mkdir(self, parent: InodeT, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        os.mkdir(name, stat.S_IMODE(mode), dir_fd=self._fds[parent])
        return self.introduce(parent, name)

    @request
    async def mknod(self, parent: InodeT, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        os.mknod(name, mode, rdev, dir_fd=self._fds[parent])
        return self.introduce(parent, name)

    @request
    async def symlink(self, parent: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        os.symlink(target, name, dir_fd=self._fds[parent])
        return self.introduce(parent, name)

    @request
    async def link(self, number: InodeT, parent: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        os.link(self.path(number), name, dst_dir_fd=self._fds[parent], follow_symlinks=True)
        return self.introduce(parent, name)

    @request
    async def unlink(self, parent: InodeT, name: bytes, ctx: RequestContext) -> None:
        os.unlink(name, dir_fd=self._fds[parent])

    @request
    async def rmdir(self, parent: InodeT, name: bytes, ctx: RequestContext) -> None:
        os.rmdir(name, dir_fd=self._fds[parent])

    @request
    async def rename(
        self, old_parent: InodeT, old: bytes, parent: InodeT, new: bytes, flags: int, ctx: RequestContext
    ) -> None:
        if _LIBC.renameat2(self._fds[old_parent], old, self._fds[parent], new, ctypes.c_uint(flags)) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")

    @request
    async def readlink(self, number: InodeT, ctx: RequestContext) -> bytes:
        return os.readlink(b"", dir_fd=self._fds[number])

    # -- attributes -------------------------------------------------------------------------------------------------

    @request
    async def getattr(self, number: InodeT, ctx: RequestContext) -> EntryAttributes:
        entry = self.attributes(self._fds[number])
        entry.st_ino = number
        return entry

    @request
    async def setattr(
        self,
        number: InodeT,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        path = self.path(number)
        if fields.update_size:
            os.truncate(path, attr.st_size)
        if fields.update_uid or fields.update_gid:
            os.chown(path, attr.st_uid if fields.update_uid else -1, attr.st_gid if fields.update_gid else -1)
        if fields.update_mode:
            os.chmod(path, stat.S_IMODE(attr.st_mode))
        if fields.update_atime or fields.update_mtime:
            os.utime(path, ns=(attr.st_atime_ns, attr.st_mtime_ns))
        entry = self.attributes(self._fds[number])
        entry.st_ino = number
        return entry

    @request
    async def getxattr(self, number: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        return os.getxattr(self.path(number), name)

    @request
    async def setxattr(self, number: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        os.setxattr(self.path(number), name, value)

    @request
    async def listxattr(self, number: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        return [os.fsencode(name) for name in os.listxattr(self.path(number))]

    @request
    async def removexattr(self, number: InodeT, name: bytes, ctx: RequestContext) -> None:
        os.removexattr(self.path(number), name)

    @request
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        told, answer = os.statvfs(self.path(pyfuse3.ROOT_INODE)), pyfuse3.StatvfsData()
        for name in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax"):
            setattr(answer, f"f_{name}", getattr(told, f"f_{name}"))
        return answer

    # -- content ----------------------------------------------------------------------------------------------------

    @request
    async def create(
        self, parent: InodeT, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | flags & os.O_EXCL, stat.S_IMODE(mode), dir_fd=self._fds[parent])
        return FileInfo(fh=FileHandleT(fd), direct_io=False), self.introduce(parent, name)

    @request
    async def open(self, number: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=FileHandleT(os.open(self.path(number), flags & (os.O_ACCMODE | os.O_TRUNC))))

    @request
    async def read(self, fh: FileHandleT, offset: int, size: int) -> bytes:
        return os.pread(fh, size, offset)

    @request
    async def write(self, fh: FileHandleT, offset: int, data: bytes) -> int:
        return os.pwrite(fh, data, offset)

    @request
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        os.fsync(fh)

    @request
    async def flush(self, fh: FileHandleT) -> None:
        pass

    async def release(self, fh: FileHandleT) -> None:
        os.close(fh)

    # -- directories ------------------------------------------------------------------------------------------------

    @request
    async def opendir(self, number: InodeT, ctx: RequestContext) -> FileHandleT:
        fh = FileHandleT(max(self._listings, default=0) + 1)
        self._listings[fh] = (number, [os.fsencode(name) for name in os.listdir(self.path(number))])
        return fh

    @request
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        number, names = self._listings[fh]
        for position, name in enumerate(names[start_id:], start_id + 1):
            try:
                entry = self.introduce(number, name)
            except FileNotFoundError:
                continue
            if not pyfuse3.readdir_reply(token, name, entry, position):
                await self.forget([(entry.st_ino, 1)])
                break

    async def releasedir(self, fh: FileHandleT) -> None:
        del self._listings[fh]

    @request
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """There is nothing to do."""


class Faulty:
    """A mounted faulty disk, as its user sees it."""

    def __init__(self, mountpoint: Path, faults: Path, pid: int) -> None:
        self.mountpoint = mountpoint
        self.pid = pid
        self._faults = faults

    @contextlib.contextmanager
    def failing(self, **faults: str) -> Iterator[None]:
        """Requests fail as given, `write="ENOSPC"`, as long as the block lasts; `all` is every request."""
        lines = [f"{'*' if request == 'all' else request} {code}" for request, code in faults.items()]
        new = self._faults.with_suffix(".new")
        new.write_text("\n".join(lines))
        new.rename(self._faults)
        try:
            yield
        finally:
            self._faults.unlink()


@contextlib.contextmanager
def faulty_disk(base: Path) -> Iterator[Faulty]:
    """Serve a new directory below `base` as a disk that can fail."""
    source, mountpoint, faults = base / "behind", base / "disk", base / "faults"
    source.mkdir(parents=True)
    mountpoint.mkdir()
    command: list[str | Path] = [sys.executable, "-m", "tests.support.faulty", source, mountpoint, faults]
    with subprocess.Popen(command, cwd=PROJECT) as server:
        try:
            limit = time.monotonic() + 20
            while not os.path.ismount(mountpoint):
                assert time.monotonic() < limit, "the faulty disk is not mounted"
                time.sleep(0.01)
            yield Faulty(mountpoint, faults, server.pid)
        finally:
            server.kill()
            subprocess.run(["fusermount3", "-uz", mountpoint], check=False, capture_output=True, timeout=30)


def main() -> None:
    source, mountpoint, faults = sys.argv[1:]
    os.umask(0)
    options = {*pyfuse3.default_options, "fsname=faulty", "default_permissions"}
    if os.geteuid() == 0:
        options.add("allow_other")
    pyfuse3.init(FaultyDisk(source, faults), mountpoint, options)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
