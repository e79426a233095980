"""Bytes of an open backing file: what can be done at once, and what has to go to a thread.

A read that the page cache can answer takes 4 us for 128 KiB inline, a hop to a thread 55 us; a read from a disk takes
as long as the disk likes and must not hold the event loop. `RWF_NOWAIT` tells the two apart (preadv2(2)).
"""

from __future__ import annotations

import errno
import os
from typing import Final

from fusestore.roots import freeing, opening
from fusestore.roots.opening import path_of

INLINE_WRITE_BYTES: Final = 64 * 1024  # larger writes may wait for the disk's dirty limit long enough to be felt
COMPARED_BYTES: Final = 1 << 20


def read_cached(fd: int, size: int, offset: int) -> bytes | bytearray | None:
    """Read `size` bytes if that needs no disk; None if it does, or if nobody can tell.

    Returns:
        fewer than `size` bytes only at the end of the file.
    """
    buffer = bytearray(size)
    try:
        got = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a file system without it
            return None
        raise
    if got == size:
        return buffer
    # Short: the end of the file, or the end of what is cached. Only the size can tell, and a short reply that is
    # not the end would be filled up with zeros by the kernel.
    if offset + got < os.fstat(fd).st_size:
        return None
    del buffer[got:]
    return buffer


def read(fd: int, size: int, offset: int) -> bytes:
    """Read up to `size` bytes; short only at the end of the file. Blocks."""
    data = os.pread(fd, size, offset)
    if len(data) == size or not data:
        return data
    whole = bytearray(data)
    while len(whole) < size and (data := os.pread(fd, size - len(whole), offset + len(whole))):
        whole += data
    return bytes(whole)


def are_same(fd: int, other: int) -> bool:
    """Whether two open files have the same bytes. Blocks."""
    offset = 0
    while (data := read(fd, COMPARED_BYTES, offset)) == read(other, COMPARED_BYTES, offset):
        if not data:
            return True
        offset += len(data)
    return False


def write(fd: int, data: bytes, offset: int) -> int:
    """Write all of `data`. Blocks."""
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
    return done


def truncate(fd: int, size: int) -> None:
    os.ftruncate(fd, size)


def stat(fd: int) -> os.stat_result:
    return os.fstat(fd)


def change(fd: int, *, mode: int | None, owner: tuple[int, int] | None, times_ns: tuple[int, int] | None) -> None:
    """Set attributes of an open file, None leaves one as it is; the owner first, which clears set-id bits."""
    if owner is not None:
        os.fchown(fd, *owner)
    if mode is not None:
        os.fchmod(fd, mode)
    if times_ns is not None:
        os.utime(fd, ns=times_ns)


def writable(fd: int) -> int:
    """A descriptor for reading and writing of a file that is open, whatever has become of its name."""
    return os.open(path_of(fd), os.O_RDWR | os.O_CLOEXEC)


def readable(fd: int) -> int:
    """A descriptor for reading, with flags of its own, of a file that is open."""
    return os.open(path_of(fd), os.O_RDONLY | os.O_CLOEXEC)


def getxattr(fd: int, attribute: bytes) -> bytes:
    return os.getxattr(fd, attribute)


def listxattr(fd: int) -> list[bytes]:
    return [os.fsencode(attribute) for attribute in os.listxattr(fd)]


def setxattr(fd: int, attribute: bytes, value: bytes | None) -> None:
    """Set an attribute, or remove it with None."""
    if value is None:
        os.removexattr(fd, attribute)
    else:
        os.setxattr(fd, attribute, value)


def sync(fd: int, *, data_only: bool) -> None:
    """Make an open file's bytes durable. Blocks."""
    (os.fdatasync if data_only else os.fsync)(fd)


def open_directory(directory: int) -> int:
    """A descriptor of a directory that can be synced, from one that can only be looked through (O_PATH)."""
    return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)


def disconnect(fd: int) -> None:
    """Let go of an open file whose root is away; its number leads nowhere, until `reconnect`."""
    opening.disconnect(fd)


def reconnect(fd: int, again: int) -> None:
    """Let `fd` lead to what was opened as `again`, which is used up."""
    opening.connect(fd, again)


def duplicate(fd: int) -> int:
    """A further descriptor of the same open object, for whoever uses it longer than its owner may keep it."""
    return os.dup(fd)


def close(fd: int) -> None:
    freeing.close(fd)


def forget_cached(fd: int) -> None:
    """Ask the page cache to let go of a file, so that the next read comes from the disk."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
