"""From an inode as it was seen to what the kernel is told, and how long the kernel may believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyfuse3

from fusestore.model import Outside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.core.ports import Driver
    from fusestore.service.looking import Seen

# Nobody else changes these, and our own changes pass through the kernel or invalidate what it knows.
LONG_S: Final = 86_400.0
# Where others write, a change must be seen within a second (decision 0007).
SHORT_S: Final = 1.0
BLOCK_BYTES: Final = 4096


class Answers:
    """What the kernel is told about inodes and names.

    Args:
        drivers: all roots. If others write on any of them, no name is believed for long: its directory may be moved
            there, and the kernel cannot be told to forget names (`notices`).
    """

    def __init__(self, drivers: Iterable[Driver]) -> None:
        shared = any(driver.outside is Outside.WRITERS for driver in drivers)
        self._name_s = SHORT_S if shared else LONG_S
        self.no_such_name = pyfuse3.EntryAttributes()
        self.no_such_name.st_ino = pyfuse3.InodeT(0)
        self.no_such_name.entry_timeout = self._name_s

    def entry(self, seen: Seen) -> pyfuse3.EntryAttributes:
        """The kernel's view of an inode."""
        inode, stat, driver = seen
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode.number
        entry.attr_timeout = _attributes_s(driver)
        entry.entry_timeout = min(entry.attr_timeout, self._name_s)
        entry.st_mode = inode.mode
        entry.st_nlink = inode.nlink
        entry.st_uid = inode.uid
        entry.st_gid = inode.gid
        entry.st_rdev = inode.rdev
        entry.st_size = inode.size
        entry.st_blksize = BLOCK_BYTES
        entry.st_blocks = stat.st_blocks if stat is not None else -(-inode.size // 512)
        entry.st_atime_ns = inode.atime_ns
        entry.st_mtime_ns = inode.mtime_ns
        entry.st_ctime_ns = inode.ctime_ns
        return entry


def _attributes_s(driver: Driver | None) -> float:
    if driver is None:
        return LONG_S
    return SHORT_S if driver.outside is Outside.WRITERS or not driver.online else LONG_S
