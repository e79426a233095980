"""What a user may do with an object by its mode, owner and group, as the kernel decides it for the mount.

For what the daemon is asked by socket and answers itself (path_resolution(7), inode_permission in fs/namei.c). There
are no ACLs in the mount, so the mode is all there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from fusestore.model import Inode

READ: Final = 4
WRITE: Final = 2
SEARCH: Final = 1  # of a directory: to get by it to what is in it


class Asker(NamedTuple):
    """On whose behalf something is looked at or done: the user of a peer, and all its groups, the primary one first."""

    uid: int
    gids: tuple[int, ...]


def may(asker: Asker | None, inode: Inode, wanted: int) -> bool:
    """Whether an asker has all the rights `wanted` (READ, WRITE and SEARCH, added up); None and root have every one.

    The first of owner, group and others that fits decides alone: an owner who has not got a right does not have it as
    one of the others.
    """
    if asker is None or asker.uid == 0:
        return True
    if asker.uid == inode.uid:
        granted = inode.mode >> 6
    elif inode.gid in asker.gids:
        granted = inode.mode >> 3
    else:
        granted = inode.mode
    return not wanted & ~granted
