"""Names that go: unlink, rmdir, and what a name takes with it when something replaces it."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from fusestore.core.intents import Remove
from fusestore.core.namespace import check_removable
from fusestore.core.placement import without
from fusestore.errors import IsADirectory, NotADirectory, NotEmpty, NotFound
from fusestore.model import Operation
from fusestore.service import adopting, ghosts, moving
from fusestore.service.creating import touch_parent
from fusestore.service.deciding import Decided
from fusestore.service.discarding import destroy, destroy_directory
from fusestore.service.looking import lookup

if TYPE_CHECKING:
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, Owner, Spot
    from fusestore.service.store import Store


def unlink(store: Store, parent: InodeNo, name: bytes, owner: Owner) -> None:
    """Remove a name that is not a directory's.

    Raises:
        NotFound, IsADirectory, Protected, RootReadOnly; OSError as the disk says.
    """
    inode = _removable(store, parent, name)
    if inode.is_dir:
        raise IsADirectory(name)
    going, _ = spots_of_name(store, inode, parent, name)
    intent = Remove(inode.number, parent, name, store.disk_spots(inode, going), inode.backing)
    if not intent.spots:
        settle_remove(store, intent, None, owner=owner)
        return
    with Decided(store, intent) as key:
        for spot in intent.spots:
            destroy(store, spot, inode.number, inode.backing)
    settle_remove(store, intent, key, owner=owner)


async def rmdir(store: Store, parent: InodeNo, name: bytes, owner: Owner) -> None:
    """Remove an empty directory, from every root where it lies.

    Raises:
        NotFound, NotADirectory, NotEmpty, Protected, RootReadOnly; OSError as the disk says.
    """
    inode = _removable(store, parent, name)
    if not inode.is_dir:
        raise NotADirectory(name)
    await adopting.refresh(store, inode.number)
    if store.index.dentry(parent, name) != inode.number:  # renamed or removed meanwhile
        raise NotFound(name)
    if store.index.has_dentries(inode.number):
        raise NotEmpty(name)
    spots = empty_directory(store, inode)
    intent = Remove(inode.number, parent, name, spots, inode.backing)
    if not spots:
        settle_remove(store, intent, None, owner=owner)
        return
    try:
        with Decided(store, intent) as key:
            for spot in spots:
                destroy_directory(store, spot, inode.number)
    except OSError as error:
        store.directory_changed(inode.number)  # on some roots it may be gone already
        if error.errno == errno.ENOTEMPTY:
            raise NotEmpty(name) from None
        raise
    settle_remove(store, intent, key, owner=owner)


def _removable(store: Store, parent: InodeNo, name: bytes) -> Inode:
    inode = lookup(store, parent, name).inode
    check_removable(inode.number, name, store.tops)
    store.writable(store.home_root(parent))
    return inode


def empty_directory(store: Store, inode: Inode) -> tuple[Spot, ...]:
    """Send the ghosts out of a directory that is to go; returns its spots on all roots, skeletons first."""
    number = inode.number
    spots = [*store.index.skeletons(number), *store.placement.spots(number)]
    for spot in spots:
        ghosts.clear_directory(store, number, spot.root)
    return store.disk_spots(inode, tuple(spots))


def spots_of_name(
    store: Store, inode: Inode, parent: InodeNo, name: bytes
) -> tuple[tuple[Spot, ...], tuple[Spot, ...]]:
    """The spots that go and those that stay when an inode loses this name."""
    spots = store.placement.spots(inode.number)
    home = store.placement.home(parent)
    assert home is not None
    last = len(store.index.parents(inode.number)) == 1
    return without(spots, store.placement.spot_in(home, parent, name), last=last)


def settle_remove(store: Store, intent: Remove, key: int | None, *, owner: Owner | None = None) -> None:
    """Record that a name is gone, and the inode with its last one."""
    inode = store.inode(intent.inode)
    batch = store.batch()
    if key is not None:
        batch.settle(key)
    begun = drop_name(store, batch, inode, intent.parent, intent.name, owner=owner)
    touch_parent(store, batch, intent.parent, links=-int(inode.is_dir))
    store.index.apply(batch)
    if begun:
        store.on_move()
    if inode.is_dir:
        store.directory_changed(inode.number)


def drop_name(
    store: Store,
    batch: Batch,
    inode: Inode,
    parent: InodeNo,
    name: bytes,
    *,
    owner: Owner | None,
    replaced: bool = False,
) -> bool:
    """Add to a batch that `inode` loses a name; its bytes are the caller's affair.

    Returns:
        whether what is left of it has to move, because only names on another root remain.
    """
    begun = False
    number = inode.number
    path = store.join(parent, name)
    root = store.root_of(number)
    going, staying = spots_of_name(store, inode, parent, name)
    names = [each for each in store.index.parents(number) if each != (parent, name)]
    row = store.index.placement(number)
    batch.unlink(parent, name, number)
    if names:
        batch.place(number, store.placement.row_for(staying, names), row)
        inode.nlink = max(inode.nlink - 1, 1)
        if not store.disk_spots(inode, staying):
            inode.ctime_ns = time.time_ns()
        elif going:
            refresh_stamp(store, inode, staying)
        batch.put_inode(inode)
        begun = moving.send_home(store, batch, inode, names, staying)
    else:
        inode.nlink = 0
        moving.overtake(store, batch, number, reason="replaced" if replaced else "removed")
        drop(store, batch, inode)
    store.event(
        batch,
        inode,
        Operation.REMOVE,
        "replaced" if replaced else "removed",
        path=path,
        root=root.name if root else "",
        owner=owner,
    )
    store.journal(batch, inode, "replace" if replaced else "remove", old=path or b"", owner=owner)
    return begun


def refresh_stamp(store: Store, inode: Inode, spots: tuple[Spot, ...]) -> None:
    """Take over the ctime that our own change of a link count has moved, lest it be taken for an outside change."""
    for spot in spots[:1]:
        at = store.places.at(spot, inode.number)
        try:
            inode.ctime_ns = at.driver.stat(at.directory, at.name).st_ctime_ns
        except FileNotFoundError:
            pass


def drop(store: Store, batch: Batch, inode: Inode) -> None:
    """Add to a batch that an inode is gone from the index; what the kernel still holds lives on in memory."""
    number = inode.number
    row = store.index.placement(number)
    if row is not None:
        batch.place(number, None, row)
    for skeleton in store.index.skeletons(number):
        batch.drop_skeleton(number, skeleton)
    batch.written(number)
    batch.drop_inode(inode)
    store.digests.pop(number, None)
    if store.held(number):
        store.orphans[number] = inode
