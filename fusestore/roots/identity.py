"""The xattr that lets an index be rebuilt from the disks: who an object is, and which object that was said of.

`cp -a` and `rsync -X` copy it along with the bytes. So it names the object it was written on, and a label that does not
match its own object is a copy's: that object is somebody new (decision 0010).
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.model import Backing, InodeNo, RootNo

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.core.ports import Driver

IDENTITY_XATTR: Final = b"user.fusestore"

_VERSION: Final = 1
_FORMAT: Final = struct.Struct(">B16sQ16sQq")  # version, id, inode, root uuid, st_ino, birth time in ns
# No xattrs on this disk, none for us on this object, or no space beside the others.
_CANNOT_CARRY: Final = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENOSPC, errno.E2BIG)


class Label(NamedTuple):
    """What the xattr says."""

    id: bytes
    inode: InodeNo
    root_uuid: bytes
    backing: Backing  # its `root` does not travel: 0 in a label that was read

    def belongs_to(self, backing: Backing, root_uuid: bytes) -> bool:
        """Whether the object that carries the label is the one it was written on."""
        mine = self.backing
        return (self.root_uuid, mine.st_ino, mine.btime_ns) == (root_uuid, backing.st_ino, backing.btime_ns)


def read(driver: Driver, directory: int, name: bytes) -> Label | None:
    """The label of the object at `name`; None where there is none of ours, or no way to know."""
    try:
        return decode(driver.getxattr(directory, name, IDENTITY_XATTR))
    except OSError:
        return None


def write(driver: Driver, directory: int, name: bytes, label: Label) -> bool:
    """Put a label on the object at `name`; False where it cannot carry one. It changes the object's ctime."""
    return _carried(lambda value: driver.setxattr(directory, name, IDENTITY_XATTR, value, 0), label)


def write_fd(fd: int, label: Label) -> bool:
    """The same for a file that is open, at a quarter of the cost."""
    return _carried(lambda value: os.setxattr(fd, IDENTITY_XATTR, value), label)


def _carried(setxattr: Callable[[bytes], None], label: Label) -> bool:
    try:
        setxattr(encode(label))
    except OSError as error:
        if error.errno in _CANNOT_CARRY:
            return False
        raise
    return True


def encode(label: Label) -> bytes:
    id, inode, root_uuid, backing = label
    return _FORMAT.pack(_VERSION, id, inode, root_uuid, backing.st_ino, backing.btime_ns)


def decode(value: bytes) -> Label | None:
    """The label in an xattr's value; None for what we cannot have written, or a later version has."""
    if len(value) != _FORMAT.size or value[0] != _VERSION:
        return None
    _, id, inode, root_uuid, st_ino, btime_ns = _FORMAT.unpack(value)
    return Label(id, InodeNo(inode), root_uuid, Backing(RootNo(0), st_ino, btime_ns))
