"""inotify(7): the kernel tells what changes in directories that are watched.

A watch is on a directory itself and follows it wherever it is renamed. Nothing here says what a change means. Layouts
and numbers are those of include/uapi/linux/inotify.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import sys
import termios
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_init = _libc.inotify_init1
_init.argtypes = (ctypes.c_int,)
_add_watch = _libc.inotify_add_watch
_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_rm_watch = _libc.inotify_rm_watch
_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)

_EVENT: Final = struct.Struct("iIII")  # wd, mask, cookie, len

ATTRIB: Final = 0x4
CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
ISDIR: Final = 0x4000_0000
_ONLYDIR: Final = 0x0100_0000
_EXCL_UNLINK: Final = 0x0400_0000  # what has no name here any more is nobody's business

_WANTED: Final = ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | _ONLYDIR | _EXCL_UNLINK


class Notice(NamedTuple):
    """Something has happened to a name, or with OVERFLOW to who knows what."""

    watch: int
    mask: int
    name: bytes


class Inotify:
    """One queue of notices and the watches that feed it.

    Attributes:
        taken: bytes that were read from it so far.

    Raises:
        OSError: EMFILE, the user has too many.
    """

    def __init__(self) -> None:
        self.fd = _checked(_init(os.O_NONBLOCK | os.O_CLOEXEC))
        self.taken = 0

    @property
    def queued(self) -> int:
        """Bytes that were put into it so far."""
        waiting = bytearray(4)
        fcntl.ioctl(self.fd, termios.FIONREAD, waiting)
        return self.taken + int.from_bytes(waiting, sys.byteorder)

    def add(self, directory: int) -> int:
        """Watch an open directory; returns the number of its watch, the same one if it has one already.

        Raises:
            OSError: ENOSPC, the user may have no more watches.
        """
        return _checked(_add_watch(self.fd, b"/proc/self/fd/%d" % directory, _WANTED))

    def remove(self, watch: int) -> None:
        """End a watch, if it has not ended; a notice with IGNORED says so."""
        _rm_watch(self.fd, watch)

    def read(self, limit_bytes: int) -> list[Notice]:
        """What is in the queue, at most so much; nothing if it is empty."""
        try:
            data = os.read(self.fd, limit_bytes)
        except BlockingIOError:
            return []
        self.taken += len(data)
        return list(_notices(data))

    def close(self) -> None:
        """End all watches."""
        os.close(self.fd)


def _notices(data: bytes) -> Iterator[Notice]:
    position = 0
    while position < len(data):
        watch, mask, _, size = _EVENT.unpack_from(data, position)
        position += _EVENT.size + size
        yield Notice(watch, mask, data[position - size : position].rstrip(b"\0"))


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
