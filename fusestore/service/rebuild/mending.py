"""From what manifests said and disks showed to an index whose invariants hold.

What no object was found for is dropped, unless its disk did not let us look. What was found and has no name is named by
its id, at the top of its root. What is not at home gets a move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fusestore.errors import FusestoreError
from fusestore.index import schema
from fusestore.index.schema import TAG, read_u64, u64
from fusestore.model import FIRST_INODE, MOUNT_ROOT, UPLOADS, InodeNo, Layout, ReplicaState, RootNo
from fusestore.service import moving
from fusestore.service.looking import fill
from fusestore.service.rebuild import leftovers
from fusestore.service.rebuild.identifying import Found, Numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.index.batch import Batch
    from fusestore.model import Inode, Spot
    from fusestore.service.rebuild.tally import Tally
    from fusestore.service.store import Store

CHUNK: Final = 500


def mend(store: Store, found: Found, tally: Tally) -> None:
    """Make the index agree with what was found."""
    _settle_places(store, found)
    _settle_skeletons(store, found)
    occupy(store)
    _settle_replicas(store, found, tally)
    _drop_missing(store, found, tally)
    _name_nameless(store, found, tally)
    _count_links(store)
    leftovers.settle(store, found, tally)
    _begin_moves(store, found, tally)


def occupy(store: Store) -> None:
    """Have every spot of a placement or skeleton row lead to its inode, whatever came and went there."""
    index = store.index
    rows: dict[bytes, bytes | None] = {TAG[schema.OCCUPANTS] + key: None for key, _ in index.scan(schema.OCCUPANTS)}
    for key, value in index.scan(schema.PLACEMENTS):
        for spot in schema.PLACEMENT.unpack(value):
            if not spot.by_id:
                rows[TAG[schema.OCCUPANTS] + schema.spot_key(spot)] = key
    for key, value in index.scan(schema.SKELETONS):
        spot = schema.SPOT.unpack(value)
        if not spot.by_id:
            rows[TAG[schema.OCCUPANTS] + schema.spot_key(spot)] = u64(schema.read_place(key)[1])
    batch = store.batch()
    batch.rows |= rows
    index.apply(batch)


# -- places -----------------------------------------------------------------------------------------------------------


def _settle_places(store: Store, found: Found) -> None:
    """Have the rows say where objects were found; directories first, the upper ones before the lower."""
    index = store.index
    rows = [InodeNo(read_u64(key)) for key, _ in index.scan(schema.PLACEMENTS)]
    numbers = list(dict.fromkeys((*rows, *found.spots)))
    numbers.sort(key=lambda number: (not _is_dir(store, number), (store.path(number) or b"").count(b"/")))
    for number in numbers:
        inode, row = index.inode(number), index.placement(number)
        if inode is None:
            continue
        batch = store.batch()
        spots = tuple(found.spots.get(number, ()))
        if not spots and inode.backing is None and row is not None:
            spots = row  # in the index only
        if not spots and inode.is_dir:
            spots = _arrived(store, batch, inode, found)
        batch.place(number, store.placement.row_for(spots, index.parents(number)) if spots else None, row)
        index.apply(batch)
        store.directory_changed(number)


def _is_dir(store: Store, number: InodeNo) -> bool:
    inode = store.index.inode(number)
    return inode is not None and inode.is_dir


def _arrived(store: Store, batch: Batch, inode: Inode, found: Found) -> tuple[Spot, ...]:
    """Where a directory has arrived since, of which the old place is gone and the new one is there."""
    for spot in store.index.skeletons(inode.number):
        if (inode.number, spot) in found.skeletons:
            try:
                at = store.places.at(spot, inode.number)
                inode.backing = at.driver.backing(at.directory, at.name)
                fill(inode, at.driver.stat(at.directory, at.name), links=True)
            except (OSError, FusestoreError):
                continue
            batch.put_inode(inode)
            found.inodes.add(inode.number)
            return (spot,)
    return ()


def _settle_skeletons(store: Store, found: Found) -> None:
    index = store.index
    for key, value in list(index.scan(schema.SKELETONS)):
        number, spot = InodeNo(schema.read_place(key)[1]), schema.SPOT.unpack(value)
        there = store.layouts[spot.root] is Layout.ID or (number, spot) in found.skeletons
        if not there or spot in store.placement.spots(number):
            batch = store.batch()
            batch.drop_skeleton(number, spot)
            index.apply(batch)


def _settle_replicas(store: Store, found: Found, tally: Tally) -> None:
    """Further copies that are not there are to be made again; on the root of its place a file has none."""
    index = store.index
    for key, value in list(index.scan(schema.REPLICAS)):
        number, root = InodeNo(read_u64(key[:8])), RootNo(schema.read_u32(key[8:]))
        replica = schema.REPLICA.unpack(value)
        batch = store.batch()
        if any(spot.root == root for spot in store.placement.spots(number)):
            batch.replica(number, root, None)
        elif replica.backing is not None and (number, root) not in found.replicas:
            batch.replica(number, root, replace(replica, state=ReplicaState.BAD))
            tally.tell(root, "copy missing", store.path(number) or b"")
        index.apply(batch)


# -- what is not there ------------------------------------------------------------------------------------------------


def _inodes(store: Store) -> Iterator[Inode]:
    """Every inode below the skeleton and the roots' tops; it may be changed and dropped meanwhile."""
    last = FIRST_INODE - 1
    while inodes := store.index.inodes_from(last + 1, CHUNK):
        last = inodes[-1].number
        for inode in inodes:
            if inode.number not in store.tops:
                yield inode


