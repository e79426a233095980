"""Which files are known not to hold what they should: read again (`verifying`), and not written or mended since."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from fusestore.model import Outcome

if TYPE_CHECKING:
    from fusestore.model import Inode, Verified
    from fusestore.service.store import Store

BROKEN: Final = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})  # what a disk answers that has lost the bytes


def unsound(store: Store, inode: Inode) -> Verified | None:
    """What was found wrong with the present content of a file; None when nothing was."""
    verified = store.index.verified(inode.number)
    if verified is None or verified.outcome is Outcome.SOUND or verified.version != inode.version:
        return None
    return verified


def all_unsound(store: Store) -> list[tuple[Inode, Verified]]:
    """Every file whose present content is known not to be sound."""
    inodes = (store.index.inode(number) for number in store.index.unsound())
    found = ((inode, unsound(store, inode)) for inode in inodes if inode is not None)
    return [(inode, verified) for inode, verified in found if verified is not None]
