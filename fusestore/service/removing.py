"""Names that go: unlink, rmdir, and what a name takes with it when something replaces it."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from fusestore.core.intents import Remove
from fusestore.core.namespace import check_removable
from fusestore.core.placement import Parted, without
from fusestore.errors import IsADirectory, NotADirectory, NotEmpty, NotFound, RootOffline
from fusestore.model import Operation
from fusestore.service import draining, ghosts, keeping, moving, refreshing, reserving, trash
from fusestore.service.deciding import Decided
from fusestore.service.discarding import carry_out, destroy, destroy_directory, discard, put_away
from fusestore.service.looking import find
from fusestore.service.parents import touch_parent
from fusestore.service.replicas import give_up
from fusestore.service.syncing import owe

if TYPE_CHECKING:
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, Owner, Spot
    from fusestore.service.store import Store


def unlink(store: Store, parent: InodeNo, name: bytes, owner: Owner) -> None:
    """Remove a name that is not a directory's.

    Raises:
        NotFound, IsADirectory, Protected, RootReadOnly; OSError as the disk says.
    """
    inode = check_unlink(store, parent, name)
    parted = spots_of_name(store, inode, parent, name)
    going = store.disk_spots(inode, parted.going)
    trashed = trash.intended(store, inode, going, trash.REMOVED) if not parted.staying else None
    intent = Remove(inode.number, parent, name, going, inode.backing, trashed)
    if not intent.spots:
        settle_remove(store, intent, None, parted=parted, owner=owner)
        return
    own = store.placement.spot_in(store.home_root(parent).number, parent, name)
    with Decided(store, intent) as key:
        if trashed is not None:
            put_away(store, trashed, going)
        for spot in going:
            if spot != own:
                owe(store, store.roots[spot.root])
            if spot != own or trashed is not None:  # what the trash took is gone from there already
                destroy(store, spot, inode.number, inode.backing)
            else:
                _unlink(store, spot, inode.number)
    settle_remove(store, intent, key, parted=parted, owner=owner)


def check_unlink(store: Store, parent: InodeNo, name: bytes) -> Inode:
    """What `unlink` would remove, if nothing but the disk can be against it; raises as it does."""
    inode = _removable(store, parent, name)
    if inode.is_dir:
        raise IsADirectory(name)
    return inode


def _unlink(store: Store, spot: Spot, number: InodeNo) -> None:
    """Unlink what lies under the very name that is removed: `find` has looked at it wherever others may write."""
    try:
        at = store.places.at(spot, number)
        at.driver.unlink(at.directory, at.name)
    except (FileNotFoundError, NotFound):
        pass  # somebody else was faster


async def rmdir(store: Store, parent: InodeNo, name: bytes, owner: Owner) -> None:
    """Remove an empty directory. Its further places, while it is on its way, are destroyed once it is gone.

    Raises:
        NotFound, NotADirectory, NotEmpty, Protected, RootReadOnly; OSError as the disk says.
    """
    inode = await check_rmdir(store, parent, name)
    empty_directory(store, inode)
    if not all(_is_empty(store, inode.number, spot) for spot in store.index.skeletons(inode.number)):
        raise NotEmpty(name)
    spots = store.disk_spots(inode, store.placement.spots(inode.number))
    intent = Remove(inode.number, parent, name, spots, inode.backing)
    if not spots:
        settle_remove(store, intent, None, owner=owner)
        return
    store.places.forget(inode.number)  # closed before it goes: ext4 takes a clock tick (4 ms) to close it afterwards
    try:
        with Decided(store, intent) as key:
            destroy_directory(store, spots[0], inode.number, None)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise NotEmpty(name) from None
        raise
    settle_remove(store, intent, key, owner=owner)


async def check_rmdir(store: Store, parent: InodeNo, name: bytes) -> Inode:
    """What `rmdir` would remove, if nothing but the disks can be against it; raises as it does."""
    inode = _removable(store, parent, name)
    if not inode.is_dir:
        raise NotADirectory(name)
    await refreshing.refresh(store, inode.number)
    if store.index.dentry(parent, name) != inode.number:  # renamed or removed meanwhile
        raise NotFound(name)
    if store.index.has_dentries(inode.number):
        raise NotEmpty(name)
    return inode


def _removable(store: Store, parent: InodeNo, name: bytes) -> Inode:
    inode = find(store, parent, name)
    check_removable(inode.number, name, store.tops)
    reserving.check(store, inode.number, name)
    draining.namable(store, store.home_root(parent), inode)
    return inode


def empty_directory(store: Store, inode: Inode) -> None:
    """Send the ghosts out of a directory that is to go, on every root where it lies."""
    number = inode.number
    for spot in (*store.index.skeletons(number), *store.placement.spots(number)):
        ghosts.clear_directory(store, number, spot.root)


def _is_empty(store: Store, number: InodeNo, skeleton: Spot) -> bool:
    """Whether nobody else has put something into a further place of a directory whose ghosts are gone."""
    try:
        driver, directory = store.places.directory(number, skeleton.root)
        return next(driver.list(directory), None) is None
    except (FileNotFoundError, NotFound, RootOffline):
        return True  # on an id root, or away: what turns up in it later is left alone


def spots_of_name(store: Store, inode: Inode, parent: InodeNo, name: bytes) -> Parted:
    """The spots that go and those that stay when an inode loses this name."""
    spots = store.placement.spots(inode.number)
    last = len(store.index.parents(inode.number)) == 1
    return without(spots, store.placement.spot_in(store.home_root(parent).number, parent, name), last=last)


def settle_remove(
    store: Store, intent: Remove, key: int | None, *, parted: Parted | None = None, owner: Owner | None = None
) -> None:
    """Record that a name is gone, and the inode with its last one; `parted`: what `spots_of_name` says."""
    inode = store.inode(intent.inode)
    parted = parted or spots_of_name(store, inode, intent.parent, intent.name)
    batch = store.batch()
    if key is not None:
        batch.settle(key)
    if intent.trash is not None:
        trash.record(store, batch, intent.trash)
    begun = drop_name(store, batch, inode, intent.parent, intent.name, parted, owner=owner)
    touch_parent(store, batch, intent.parent, links=-int(inode.is_dir))
    discards = discard(store, batch, inode, tuple(store.index.skeletons(inode.number))) if inode.is_dir else []
    store.index.apply(batch)
    if begun:
        store.on_move()
    if inode.is_dir:
        store.directory_changed(inode.number)
        carry_out(store, discards)


def drop_name(
    store: Store,
    batch: Batch,
    inode: Inode,
    parent: InodeNo,
    name: bytes,
    parted: Parted,
    *,
    owner: Owner | None,
    replaced: bool = False,
) -> bool:
    """Add to a batch that `inode` loses a name, with which its spots part; its bytes are the caller's affair.

    Returns:
        whether what is left of it has to move, because only names on another root remain.
    """
    begun = False
    number = inode.number
    path = store.join(parent, name)
    going, staying = parted
    spots = (*going, *staying)  # none, when its disk object has vanished meanwhile
    names = [each for each in store.index.parents(number) if each != (parent, name)]
    row = store.index.placement(number)
    batch.unlink(parent, name, number)
    if names:
        batch.place(number, store.placement.row_for(staying, names), row)
        inode.nlink = max(inode.nlink - 1, 1)
        if not store.keeps_ctime(staying):
            inode.ctime_ns = time.time_ns()
        elif going:
            refresh_stamp(store, inode, staying)
        batch.touch_inode(inode)
        begun = moving.send_home(store, batch, inode, names, staying)
        if begun:
            keeping.consider(store, batch, inode, store.placement.home_of(names, lambda: staying))
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
        root=store.roots[spots[0].root].name if spots else "",
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
    """Add to a batch that an inode is gone from the index, and its replicas with it.

    What the kernel still holds lives on in memory.
    """
    discards = [each for root, _ in store.index.replicas(inode.number) for each in give_up(store, batch, inode, root)]
    if discards:
        batch.then(lambda: store.on_replaced(discards))
    batch.drop_inode(inode)
    batch.then(lambda: _outlive(store, inode))


def _outlive(store: Store, inode: Inode) -> None:
    store.digests.pop(inode.number, None)
    if store.held(inode.number):
        store.orphans[inode.number] = inode
