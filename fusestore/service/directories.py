"""The end of a directory's way home: when nothing in it is left behind, its place switches and the old directories go.

Until then its children find their bytes through its old place (they inherit it), or through rows of their own once
they have arrived. The switch is one batch; before and after it every child's bytes are at the same spot.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

import trio

from fusestore.core.moves import NOT_ALL_THERE
from fusestore.core.placement import by_id
from fusestore.errors import Conflict
from fusestore.model import Layout, Stamp
from fusestore.roots import copy, identity
from fusestore.service import arriving, ghosts, walking
from fusestore.service.breath import Breath
from fusestore.service.discarding import carry_out, discard
from fusestore.service.looking import fill
from fusestore.service.parents import ensure_directory, prepare, settle_skeleton
from fusestore.service.syncing import sync_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fusestore.core.ports import Driver
    from fusestore.model import Inode, InodeNo, Move, Spot
    from fusestore.service.store import Store

CHUNK: Final = 500


def begin(store: Store, directory: InodeNo) -> None:
    """Give a directory on its way its place on the target root, before anything is taken out of the old one.

    An `id` root has no directories; there the row alone says that it is on its way.

    Raises:
        Conflict, RootOffline, RootReadOnly; OSError as the disk says.
    """
    home = store.placement.home(directory)
    if home is None or store.placement.is_home(directory) or store.index.skeleton(directory, home) is not None:
        return
    if store.layouts[home] is Layout.TREE:
        ensure_directory(store, directory, home)
    else:
        settle_skeleton(store, by_id(home), directory)


async def bring_home(store: Store, move: Move, directories: Iterable[InodeNo]) -> dict[InodeNo, str]:
    """Switch directories to their homes, those inside others first; they share the syncs of their disks.

    Returns:
        those that stay as they are because of what is in them, with what is in the way.

    Raises:
        Conflict, RootOffline, RootReadOnly; OSError as the disk says. Directories before that one have switched.
    """
    blocked: dict[InodeNo, str] = {}
    left: dict[InodeNo, tuple[Spot, ...]] = {}
    breath = Breath()
    for directory in directories:
        await breath.take()
        old = _come_home(store, move, directory)
        if old is None:
            blocked[directory] = NOT_ALL_THERE
        else:
            left[directory] = old
    await _sync(store, left)
    for directory, old in left.items():
        await breath.take()
        _release(store, directory, old)
        await _forget_rows(store, directory)
    return blocked


def _come_home(store: Store, move: Move, directory: InodeNo) -> tuple[Spot, ...] | None:
    """Switch one directory; returns the places it has left, or None if something in it has no other place yet."""
    inode = store.index.inode(directory)
    home = store.placement.home(directory)
    if inode is None or home is None:
        return ()
    target = store.roots[home]
    if store.placement.is_home(directory):
        return _skeletons_elsewhere(store, directory, target)
    if target.layout is Layout.TREE and store.placement.default_root(directory) == home:
        _rename_home(store, inode, target)
        return _skeletons_elsewhere(store, directory, target)
    staying = _inheriting(store, directory)
    if staying is None:
        return None
    begin(store, directory)
    inode = store.inode(directory)
    old = (*store.placement.spots(directory), *_skeletons_elsewhere(store, directory, target))
    _switch(store, move, inode, target, staying)
    return old


def _inheriting(store: Store, directory: InodeNo) -> list[InodeNo] | None:
    """The children that inherit their place, if all of those are at home there; None if some have to move yet.

    At home is what has its bytes on another root because a name of it is there too. One look at every name, because
    nothing may come between this and the switch.
    """
    found: list[InodeNo] = []
    after = b""
    while names := store.index.dentries(directory, after, CHUNK):
        after = names[-1][0]
        for _, number in names:
            if store.index.placement(number) is None:
                if not store.placement.is_home(number):
                    return None
                found.append(number)
    return found


def _skeletons_elsewhere(store: Store, directory: InodeNo, target: Driver) -> tuple[Spot, ...]:
    return tuple(spot for spot in store.index.skeletons(directory) if spot.root != target.number)


def _rename_home(store: Store, inode: Inode, target: Driver) -> None:
    """Bring a directory that lies on its own root, but not where its name is, home with all that is in it."""
    (here,) = store.placement.spots(inode.number)
    (wanted,) = store.placement.home_spots(inode.number)
    prepare(store, wanted, inode.number, inode.id)
    try:
        ghosts.relocate(store, inode.number, here, wanted)
    except FileExistsError:
        raise Conflict(target.name, store.path(inode.number) or wanted.name) from None


def _switch(store: Store, move: Move, inode: Inode, target: Driver, staying: Sequence[InodeNo]) -> None:
    """Make the place that its name says the directory's own; `staying` are children that keep the one they inherit."""
    number = inode.number
    (wanted,) = store.placement.home_spots(number)
    (old,) = store.placement.spots(number)
    source = store.roots[old.root]
    if target.layout is Layout.TREE:
        store.writable(target)
        here = store.placement.realization(number, target.number)
        if here is not None and here != wanted:  # renamed after its skeleton was made
            prepare(store, wanted, number, inode.id)
            ghosts.relocate(store, number, here, wanted)
        _dress(store, inode, source, target)
        at = store.places.at(wanted, number)
        inode.backing = target.backing(at.directory, at.name)
        identity.write(target, at.directory, at.name, identity.Label(inode.id, number, target.uuid, inode.backing))
        fill(inode, target.stat(at.directory, at.name), links=True)
        batch = store.batch()
        batch.drop_skeleton(number, wanted)
        for name in store.index.xattrs(number):
            batch.xattr(number, name, None)  # the disk carries them now
        batch.stamp(number, Stamp(target.number, inode.ctime_ns))
    else:
        batch = store.batch()
        if source.layout is Layout.TREE:  # between id roots the record has been the authority all along
            _, directory = store.places.directory(number)
            times = inode.atime_ns, inode.mtime_ns
            fill(inode, source.stat_dir(directory), links=False)
            inode.atime_ns, inode.mtime_ns = times
            arriving.keep_xattrs(store, batch, inode, store.places.at(old, number))
            inode.nlink = 2 + _subdirectories(store, number)
            inode.backing = None
        batch.drop_skeleton(number, wanted)
        batch.stamp(number, None)
    batch.put_inode(inode)
    for child in staying:
        batch.place(child, store.placement.spots(child), None)
    names = store.index.parents(number)
    batch.place(number, store.placement.row_for((wanted,), names), store.index.placement(number))
    # The old place stays known as a skeleton until it is gone, so that it is hidden and what lies in it can step aside.
    if store.on_disk(inode, old.root):
        batch.skeleton(number, old)
    arriving.announce(store, batch, move.number, inode, source, target)
    store.index.apply(batch)
    store.directory_changed(number)
    store.on_stale(number)


