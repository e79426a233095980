"""How anything on a root's disk is opened: below a directory descriptor, by one component, never through a symlink.

What lies on a disk may have been put there to lead us astray: a symlink to elsewhere, a FIFO or device that blocks or
acts when opened, another file system mounted inside. Each function here refuses one of these; nothing else in `roots/`
opens by name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a planted FIFO does not wait for its other end, a file under somebody's lease answers EAGAIN.
_REGULAR: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OBJECT: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(parent: int, name: bytes, device: int) -> int:
    """Open the directory `name`, for reading where its mode allows that and else only to go through it.

    Raises:
        OSError: ENOTDIR for anything else, symlinks included; EXDEV for a directory that is not on `device`, because
            what another mount shows inside a root does not belong to the root.
    """
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        fd = os.open(name, _DIRECTORY | os.O_PATH, dir_fd=parent)
    if os.fstat(fd).st_dev != device:
        os.close(fd)
        raise OSError(errno.EXDEV, "another file system is mounted here", name)
    return fd


def open_regular(directory: int, name: bytes, flags: int, device: int | None = None) -> int:
    """Open the regular file `name` with `flags` added; never waits and never becomes a controlling terminal.

    Raises:
        OSError: ELOOP for a symlink, EISDIR for a directory, ENXIO for any other thing, EXDEV for what is not on
            `device`.
    """
    fd = os.open(name, _REGULAR | flags, dir_fd=directory)
    opened = os.fstat(fd)
    code = 0
    if not stat.S_ISREG(opened.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(opened.st_mode) else errno.ENXIO
    elif device is not None and opened.st_dev != device:
        code = errno.EXDEV
    if code:
        os.close(fd)
        raise OSError(code, os.strerror(code), name)
    return fd


def leave_atime(fd: int) -> None:
    """Have reads through `fd`, which are our own and no program's, leave the access time; where the disk lets us."""
    with suppress(PermissionError):  # only a file's owner may
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NOATIME)


def open_object(directory: int, name: bytes) -> int:
    """A descriptor that only names the object, of whatever type; opening it has no effect on the object."""
    return os.open(name, _OBJECT, dir_fd=directory)


@contextmanager
def object_path(directory: int, name: bytes) -> Iterator[str]:
    """A path that leads to the object `name` itself, for calls that take no directory descriptor."""
    fd = open_object(directory, name)
    try:
        yield path_of(fd)
    finally:
        os.close(fd)


def path_of(fd: int) -> str:
    """A path to what `fd` names; the kernel does not follow a symlink that lies there."""
    return f"/proc/self/fd/{fd}"


def disconnect(fd: int) -> None:
    """Let a descriptor lead nowhere without giving its number away: what is asked of it is EBADF, ENOTDIR or ELOOP.

    For one that a thread may be using. The disk it led to can be taken out as soon as calls in progress have returned.
    """
    nowhere = os.open("/proc/self/exe", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)  # a symlink: it opens as nothing
    try:
        os.dup2(nowhere, fd, inheritable=False)
    finally:
        os.close(nowhere)


def connect(old: int, fd: int) -> int:
    """Let the number `old` lead to where `fd` leads, which is used up; where there is none yet (-1), `fd` is it."""
    if old < 0:
        return fd
    os.dup2(fd, old, inheritable=False)
    os.close(fd)
    return old
