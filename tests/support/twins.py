"""The same system calls on two directories, and what each of them answered: a value, or an errno.

A call is plain data, so that hypothesis can make, print and shrink lists of them. Paths are below the directory that is
played on; everything runs in this process, as the user each call names (`act_as`).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.support.tools import allocate, renameat2, set_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOTS: Final = 3  # open handles that a list of calls may use


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


class Call(NamedTuple):
    """One system call: the name of a method of `Side`, its arguments, and who makes it."""

    name: str
    arguments: tuple[Any, ...]
    user: User


@contextlib.contextmanager
def act_as(user: User) -> Iterator[None]:
    """Be another user as far as file systems are concerned; only root can."""
    if os.getuid() != 0:
        yield
        return
    before = os.getgroups()
    os.setgroups(user.groups)
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class Side:
    """One of the two directories, with its open handles; calls are made standing in it, with relative paths."""

    def __init__(self, top: Path) -> None:
        self._top = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        self._slots: list[int | None] = [None] * SLOTS

    def close(self) -> None:
        for slot in range(SLOTS):
            self.close_slot(slot)
        os.close(self._top)

    def play(self, call: Call) -> object:
        """What the call answers: its value, or the name of its errno."""
        with self._standing_here(), act_as(call.user):
            try:
                return getattr(self, call.name)(*call.arguments)
            except OSError as error:
                return errno.errorcode[error.errno or 0]

    @contextlib.contextmanager
    def _standing_here(self) -> Iterator[None]:
        before = os.open(".", os.O_PATH)
        os.fchdir(self._top)
        try:
            yield
        finally:
            os.fchdir(before)
            os.close(before)

    # -- names ------------------------------------------------------------------------------------------------------

    def mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(path, mode)

    def mknod(self, path: bytes, mode: int) -> None:
        os.mknod(path, mode)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, path)

    def link(self, old: bytes, new: bytes) -> None:
        os.link(old, new, follow_symlinks=False)

    def unlink(self, path: bytes) -> None:
        os.unlink(path)

    def rmdir(self, path: bytes) -> None:
        os.rmdir(path)

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        renameat2(old, new, flags)

    def listdir(self, path: bytes) -> list[bytes]:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(os.fsencode(name) for name in os.listdir(fd))
        finally:
            os.close(fd)

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(path)

    # -- attributes: of a path, or of the open handle in a slot --------------------------------------------------------

    def stat(self, path: bytes | int, follow: bool = True) -> tuple[object, ...]:
        return _facts(os.stat(self._at(path), follow_symlinks=follow))

    def access(self, path: bytes, mode: int) -> bool:
        return os.access(path, mode, effective_ids=True)

    def chmod(self, path: bytes | int, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: bytes | int, uid: int, gid: int, follow: bool = True) -> None:
        os.chown(self._at(path), uid, gid, follow_symlinks=follow)

    def utime(self, path: bytes | int, atime_ns: int, mtime_ns: int, follow: bool = True) -> None:
        os.utime(self._at(path), ns=(atime_ns, mtime_ns), follow_symlinks=follow)

    def touch(self, path: bytes | int) -> None:
        os.utime(self._at(path))

    def touch_parts(self, path: bytes, atime: int, mtime: int) -> None:
        """Set each time to the one given, or to now, or leave it (`UTIME_NOW`, `UTIME_OMIT`)."""
        set_times(path, atime, mtime)

    def truncate(self, path: bytes | int, size: int) -> None:
        os.truncate(self._at(path), size)

    def setxattr(self, path: bytes | int, name: str, value: bytes, flags: int, follow: bool = True) -> None:
        os.setxattr(self._at(path), name, value, flags, follow_symlinks=follow)

    def getxattr(self, path: bytes | int, name: str, follow: bool = True) -> bytes:
        return os.getxattr(self._at(path), name, follow_symlinks=follow)

    def removexattr(self, path: bytes | int, name: str, follow: bool = True) -> None:
        os.removexattr(self._at(path), name, follow_symlinks=follow)

    def listxattr(self, path: bytes | int, follow: bool = True) -> list[str]:
        names = os.listxattr(self._at(path), follow_symlinks=follow)
        return sorted(name for name in names if name != "user.fusestore")

    def write_file(self, path: bytes, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    # -- handles ----------------------------------------------------------------------------------------------------

    def open_slot(self, slot: int, path: bytes, flags: int, mode: int) -> None:
        self.close_slot(slot)
        self._slots[slot] = os.open(path, flags | os.O_NONBLOCK, mode)

    def close_slot(self, slot: int) -> None:
        fd, self._slots[slot] = self._slots[slot], None
        if fd is not None:
            os.close(fd)

    def write_slot(self, slot: int, data: bytes) -> int:
        return os.write(self._fd(slot), data)

    def pwrite_slot(self, slot: int, data: bytes, offset: int) -> int:
        return os.pwrite(self._fd(slot), data, offset)

    def read_slot(self, slot: int, size: int) -> bytes:
        return os.read(self._fd(slot), size)

    def seek_slot(self, slot: int, offset: int, whence: int) -> int:
        return os.lseek(self._fd(slot), offset, whence)

    def sync_slot(self, slot: int) -> None:
        os.fsync(self._fd(slot))

    def allocate_slot(self, slot: int, mode: int, offset: int, size: int) -> None:
        allocate(self._fd(slot), mode, offset, size)

    def reserve_slot(self, slot: int, offset: int, size: int) -> None:
        os.posix_fallocate(self._fd(slot), offset, size)

    def copy_slot(self, slot: int, to_slot: int, size: int, offset: int, to_offset: int) -> int:
        return os.copy_file_range(self._fd(slot), self._fd(to_slot), size, offset, to_offset)

    def map_slot(self, slot: int, offset: int, data: bytes) -> bytes:
        """Write into a shared map, and return what it held there before."""
        with mmap.mmap(self._fd(slot), 0) as view:
            before = view[offset : offset + len(data)]
            view[offset : offset + len(data)] = data
            return before

    def link_slot(self, slot: int, path: bytes) -> None:
        os.link(b"/proc/self/fd/%d" % self._fd(slot), path, follow_symlinks=True)

    def reopen_slot(self, slot: int, flags: int) -> None:
        os.close(os.open(b"/proc/self/fd/%d" % self._fd(slot), flags))

    def list_slot(self, slot: int) -> list[bytes]:
        return sorted(os.fsencode(name) for name in os.listdir(self._fd(slot)))

    def open_in_slot(self, slot: int, name: bytes, flags: int, mode: int) -> None:
        os.close(os.open(name, flags, mode, dir_fd=self._fd(slot)))

    def _at(self, place: bytes | int) -> bytes | int:
        return self._fd(place) if isinstance(place, int) else place

    def _fd(self, slot: int) -> int:
        fd = self._slots[slot]
        if fd is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return fd


def _facts(status: os.stat_result) -> tuple[object, ...]:
    size = status.st_size if not stat.S_ISDIR(status.st_mode) else None
    return oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink, size, status.st_rdev