def _subdirectories(store: Store, number: InodeNo) -> int:
    return sum(child.is_dir for child in walking.children(store, number))


def _dress(store: Store, inode: Inode, source: Driver, target: Driver) -> None:
    """Give the new directory the attributes of the old one, the times last."""
    number = inode.number
    _, there = store.places.directory(number, target.number)
    if source.layout is Layout.TREE:
        _, here = store.places.directory(number)
        copy.copy_attributes(here, b".", there, b".")
        target.utime(there, b".", inode.atime_ns, inode.mtime_ns)
        return
    target.chown(there, b".", inode.uid, inode.gid)
    target.chmod(there, b".", stat.S_IMODE(inode.mode))
    for name in store.index.xattrs(number):
        target.setxattr(there, b".", name, store.index.xattr(number, name) or b"", 0)
    target.utime(there, b".", inode.atime_ns, inode.mtime_ns)


async def _sync(store: Store, left: dict[InodeNo, tuple[Spot, ...]]) -> None:
    """Make the switches durable, and what was taken out of the places that were left.

    A power cut must not bring that back into directories which nobody knows any more.
    """
    roots: dict[Driver, None] = {}
    for directory, old in left.items():
        home = store.placement.home(directory)
        if old and home is not None:
            roots |= dict.fromkeys([store.roots[home], *(store.roots[spot.root] for spot in old)])
    if roots:
        await sync_all(store, roots)


def _release(store: Store, directory: InodeNo, old: tuple[Spot, ...]) -> None:
    """Remove the directories that were left."""
    inode = store.index.inode(directory)
    for root in {spot.root for spot in old} - {store.placement.home(directory)}:
        spot = store.index.skeleton(directory, root)  # it may have stepped aside meanwhile
        if inode is None or spot is None:
            continue
        ghosts.clear_directory(store, directory, spot.root)
        _give_times(store, directory)
        batch = store.batch()
        discards = discard(store, batch, inode, (spot,))
        batch.drop_skeleton(directory, spot)
        store.index.apply(batch)
        store.directory_changed(directory)
        carry_out(store, discards)


def _give_times(store: Store, directory: InodeNo) -> None:
    """Give a directory, where it is now, the times that its record has kept: its disk says them from here on."""
    root = store.placement.default_root(directory)
    if root is None or store.layouts[root] is Layout.ID:
        return  # it goes on to be the record that says them
    driver, fd = store.places.directory(directory, root)
    inode = store.inode(directory)
    if driver.stat_dir(fd).st_mtime_ns != inode.mtime_ns:
        driver.utime(fd, b".", inode.atime_ns, inode.mtime_ns)


async def _forget_rows(store: Store, directory: InodeNo) -> None:
    """Drop the children's rows that say what is inherited now."""
    after = b""
    while names := store.index.dentries(directory, after, CHUNK):
        after = names[-1][0]
        batch = store.batch()
        for _, number in names:
            row = store.index.placement(number)
            if row is not None and store.placement.row_for(row, store.index.parents(number)) is None:
                batch.place(number, None, row)
        store.index.apply(batch)
        await trio.lowlevel.checkpoint()
