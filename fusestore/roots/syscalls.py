"""System calls that Python's `os` does not offer: birth times, rename flags, syncs, room for a file, I/O priority.

Only ctypes and the turning of errno into `OSError`; no policy. The offsets are those of `struct statx` in
include/uapi/linux/stat.h, which are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)

_statx = _libc.statx
_statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_syncfs = _libc.syncfs
_syncfs.argtypes = (ctypes.c_int,)
_fallocate = _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_sync_file_range = _libc.sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_EMPTY_PATH: Final = 0x1000
_STATX_INO: Final = 0x100
_STATX_BTIME: Final = 0x800
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
_IOPRIO: Final = {"x86_64": (251, 252), "aarch64": (30, 31), "riscv64": (30, 31)}  # ioprio_set, ioprio_get
_WHO_PROCESS: Final = 1  # with 0: the calling thread
_CLASS_IDLE: Final = 3 << 13
_SYNC_FILE_RANGE_WAIT_BEFORE: Final = 1
_SYNC_FILE_RANGE_WRITE: Final = 2
_SYNC_FILE_RANGE_WAIT_AFTER: Final = 4
_FICLONE: Final = 0x40049409

_StatxBuffer = ctypes.c_char * 256
_STATX_FIELDS: Final = struct.Struct("=I28xQ40xqI")  # stx_mask, stx_ino, stx_btime.tv_sec, .tv_nsec


class Birth(NamedTuple):
    """What tells a disk object from a later one with the same inode number."""

    st_ino: int
    btime_ns: int  # 0 where the file system does not record it


def birth(directory: int, name: bytes) -> Birth:
    """Inode number and birth time of the object at `name`; a symlink is not followed."""
    return _birth(directory, name, _AT_SYMLINK_NOFOLLOW)


def birth_fd(fd: int) -> Birth:
    """The same of an open object."""
    return _birth(fd, b"", _AT_EMPTY_PATH)


def _birth(fd: int, name: bytes, flags: int) -> Birth:
    buffer = _StatxBuffer()  # one for each call: ctypes lets other threads run during it
    if _statx(fd, name, flags, _STATX_INO | _STATX_BTIME, buffer) != 0:
        raise _error(name)
    mask, st_ino, seconds, nanoseconds = _STATX_FIELDS.unpack_from(buffer)
    return Birth(st_ino, seconds * 1_000_000_000 + nanoseconds if mask & _STATX_BTIME else 0)


def rename_noreplace(directory: int, name: bytes, to_directory: int, to_name: bytes) -> None:
    """rename(2) that fails with EEXIST instead of replacing; EINVAL where the file system cannot promise that."""
    if _renameat2(directory, name, to_directory, to_name, _RENAME_NOREPLACE) != 0:
        raise _error(name, to_name)


def rename_exchange(directory: int, name: bytes, to_directory: int, to_name: bytes) -> None:
    """Swap two names atomically."""
    if _renameat2(directory, name, to_directory, to_name, _RENAME_EXCHANGE) != 0:
        raise _error(name, to_name)


def syncfs(fd: int) -> None:
    """Make everything durable that was written so far to the file system that holds `fd`."""
    if _syncfs(fd) != 0:
        raise _error(b"")


def fallocate(fd: int, size: int) -> None:
    """Give a file room for `size` bytes; unlike posix_fallocate(3) never by writing them."""
    if _fallocate(fd, 0, 0, size) != 0:
        raise _error(b"")


@contextmanager
def idle_io() -> Iterator[None]:
    """Have the disk serve everybody else before this thread for a while, where the number of ioprio_set(2) is known."""
    numbers = _IOPRIO.get(platform.machine())
    if numbers is None:
        yield
        return
    set_number, get_number = numbers
    before = _syscall(get_number, _WHO_PROCESS, 0)
    stand_back()
    try:
        yield
    finally:
        _syscall(set_number, _WHO_PROCESS, 0, max(before, 0))


def stand_back() -> None:
    """Have the disk serve everybody else before this thread from now on.

    Not the CPUs as well: a thread that waits for one, behind all others, may hold the interpreter's lock meanwhile.
    """
    numbers = _IOPRIO.get(platform.machine())
    if numbers is not None:
        _syscall(numbers[0], _WHO_PROCESS, 0, _CLASS_IDLE)


def clone(source: int, target: int) -> None:
    """Make `target` the same bytes as `source`, without copying them, where the file system can share them."""
    fcntl.ioctl(target, _FICLONE, source)


def write_out(fd: int, offset: int, size: int, *, wait: bool) -> None:
    """Have the disk begin to write a part of a file, or wait until it has; makes nothing durable."""
    flags = _SYNC_FILE_RANGE_WRITE
    if wait:
        flags |= _SYNC_FILE_RANGE_WAIT_BEFORE | _SYNC_FILE_RANGE_WAIT_AFTER
    if _sync_file_range(fd, offset, size, flags) != 0:
        raise _error(b"")


def _error(name: bytes, to_name: bytes | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), name, None, to_name)
