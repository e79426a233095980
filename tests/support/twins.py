"""The same system calls on two directories, and what each of them answered: a value, or an errno.

A call is plain data, so that hypothesis can make, print and shrink lists of them. Paths are below the directory that is
played on; everything runs in this process, as the user each call names (`act_as`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.support.tools import renameat2

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
    """One of the two directories, with its open handles."""

    def __init__(self, top: Path) -> None:
        self._top = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        self._path = os.fsencode(top)
        self._slots: list[int | None] = [None] * SLOTS

    def close(self) -> None:
        for slot in range(SLOTS):
            self.close_slot(slot)
        os.close(self._top)

    def play(self, call: Call) -> object:
        """What the call answers: its value, or the name of its errno."""
        with act_as(call.user):
            try:
                return getattr(self, call.name)(*call.arguments)
            except OSError as error:
                return errno.errorcode[error.errno or 0]

    # -- names ------------------------------------------------------------------------------------------------------

    def mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(path, mode, dir_fd=self._top)

    def mknod(self, path: bytes, mode: int) -> None:
        os.mknod(path, mode, dir_fd=self._top)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, path, dir_fd=self._top)

    def link(self, old: bytes, new: bytes) -> None:
        os.link(old, new, src_dir_fd=self._top, dst_dir_fd=self._top, follow_symlinks=False)

    def unlink(self, path: bytes) -> None:
        os.unlink(path, dir_fd=self._top)

    def rmdir(self, path: bytes) -> None:
        os.rmdir(path, dir_fd=self._top)

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        renameat2(old, new, flags, directory=self._top)

    def listdir(self, path: bytes) -> list[bytes]:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._top)
        try:
            return sorted(os.fsencode(name) for name in os.listdir(fd))
        finally:
            os.close(fd)

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(path, dir_fd=self._top)

    # -- attributes -------------------------------------------------------------------------------------------------

    def stat(self, path: bytes, follow: bool) -> tuple[object, ...]:
        return _facts(os.stat(path, dir_fd=self._top, follow_symlinks=follow))

    def access(self, path: bytes, mode: int) -> bool:
        return os.access(path, mode, dir_fd=self._top, effective_ids=True)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(path, mode, dir_fd=self._top)

    def chown(self, path: bytes, uid: int, gid: int, follow: bool) -> None:
        os.chown(path, uid, gid, dir_fd=self._top, follow_symlinks=follow)

    def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> None:
        os.utime(path, ns=(atime_ns, mtime_ns), dir_fd=self._top)

    def touch(self, path: bytes) -> None:
        os.utime(path, dir_fd=self._top)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self._path + b"/" + path, size)

    def setxattr(self, path: bytes, name: str, value: bytes, flags: int) -> None:
        os.setxattr(self._path + b"/" + path, name, value, flags)

    def getxattr(self, path: bytes, name: str) -> bytes:
        return os.getxattr(self._path + b"/" + path, name)

    def removexattr(self, path: bytes, name: str) -> None:
        os.removexattr(self._path + b"/" + path, name)

    def listxattr(self, path: bytes) -> list[str]:
        return sorted(name for name in os.listxattr(self._path + b"/" + path) if name != "user.fusestore")

    def write_file(self, path: bytes, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY, dir_fd=self._top)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    # -- handles ----------------------------------------------------------------------------------------------------

    def open_slot(self, slot: int, path: bytes, flags: int, mode: int) -> None:
        self.close_slot(slot)
        self._slots[slot] = os.open(path, flags | os.O_NONBLOCK, mode, dir_fd=self._top)

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

    def truncate_slot(self, slot: int, size: int) -> None:
        os.ftruncate(self._fd(slot), size)

    def chmod_slot(self, slot: int, mode: int) -> None:
        os.fchmod(self._fd(slot), mode)

    def stat_slot(self, slot: int) -> tuple[object, ...]:
        return _facts(os.fstat(self._fd(slot)))

    def sync_slot(self, slot: int) -> None:
        os.fsync(self._fd(slot))

    def _fd(self, slot: int) -> int:
        fd = self._slots[slot]
        if fd is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return fd


def _facts(status: os.stat_result) -> tuple[object, ...]:
    size = status.st_size if not stat.S_ISDIR(status.st_mode) else None
    return oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink, size, status.st_rdev


class Times(NamedTuple):
    """The times of one object."""

    atime_ns: int
    mtime_ns: int
    ctime_ns: int


TICK_S: Final = 0.02  # file systems stamp with the kernel's clock tick, up to 10 ms


def changed_times(top: Path, call: Call) -> tuple[object, dict[str, str]]:
    """What a call answers, and which times it changes of whatever lies below `top`: "a", "m", "c", by path.

    Of atimes, those of regular files only: looking changes the others.
    """
    side = Side(top)
    try:
        time.sleep(TICK_S)
        before = _times(top)
        time.sleep(TICK_S)
        answer = side.play(call)
        after = _times(top)
    finally:
        side.close()
    changed = {}
    for path in before.keys() & after.keys():
        letters = "".join(
            letter for letter, one, two in zip("amc", before[path], after[path], strict=True) if one != two
        )
        if letters:
            changed[path] = letters
    return answer, changed


def _times(top: Path) -> dict[str, Times]:
    found = {}
    for directory, names, files in os.walk(top):
        for name in (".", *names, *files):
            status = os.lstat(os.path.join(directory, name))
            key = os.path.normpath(os.path.join(os.path.relpath(directory, top), name))
            atime_ns = status.st_atime_ns if stat.S_ISREG(status.st_mode) else 0
            found[key] = Times(atime_ns, status.st_mtime_ns, status.st_ctime_ns)
    return found
