"""Lookups and attributes: what the index says, compared with what the disk shows.

For roots that nobody else writes, the index decides which names exist and the disk only lends its attributes. Where
others write (`outside = writers`), each look compares one lstat with the record; a difference is reconciled before
the answer.
"""

from __future__ import annotations

import stat as stat_module
from typing import TYPE_CHECKING, NamedTuple

from fusestore.errors import Gone, InvalidRequest, NotFound, RootOffline
from fusestore.model import Layout, Outside, State
from fusestore.roots import content
from fusestore.service import adopting
from fusestore.service.places import At

if TYPE_CHECKING:
    import os

    from fusestore.core.ports import Driver
    from fusestore.model import Inode, InodeNo, RootNo, Spot
    from fusestore.service.store import Store


class Seen(NamedTuple):
    """An inode with its attributes as of now."""

    inode: Inode
    stat: os.stat_result | None  # of its disk object; None when the index is the authority
    driver: Driver | None  # the root its bytes are on


def lookup(store: Store, parent: InodeNo, name: bytes) -> Seen:
    """Find a name.

    Raises:
        NotFound
    """
    index = store.index
    number = index.dentry(parent, name)
    if number is None:
        return _lookup_unknown(store, parent, name)
    inode = store.inode(number)
    if index.placement(number) is not None:
        return see(store, inode)
    try:
        driver, directory = store.places.directory(parent)
    except NotFound:  # above the roots
        return see(store, inode)
    except RootOffline:
        return Seen(inode, None, store.root_of(number))
    if number in store.tops or not store.on_disk(inode, driver.number):
        return see(store, inode)
    if driver.layout is Layout.ID or (inode.is_dir and is_on_its_way(store, number)):
        return see(store, inode)
    opened = store.files.get(number)
    if opened is not None and opened.writing:
        return _fill(inode, content.stat(opened.fd), driver, links=True)
    try:
        stat = driver.stat(directory, name)
    except FileNotFoundError:
        if driver.outside is not Outside.WRITERS:
            raise
        adopting.vanish(store, parent, name, number)
        raise NotFound(name) from None
    if driver.outside is Outside.WRITERS and _differs(inode, stat):
        inode = adopting.reconcile(store, parent, name, inode, At(driver, directory, name), stat)
    return _fill(inode, stat, driver, links=True)


def find(store: Store, parent: InodeNo, name: bytes) -> Inode:
    """The inode of a name that is about to change, without a look at its disk where the index knows it all the same.

    That is: nobody else writes there, it is at home, and its content is settled.

    Raises:
        NotFound
    """
    number = store.index.dentry(parent, name)
    if number is None:
        return _lookup_unknown(store, parent, name).inode
    inode = store.inode(number)
    root = store.placement.default_root(parent)
    watched = root is None or store.roots[root].outside is Outside.WRITERS
    if watched or inode.state is State.WRITING or store.index.placement(number) is not None:
        return lookup(store, parent, name).inode
    return inode


def _lookup_unknown(store: Store, parent: InodeNo, name: bytes) -> Seen:
    """A name that the index does not have: it may lie on the disk, not adopted yet or made by others."""
    if is_complete(store, parent):
        raise NotFound(name)
    try:
        driver, directory = store.places.directory(parent)
    except (NotFound, RootOffline):
        raise NotFound(name) from None
    inode, stat = adopting.adopt_name(store, parent, At(driver, directory, name))
    return _fill(inode, stat, driver, links=True)


def is_complete(store: Store, directory: InodeNo) -> bool:
    """Whether a name that the index lacks in `directory` is known not to exist, so that the kernel may remember it."""
    root = store.placement.default_root(directory)
    if root is None or store.layouts[root] is Layout.ID:
        return True
    return store.roots[root].outside is not Outside.WRITERS and is_listed(store, directory, root)


def is_listed(store: Store, directory: InodeNo, root: RootNo) -> bool:
    """Whether a directory has been listed in full on this root."""
    stamp = store.index.stamp(directory)
    return stamp is not None and stamp.root == root


