"""Directories that others have removed from a disk as empty, and that are not: what is in them lies elsewhere.

That is what is on its way there, or has given up its bytes on that disk, and the further names of files of other roots.
Such a directory is made again, so that all of it keeps its names and gets where it is going.
"""

from __future__ import annotations

import contextlib
import stat
from functools import partial
from typing import TYPE_CHECKING, Final

from fusestore.errors import RootOffline
from fusestore.model import Cause, Operation
from fusestore.roots import identity
from fusestore.service import walking
from fusestore.service.places import At, is_object

if TYPE_CHECKING:
    from fusestore.model import Inode, InodeNo
    from fusestore.service.store import Store

DETAIL: Final = "made again: others have removed it, and what is in it lies elsewhere"


def keep(store: Store, inode: Inode) -> bool:
    """Make a directory again that is gone from its disk, if the tree has something in it; whether it was.

    Where another directory has its name by now, that is taken for it; where something else has, it gets another name.

    Raises:
        RootOffline; OSError as the disk says.
    """
    if not inode.is_dir or not store.index.has_placements() or not _has_some(store, inode.number):
        return False
    number = inode.number
    at = store.places.at(store.placement.spots(number)[0], number)
    if _was_renamed(store, at, inode):
        return False  # and is known again where it is found
    for each in walking.below(store, number):
        if each.is_dir:
            store.places.forget(each.number)  # what is open of it is gone
    path = old_path = store.path(number) or b""
    batch = store.batch(grows=True)
    is_renamed = not _is_directory(at)
    if is_renamed:
        if store.index.placement(number) is not None:
            return False
        parent, name = store.index.parents(number)[0]
        at = At(at.driver, at.directory, name + b"~" + inode.id.hex()[-8:].encode())
        batch.unlink(parent, name, number)
        batch.link(parent, at.name, number)
        batch.then(partial(store.directory_changed, number))
        path = store.join(parent, at.name) or b""
    if not _is_made(at, inode):
        return False
    inode.backing = at.driver.backing(at.directory, at.name)
    identity.write(at.driver, at.directory, at.name, identity.Label(inode.id, number, at.driver.uuid, inode.backing))
    batch.put_inode(inode)
    store.event(
        batch,
        inode,
        Operation.MOVE if is_renamed else Operation.UPDATE,
        "renamed" if is_renamed else "attributes",
        path=path,
        root=at.driver.name,
        old_path=old_path if is_renamed else b"",
        cause=Cause.OUTSIDE,
        detail=DETAIL,
    )
    store.index.apply(batch)
    return True


def _was_renamed(store: Store, at: At, inode: Inode) -> bool:
    """Whether a directory has another name now, as far as one that is open, or its neighbours, can tell."""
    if inode.backing is None:
        return False
    if store.places.is_open(inode.number, at.driver):
        return at.driver.stat_dir(store.places.directory(inode.number, at.driver.number)[1]).st_nlink > 0
    for name in at.driver.list(at.directory):
        with contextlib.suppress(OSError):
            if is_object(At(at.driver, at.directory, name), inode.backing):
                return True
    return False


def _is_directory(at: At) -> bool:
    """Whether a name is a directory, or free to become one."""
    try:
        return stat.S_ISDIR(at.driver.stat(at.directory, at.name).st_mode)
    except FileNotFoundError:
        return True


def _is_made(at: At, inode: Inode) -> bool:
    try:
        at.driver.mkdir(at.directory, at.name, stat.S_IMODE(inode.mode), inode.uid, inode.gid)
    except FileExistsError:
        return _is_directory(at)
    except FileNotFoundError:  # what it was in is gone, too
        return False
    return True


def _has_some(store: Store, directory: InodeNo) -> bool:
    """Whether anything below a directory has its bytes elsewhere, as far as anybody can tell."""
    return any(_lies_elsewhere(store, each) for each in walking.below(store, directory) if each.number != directory)


def _lies_elsewhere(store: Store, inode: Inode) -> bool:
    spots, backing = store.index.placement(inode.number) or (), inode.backing
    try:
        return any(
            spot.by_id or backing is None or store.places.still_has(spot, inode.number, backing) for spot in spots
        )
    except RootOffline:
        return True
