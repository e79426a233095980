"""Cancelling a move: its object gets its old name back.

That is a rename like any other, in one batch; `moving.follow` sees that it takes a move back, whoever makes it, `mv`
or an operator. Whatever had arrived goes home again with a new move. The kernel makes the rename, because it believes
for long what it knows of names, and cannot be told to forget them (decision 0007).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from fusestore.core.moves import MoveEvent, may
from fusestore.errors import AlreadyExists, MoveRefused, NotFound
from fusestore.model import MOUNT_ROOT
from fusestore.service import looking, renaming

if TYPE_CHECKING:
    from fusestore.model import InodeNo, Move, Owner
    from fusestore.service.store import Store

Name = tuple["InodeNo", bytes]

REASONS: Final = {
    errno.EEXIST: "there is something of that name",
    errno.ENOENT: "its names have just changed",
}


async def cancel(store: Store, move: Move, owner: Owner) -> None:
    """Give the object of a move its old name back.

    Raises:
        MoveRefused: the move is over, or the old name cannot be had; NoRoom: for what goes home again; RootOffline,
        RootReadOnly: the root of the old name. Nothing was changed.
    """
    if not may(move, MoveEvent.CANCELLED):
        raise MoveRefused(f"move {move.number} is {move.state}, and cannot be cancelled")
    here, there = _present_name(store, move), _old_name(store, move)
    if here == there:
        raise _refused(move, "it has that name")
    for parent, _ in (here, there):
        store.writable(store.home_root(parent))
    try:
        await _rename(store, here, there, move.old_path, owner)
    except OSError as error:
        raise _refused(move, REASONS.get(error.errno or 0, error.strerror or str(error))) from None
    except AlreadyExists:
        raise _refused(move, REASONS[errno.EEXIST]) from None


async def _rename(store: Store, here: Name, there: Name, old_path: bytes, owner: Owner) -> None:
    path = store.join(*here)
    if store.errand is None or path is None:
        await renaming.rename(store, *here, *there, renaming.NOREPLACE, owner)
    else:
        await store.errand("rename", owner, None, old=path, new=old_path)


def _present_name(store: Store, move: Move) -> Name:
    """The name of the object that the move has given it, or the only one that it has."""
    names = store.index.parents(move.inode)
    if len(names) == 1:
        return names[0]
    for name in names:
        if store.join(*name) == move.path:
            return name
    raise _refused(move, "the object has several names, and none of them is the one that it was moved to")


def _old_name(store: Store, move: Move) -> Name:
    """The name that the object had before, in a directory that is still there."""
    *above, name = move.old_path.split(b"/")
    number = MOUNT_ROOT
    try:
        for part in above:
            number = looking.lookup(store, number, part).inode.number
    except (NotFound, FileNotFoundError):
        raise _refused(move, "the directory it was in is gone") from None
    return number, name


def _refused(move: Move, reason: str) -> MoveRefused:
    return MoveRefused(f"move {move.number} cannot go back to {os.fsdecode(move.old_path)!r}: {reason}")
