"""Renames: names change at once, always; whether a disk object moves with them depends on where it is.

    bytes on the target's own root, which is a tree   ──► rename(2), as a recorded effect
    bytes on another root of the same file system     ──► rename(2) too, and the move is over
    an id root's own names                            ──► the index only
    anything else                                     ──► the index only: the object becomes a ghost, and a move begins

The kernel holds its rename mutex and both directories' locks while this runs, so nothing here copies (decision 0005).
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.core.intents import Rename
from fusestore.core.namespace import check_flags, check_name, check_parent, check_removable, check_replace
from fusestore.core.placement import by_id
from fusestore.errors import Gone, InvalidRequest, NotEmpty, NotFound
from fusestore.model import Backing, Inode, InodeNo, Layout, Operation, Outside, Spot
from fusestore.roots import identity
from fusestore.service import adopting, draining, ghosts, keeping, moving, refreshing, reserving, room
from fusestore.service.deciding import Decided
from fusestore.service.discarding import discard
from fusestore.service.looking import fill, find, is_complete
from fusestore.service.parents import prepare, touch_on_disk, touch_parent
from fusestore.service.removing import drop_name, empty_directory, spots_of_name
from fusestore.service.replicas import give_way
from fusestore.service.syncing import keep, owe
from fusestore.service.writing import pin

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import Owner
    from fusestore.service.places import At
    from fusestore.service.store import Store

NOREPLACE: Final = 1  # renameat2(2)
EXCHANGE: Final = 2


class Request(NamedTuple):
    """A rename that the rules allow."""

    inode: Inode
    old_parent: InodeNo
    old_name: bytes
    old_home: Driver
    parent: InodeNo
    name: bytes
    home: Driver
    replaced: Inode | None
    owner: Owner | None


async def rename(
    store: Store, old_parent: InodeNo, old_name: bytes, parent: InodeNo, name: bytes, flags: int, owner: Owner
) -> None:
    """Give an object another name, on the same root or on another.

    Raises:
        NotFound, AlreadyExists, NotADirectory, IsADirectory, NotEmpty, Protected, NameTooLong, BadName,
        InvalidRequest (flags; an exchange between roots), NoRoom, RootReadOnly; OSError as the disk says.
    """
    check_flags(flags, NOREPLACE | EXCHANGE)
    check_name(name)
    target = find_target(store, parent, name)
    if target is not None and target.is_dir and not flags & EXCHANGE:
        await refreshing.refresh(store, target.number)  # what it holds on its disk decides whether it can be replaced
        target = find_target(store, parent, name)
    request = check_rename(store, old_parent, old_name, parent, name, target, flags, owner)
    if target is not None and target.number == request.inode.number:
        return  # two names of one file: rename(2) does nothing, and there is nothing to swap
    if flags & EXCHANGE:
        _exchange(store, request)
        return
    pinned = target is not None and pin(store, target)
    try:
        source = weigh(store, request)
        if source is not None:
            _on_disk(store, request, source)
        else:
            _in_index(store, request)
    except BaseException:
        if target is not None and pinned:
            store.files.unpin(target.number)
        raise


def check_rename(
    store: Store,
    old_parent: InodeNo,
    old_name: bytes,
    parent: InodeNo,
    name: bytes,
    target: Inode | None,
    flags: int,
    owner: Owner | None,
) -> Request:
    """The rename that the rules allow; raises as `rename` does, but for want of room and what a disk says.

    Args:
        target: what has the new name, as `find_target` says.
    """
    inode = find(store, old_parent, old_name)
    check_removable(inode.number, old_name, store.tops)
    check_parent(store.index.inode(parent), name, store.tops)
    if target is not None:
        check_removable(target.number, name, store.tops)
    old_home = draining.namable(store, store.home_root(old_parent), inode)
    home = draining.namable(store, store.home_root(parent), inode)
    if target is None and flags & EXCHANGE:
        raise NotFound(name)
    if target is not None and not flags & EXCHANGE:
        check_replace(inode, target, name, allowed=not flags & NOREPLACE)
        if target.number != inode.number:
            reserving.check(store, target.number, name)
            if target.is_dir and store.index.has_dentries(target.number):
                raise NotEmpty(name)
    return Request(inode, old_parent, old_name, old_home, parent, name, home, target, owner)


def weigh(store: Store, request: Request) -> Spot | None:
    """The spot that rename(2) would take to the new name; None for a rename in the index alone.

    Raises:
        NoRoom: the bytes would have to follow, and there is no room for them.
    """
    source = _disk_source(store, request)
    if source is not None and _renames_on_disk(store, request, source):
        return source
    if store.placement.spots(request.inode.number)[0].root != request.home.number:
        room.check(store, request.inode, request.home)
    return None


def find_target(store: Store, parent: InodeNo, name: bytes) -> Inode | None:
    """What a rename to this name would replace."""
    if store.index.dentry(parent, name) is None and is_complete(store, parent):
        return None
    try:
        return find(store, parent, name)
    except Gone:
        raise  # another has taken its place; the kernel looks the name up again
    except NotFound:
        return None


def _disk_source(store: Store, request: Request) -> Spot | None:
    """The physical name that belongs to the old name; None if there is none."""
    number = request.inode.number
    spots = store.disk_spots(request.inode, store.placement.spots(number))
    if len(store.index.parents(number)) == 1:
        return spots[0] if len(spots) == 1 else None
    spot = store.placement.spot_in(request.old_home.number, request.old_parent, request.old_name)
    return spot if spot in spots and not spot.by_id else None


def _renames_on_disk(store: Store, request: Request, source: Spot) -> bool:
    """Whether rename(2) can bring the object at `source` to its new name."""
    inode, root, start = request.inode, request.home, store.roots[source.root]
    if not (start.online and root.online) or start.device != root.device:
        return False
    if start is root:
        return root.layout is Layout.TREE
    if root.number in store.drains:
        return False
    if len(store.index.parents(inode.number)) > 1:
        return False
    if inode.is_regular:
        return True
    if root.layout is not Layout.TREE or start.layout is not Layout.TREE:
        return False
    # A directory takes everything in it along; rows that place something on its root, or replicas on the other, could
    # be among that.
    index = store.index
    return not inode.is_dir or not (
        index.any_occupant(start.number) or index.any_skeleton(start.number) or index.has_replicas()
    )


def _on_disk(store: Store, request: Request, source: Spot) -> None:
    """Rename what lies at `source` with rename(2)."""
    inode, replaced, root = request.inode, request.replaced, request.home
    spot = store.placement.spot_in(root.number, request.parent, request.name)
    changes = store.index.changes
    if replaced is not None and replaced.is_dir:
        empty_directory(store, replaced)
        store.places.forget(replaced.number)
    in_place = False
    if replaced is not None and spot in store.placement.spots(replaced.number) and not spot.by_id:
        going, _ = spots_of_name(store, replaced, request.parent, request.name)
        in_place = spot in going
        if not in_place:  # its last disk object, and it has a name on another root: the bytes stay
            ghosts.relocate(store, replaced.number, spot, by_id(root.number))
    if in_place or source == spot:  # a ghost that gets its old name back has no way to make for itself
        at = store.places.at(spot, inode.number)
    else:
        at = prepare(store, spot, inode.number, inode.id)
    if store.index.changes != changes:  # what made way may have been the object itself, or what it replaces
        inode, replaced = store.inode(inode.number), store.inode(replaced.number) if replaced is not None else None
        request = request._replace(inode=inode, replaced=replaced)
        moved = _disk_source(store, request)
        assert moved is not None
        source = moved
    start = store.places.at(source, inode.number)
    intent = Rename(
        inode=inode.number,
        old_parent=request.old_parent,
        old_name=request.old_name,
        parent=request.parent,
        name=request.name,
        source=source,
        spot=spot,
        backing=_backing(inode, source, start),
        replaced=replaced.number if replaced is not None else InodeNo(0),
    )
    try:
        with Decided(store, intent, grows=True) as key:
            if source != spot:
                start.driver.rename(start.directory, start.name, at.directory, at.name, replace=in_place)
    except OSError as error:
        if error.errno == errno.EEXIST and not in_place:
            adopting.adopt_name(store, request.parent, at)  # somebody else put it there: now it is known
        raise
    _settle_on_disk(store, request, intent, at, key)


def _backing(inode: Inode, source: Spot, at: At) -> Backing:
    """The object that is renamed; the record knows it already, unless it was registered on another root."""
    known = inode.backing
    return known if known is not None and known.root == source.root else at.driver.backing(at.directory, at.name)


def settle_rename(store: Store, intent: Rename, key: int) -> None:
    """Record a rename, or exchange, that was done on a disk by a run which did not come to record it."""
    inode = store.inode(intent.inode)
    replaced = store.inode(intent.replaced) if intent.replaced else None
    old_parent, parent = intent.old_parent, intent.parent
    old_home, home = store.home_root(old_parent), store.home_root(parent)
    request = Request(inode, old_parent, intent.old_name, old_home, parent, intent.name, home, replaced, None)
    if intent.exchange:
        _settle_exchange(store, request, key)
    else:
        _settle_on_disk(store, request, intent, store.places.at(intent.spot, inode.number), key)


def _settle_on_disk(store: Store, request: Request, intent: Rename, at: At, key: int) -> None:
    """Record a rename whose disk object is at `at` now."""
    inode, root = request.inode, at.driver
    spots = tuple(intent.spot if spot == intent.source else spot for spot in store.placement.spots(inode.number))
    old_root = store.roots[intent.source.root]
    inode.backing = Backing(root.number, intent.backing.st_ino, intent.backing.btime_ns)  # rename(2) keeps the object
    if old_root is not root and (inode.is_dir or inode.is_regular):
        identity.write(root, at.directory, at.name, identity.Label(inode.id, inode.number, root.uuid, inode.backing))
    # rename(2) moves the ctime; a record that lags behind would look like an outside change.
    fill(inode, root.stat(at.directory, at.name), links=False)
    if old_root is not root and inode.is_dir:
        store.places.close()  # every directory below has changed its root
    _settle(store, request, spots, key=key, intent=intent)
    for opened in store.files.on(old_root) if old_root is not root else ():
        if not opened.replica and store.root_of(opened.number) is root:
            opened.driver = root
    if old_root is not root and root.outside is Outside.WRITERS:
        for number in store.lookups if inode.is_dir else (inode.number,):
            store.on_stale(number)  # the kernel was told that nobody else writes what is in it


def _in_index(store: Store, request: Request) -> None:
    """Rename in the index alone: within an id root, or across roots, where a move has to follow."""
    if request.replaced is not None and request.replaced.is_dir:
        empty_directory(store, request.replaced)
    _settle(store, request, store.placement.spots(request.inode.number), key=None)
    for directory in {request.old_parent, request.parent}:
        touch_on_disk(store, directory)


def _settle(
    store: Store, request: Request, spots: tuple[Spot, ...], *, key: int | None, intent: Rename | None = None
) -> None:
    """One batch: the names, the placement, what was replaced, the move, the events.

    Args:
        spots: where the object is now.
        key, intent: if a disk object was renamed.
    """
    inode, old_parent, old_name, old_home, parent, name, home, replaced, owner = request
    number = inode.number
    old_path = store.join(old_parent, old_name)
    new_path = store.join(parent, name)
    batch = store.batch(grows=key is None)  # what a disk has done already has to be recorded
    if key is not None and intent is not None:
        undone = store.placement.spot_in(intent.spot.root, old_parent, old_name)
        if intent.source == undone and not inode.is_dir:  # found again by listing the two directories
            batch.settle(key)
        else:
            keep(store, batch, key, intent, home)
    discards = []
    sent = False
    if replaced is not None:
        parted = spots_of_name(store, replaced, parent, name)
        going = parted.going
        if replaced.is_dir:
            going = (*going, *store.index.skeletons(replaced.number))
        # rename(2) has put the new object where the old one was; in the id area each has a place of its own.
        left = tuple(spot for spot in going if spot.by_id or spot not in spots)
        discards = discard(store, batch, replaced, left)
        sent = drop_name(store, batch, replaced, parent, name, parted, owner=owner, replaced=True)
    names = [each for each in store.index.parents(number) if each != (old_parent, old_name)]
    names.append((parent, name))
    batch.unlink(old_parent, old_name, number)
    batch.link(parent, name, number)
    batch.place(number, store.placement.row_for(spots, names), store.index.placement(number))
    give_way(store, batch, inode, {spot.root for spot in spots})
    if home is not old_home:
        keeping.consider(store, batch, inode, home.number)
    if key is None and not store.keeps_ctime(spots):
        inode.ctime_ns = time.time_ns()
    batch.put_inode(inode)
    is_dir = int(inode.is_dir)
    if old_parent == parent:
        touch_parent(store, batch, parent, links=-int(replaced is not None and replaced.is_dir))
    else:
        touch_parent(store, batch, old_parent, links=-is_dir)
        touch_parent(store, batch, parent, links=is_dir - int(replaced is not None and replaced.is_dir))
    store.event(
        batch,
        inode,
        Operation.MOVE,
        "renamed",
        path=new_path,
        root=home.name,
        old_path=old_path or b"",
        old_root=old_home.name,
        owner=owner,
    )
    began = moving.follow(store, batch, inode, names, spots, old_home, home, old_path or b"", new_path or b"", owner)
    store.index.apply(batch)
    if inode.is_dir:
        store.directory_changed()
    if replaced is not None and replaced.is_dir:
        store.directory_changed(replaced.number)
    if key is None and spots and spots[0].root != home.number:
        owe(store, store.roots[spots[0].root])
    if discards:
        store.on_replaced(discards)
    if began or sent:
        store.on_move()  # after the reply is on its way: this only wakes the mover


def _exchange(store: Store, request: Request) -> None:
    """Swap two names on one root.

    Raises:
        InvalidRequest: they are not both at home on the same root.
    """
    inode, root, other = request.inode, request.home, request.replaced
    assert other is not None
    source = store.placement.spot_in(root.number, request.old_parent, request.old_name)
    target = store.placement.spot_in(root.number, request.parent, request.name)
    settled = all(_is_at_rest(store, each) for each in (inode, other))
    there = source in store.placement.spots(inode.number) and target in store.placement.spots(other.number)
    if request.old_home is not root or not settled or not there:
        raise InvalidRequest("only two objects at rest on one root can be exchanged")
    key = None
    if root.layout is Layout.TREE:
        start, end = store.places.at(source, inode.number), store.places.at(target, other.number)
        backing = root.backing(start.directory, start.name)
        intent = Rename(
            inode.number,
            request.old_parent,
            request.old_name,
            request.parent,
            request.name,
            source,
            target,
            backing,
            other.number,
            exchange=True,
        )
        with Decided(store, intent) as key:
            root.exchange(start.directory, start.name, end.directory, end.name)
    _settle_exchange(store, request, key)


def _is_at_rest(store: Store, inode: Inode) -> bool:
    """Whether an object, and all that may be in it, is where its name says."""
    number = inode.number
    return store.placement.is_home(number) and not (inode.is_dir and moving.is_scattered(store, number))


def _settle_exchange(store: Store, request: Request, key: int | None) -> None:
    """Record that two names have been swapped."""
    inode, old_parent, old_name, _, parent, name, root, other, owner = request
    assert other is not None
    batch = store.batch()
    if key is not None:
        batch.settle(key)
    batch.unlink(old_parent, old_name, inode.number)
    batch.unlink(parent, name, other.number)
    batch.link(parent, name, inode.number)
    batch.link(old_parent, old_name, other.number)
    for each, here, there in (
        (inode, (old_parent, old_name), (parent, name)),
        (other, (parent, name), (old_parent, old_name)),
    ):
        left, taken = store.placement.spot_in(root.number, *here), store.placement.spot_in(root.number, *there)
        spots = tuple(taken if spot == left else spot for spot in store.placement.spots(each.number))
        names = [there if named == here else named for named in store.index.parents(each.number)]
        batch.place(each.number, store.placement.row_for(spots, names), store.index.placement(each.number))
        if root.layout is Layout.TREE:
            at = store.places.at(taken, each.number)
            fill(each, at.driver.stat(at.directory, at.name), links=False)
        else:
            each.ctime_ns = time.time_ns()
        batch.put_inode(each)
        paths = store.join(*here) or b"", store.join(*there) or b""
        store.event(
            batch,
            each,
            Operation.MOVE,
            "renamed",
            path=paths[1],
            old_path=paths[0],
            root=root.name,
            old_root=root.name,
            owner=owner,
        )
        store.journal(batch, each, "rename", old=paths[0], new=paths[1], owner=owner)
    shift = int(other.is_dir) - int(inode.is_dir) if old_parent != parent else 0
    touch_parent(store, batch, old_parent, links=shift)
    if old_parent != parent:
        touch_parent(store, batch, parent, links=-shift)
    store.index.apply(batch)
    if inode.is_dir or other.is_dir:
        store.directory_changed()