def _drop_missing(store: Store, found: Found, tally: Tally) -> None:
    """Drop every inode that has a disk object of which none was found."""
    missing = [each for each in _inodes(store) if each.backing is not None and each.number not in found.inodes]
    for inode in missing:
        root = inode.backing.root if inode.backing is not None else None
        if root is not None and root in store.roots:
            tally.count(root, "missing")
            path = found.missing.get(inode.number) or store.path(inode.number)
            tally.tell(root, "missing", path or inode.id.hex().encode())
    for inode in missing:
        _drop(store, inode)


def _drop(store: Store, inode: Inode) -> None:
    batch = store.batch()
    for parent, name in store.index.parents(inode.number):
        batch.unlink(parent, name, inode.number)
    for name, child in store.index.dentries(inode.number) if inode.is_dir else ():
        batch.unlink(inode.number, name, child)
    batch.drop_inode(inode)
    store.index.apply(batch)
    if inode.is_dir:
        store.directory_changed()


# -- what has no name -------------------------------------------------------------------------------------------------


def _name_nameless(store: Store, found: Found, tally: Tally) -> None:
    """Give what has no name that hangs in the tree one by its id; what is in the index alone, and empty, goes."""
    again = True
    while again:  # what hung in something that was dropped hangs nowhere now
        again = False
        hanging = Numbers()
        hanging.add(MOUNT_ROOT)
        for inode in _inodes(store):
            names = store.index.parents(inode.number)
            if names and all(_hangs(store, parent, hanging) for parent, _ in names):
                continue
            again = True
            if inode.backing is None and not store.index.has_dentries(inode.number):
                _drop(store, inode)
            else:
                _recover(store, inode, found, tally)


def _hangs(store: Store, directory: InodeNo, hanging: Numbers) -> bool:
    """Whether going up from a directory leads to the top of the tree; `hanging`: those of which that is known."""
    way: list[InodeNo] = []
    while directory not in hanging:
        names = store.index.parents(directory)
        if not names or directory in way or store.index.inode(directory) is None:
            return False
        way.append(directory)
        directory = names[0][0]
    for each in way:
        hanging.add(each)
    return True


def _recover(store: Store, inode: Inode, found: Found, tally: Tally) -> None:
    number = inode.number
    root = inode.backing.root if inode.backing is not None else store.tops[UPLOADS]
    top = next(top for top, its in store.tops.items() if its == root)
    row = store.index.placement(number)
    spots = tuple(found.spots.get(number, ())) or row
    batch = store.batch()
    for other in store.index.parents(number):
        batch.unlink(*other, number)
    name = inode.id.hex().encode()
    batch.link(top, name, number)
    if spots:
        batch.place(number, store.placement.row_for(spots, ((top, name),)), row)
    store.index.apply(batch)
    if inode.is_dir:
        store.directory_changed()
    tally.count(root, "recovered")
    tally.tell(root, "recovered", store.join(top, name) or name)


def _count_links(store: Store) -> None:
    """Set the link counts of what the index alone counts."""
    index = store.index
    last = 0
    while inodes := index.inodes_from(last + 1, CHUNK):
        last = inodes[-1].number
        batch = store.batch()
        for inode in inodes:
            number = inode.number
            in_tree = inode.backing is not None and store.layouts[inode.backing.root] is Layout.TREE
            if in_tree and (inode.is_dir or index.placement(number) is None):
                continue
            links = 2 + _subdirectories(store, number) if inode.is_dir else len(index.parents(number))
            if inode.nlink != links:
                inode.nlink = links
                batch.put_inode(inode)
        index.apply(batch)


def _subdirectories(store: Store, number: InodeNo) -> int:
    return sum(_is_dir(store, child) for _, child in store.index.dentries(number))


# -- what is on its way -----------------------------------------------------------------------------------------------


def _begin_moves(store: Store, found: Found, tally: Tally) -> None:
    """Begin a move of what was on its way, and of what is not at home and does not come with a directory above it.

    A file whose place is where a replica was is there to stay.
    """
    index = store.index
    keys = [InodeNo(read_u64(key)) for key, _ in index.scan(schema.PLACEMENTS)]
    keys += [InodeNo(schema.read_place(key)[1]) for key, _ in index.scan(schema.SKELETONS)]
    away = {number for number in keys if _is_away(store, number)}
    on_way = away | found.moving
    for number in sorted(on_way):
        inode, home = index.inode(number), store.placement.home(number)
        if inode is None or home is None:
            continue
        if number not in found.moving and any(above in on_way for above in _above(store, number)):
            continue
        batch = store.batch()
        moving.begin_again(store, batch, inode, store.roots[home])
        index.apply(batch)
        tally.report.moves += 1


def _is_away(store: Store, number: InodeNo) -> bool:
    if store.index.skeletons(number):
        return True
    is_aside = any(spot.by_id and store.layouts[spot.root] is Layout.TREE for spot in store.placement.spots(number))
    return not is_aside and not store.placement.is_home(number)


def _above(store: Store, number: InodeNo) -> Iterator[InodeNo]:
    while names := store.index.parents(number):
        number = names[0][0]
        yield number
