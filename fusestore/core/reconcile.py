"""What an observation of the disk means for an inode that the index knows.

Pure: (record, observation) -> verdict. The caller observes, this decides, the caller acts. An object is known by
inode number, type and birth time; its content by size, mtime and ctime. rsync and tar restore mtimes, so an mtime
that is equal proves nothing when the ctime is not.
"""

from __future__ import annotations

import stat
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from fusestore.model import Inode


class Verdict(Enum):
    SAME = "same"
    ATTRIBUTES = "attributes"  # owner, mode or link count
    CONTENT = "content"  # size or mtime: somebody wrote
    SUSPECT = "suspect"  # only the ctime: perhaps an xattr, perhaps content with its mtime put back; the bytes decide
    REPLACED = "replaced"  # another object under the same name


def compare(inode: Inode, seen: os.stat_result, btime_ns: int, *, links: bool) -> Verdict:
    """Judge an object whose `st_ctime_ns` or `st_ino` is not the recorded one.

    Args:
        inode: the record.
        seen: lstat of the name where the record says the object lies.
        btime_ns: its birth time, 0 when the file system has none.
        links: the disk's link count is the inode's; not while some names have no disk object of their own.
    """
    backing = inode.backing
    if backing is not None and (backing.st_ino != seen.st_ino or backing.btime_ns != btime_ns):
        return Verdict.REPLACED
    if stat.S_IFMT(inode.mode) != stat.S_IFMT(seen.st_mode):
        return Verdict.REPLACED
    if inode.is_dir:
        changed = (inode.mode, inode.uid, inode.gid) != (seen.st_mode, seen.st_uid, seen.st_gid)
        return Verdict.ATTRIBUTES if changed else Verdict.SAME
    if inode.ctime_ns == seen.st_ctime_ns:
        return Verdict.SAME
    if (inode.size, inode.mtime_ns) != (seen.st_size, seen.st_mtime_ns) and inode.is_regular:
        return Verdict.CONTENT
    if (inode.mode, inode.uid, inode.gid) != (seen.st_mode, seen.st_uid, seen.st_gid):
        return Verdict.ATTRIBUTES
    if links and inode.nlink != seen.st_nlink:
        return Verdict.ATTRIBUTES
    return Verdict.SUSPECT