def see(store: Store, inode: Inode) -> Seen:
    """The attributes of an inode as of now, whatever its names.

    Falls back to the last seen ones when its root is offline.
    """
    number = inode.number
    opened = store.files.get(number)
    row = store.index.placement(number)
    if opened is not None:
        driver = store.root_of(number)
        return _fill(inode, content.stat(opened.fd), driver, links=_disk_counts(driver, row) or inode.nlink == 0)
    top = store.tops.get(number)
    if top is not None:
        driver = store.roots[top]
        if driver.layout is Layout.ID or not driver.online:
            return Seen(inode, None, driver)
        return _fill(inode, driver.stat_dir(driver.top), driver, links=True)
    if inode.is_dir:
        root = store.placement.default_root(number)
        if root is None or store.roots[root].outside is not Outside.WRITERS or is_on_its_way(store, number):
            return _see_directory(store, inode, root, row)
    spots = row or store.placement.inherited(store.index.parents(number))
    if not spots:
        return _see_nameless(store, inode)
    driver = store.roots[spots[0].root]
    if not store.on_disk(inode, driver.number):
        return Seen(inode, None, driver)
    try:
        at = store.places.at(spots[0], number)
        stat = driver.stat(at.directory, at.name)
    except RootOffline:
        return Seen(inode, None, driver)
    except FileNotFoundError:
        if driver.outside is not Outside.WRITERS:
            raise
        adopting.vanish_missing(store, inode, driver)
        raise Gone(number) from None
    if driver.outside is Outside.WRITERS and _differs(inode, stat):
        inode = _reconcile_placed(store, inode, at, stat)
    return _fill(inode, stat, driver, links=_disk_counts(driver, row))


def _see_nameless(store: Store, inode: Inode) -> Seen:
    """What lies on no root: the skeleton above them, and what was removed but is still held."""
    if store.index.vanished_at(inode.number) is not None:
        raise Gone(inode.number)
    return Seen(inode, None, None)


def _see_directory(store: Store, inode: Inode, root: RootNo | None, row: tuple[Spot, ...] | None) -> Seen:
    """The attributes of a directory that nobody else can have put another in the place of."""
    if root is None:
        return _see_nameless(store, inode)
    driver = store.roots[root]
    if driver.layout is Layout.ID or not driver.online:
        return Seen(inode, None, driver)
    times = inode.atime_ns, inode.mtime_ns, inode.ctime_ns
    _, directory = store.places.directory(inode.number)
    seen = _fill(inode, driver.stat_dir(directory), driver, links=_disk_counts(driver, row))
    if is_on_its_way(store, inode.number):
        inode.atime_ns, inode.mtime_ns, inode.ctime_ns = times
    return seen


def getattr(store: Store, number: InodeNo) -> Seen:
    """The attributes of an inode.

    Raises:
        NotFound: it is gone for good.
    """
    return see(store, store.inode(number))


def is_on_its_way(store: Store, directory: InodeNo) -> bool:
    """Whether a directory's content is being carried to another root, so that its times on the disks are our doing.

    Its record keeps what they were (`directories.begin`).
    """
    return store.index.has_open_moves() and bool(store.index.skeletons(directory))


def readlink(store: Store, number: InodeNo) -> bytes:
    """Where a symlink leads.

    Raises:
        NotFound; InvalidRequest: it is no symlink.
    """
    inode = store.inode(number)
    if not stat_module.S_ISLNK(inode.mode):
        raise InvalidRequest("not a symlink")
    return inode.target


def _reconcile_placed(store: Store, inode: Inode, at: At, stat: os.stat_result) -> Inode:
    names = store.index.parents(inode.number)
    if not names:
        return inode
    changed = adopting.reconcile(store, *names[0], inode, at, stat)
    if changed.number != inode.number:  # another object took the name; this inode is gone
        raise Gone(inode.number)
    return changed


def _differs(inode: Inode, stat: os.stat_result) -> bool:
    if inode.state is State.WRITING:
        return inode.backing is not None and inode.backing.st_ino != stat.st_ino
    return (
        inode.backing is None
        or inode.backing.st_ino != stat.st_ino
        or (inode.ctime_ns != stat.st_ctime_ns and not inode.is_dir)
    )


def _disk_counts(driver: Driver | None, row: tuple[Spot, ...] | None) -> bool:
    """Whether the disk's link count is the inode's: not in an `id` root, nor while names and disk objects differ."""
    return driver is not None and driver.layout is Layout.TREE and row is None


def _fill(inode: Inode, stat: os.stat_result, driver: Driver | None, *, links: bool) -> Seen:
    renamed_ns = inode.ctime_ns if driver is not None and driver.layout is Layout.ID else 0
    fill(inode, stat, links=links)
    inode.ctime_ns = max(inode.ctime_ns, renamed_ns)  # changes of names are in the index, of bytes on the disk
    return Seen(inode, stat, driver)


def fill(inode: Inode, stat: os.stat_result, *, links: bool) -> None:
    """Copy into a record what the disk is the authority for; `links`: the link count too."""
    inode.mode = stat.st_mode
    inode.uid = stat.st_uid
    inode.gid = stat.st_gid
    inode.rdev = stat.st_rdev
    inode.size = stat.st_size
    inode.atime_ns = stat.st_atime_ns
    inode.mtime_ns = stat.st_mtime_ns
    inode.ctime_ns = stat.st_ctime_ns
    if links:
        inode.nlink = stat.st_nlink
