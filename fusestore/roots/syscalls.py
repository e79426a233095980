"""System calls that Python's `os` does not offer: birth times, rename flags, the sync of one file system.

Only ctypes and the turning of errno into `OSError`; no policy. The offsets are those of `struct statx` in
include/uapi/linux/stat.h, which are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final, NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

_statx = _libc.statx
_statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_syncfs = _libc.syncfs
_syncfs.argtypes = (ctypes.c_int,)

_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_EMPTY_PATH: Final = 0x1000
_STATX_INO: Final = 0x100
_STATX_BTIME: Final = 0x800
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2

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


def _error(name: bytes, to_name: bytes | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), name, None, to_name)
