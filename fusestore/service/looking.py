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
from fusestore.service import adopting, doubting, restoring
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
        NotFound; RootOffline: nobody knows.
    """
    number = store.index.dentry(parent, name)
    if number is None:
        return _lookup_unknown(store, parent, name)
    return see_name(store, parent, name, number, disk_of(store, parent))


def disk_of(store: Store, directory: InodeNo) -> tuple[Driver, int] | None:
    """Driver and descriptor of a directory's own disk object; None where it has none, or its root is away."""
    try:
        driver, fd = store.places.directory(directory)
    except (NotFound, RootOffline):
        return None
    return None if driver.layout is Layout.ID else (driver, fd)


def see_name(store: Store, parent: InodeNo, name: bytes, number: InodeNo, disk: tuple[Driver, int] | None) -> Seen:
    """The inode `number` as the name (`parent`, `name`) leads to it; `disk`: what `disk_of` says of the parent.

    Raises:
        NotFound: others have taken it away.
    """
    inode = store.inode(number)
    if disk is None or store.index.placement(number) is not None or number in store.tops:
        return see(store, inode)
    driver, directory = disk
    if inode.is_dir and is_on_its_way(store, number):
        return see(store, inode)
    watched = driver.outside is Outside.WRITERS or store.index.lost
    opened = store.files.get(number)
    if opened is not None and opened.writing and opened.is_reachable and not watched:
        return _fill(inode, content.stat(opened.fd), driver, links=not store.condemned.concerns(number))
    try:
        stat = driver.stat(directory, name)
    except FileNotFoundError:
        if not watched:
            raise
        if store.index.lost and restoring.search(store, inode):
            return see(store, inode)
        try:
            doubting.check_name(store, driver, parent, number)
        except RootOffline:
            return Seen(inode, None, driver)
        if not adopting.vanish(store, parent, name, number):
            return see(store, store.inode(number))
        raise NotFound(name) from None
    if watched and _differs(store, inode, At(driver, directory, name), stat):
        if stat.st_dev != driver.device:
            return Seen(inode, None, driver)  # under another mount, and there all the same
        inode = adopting.reconcile(store, parent, name, inode, At(driver, directory, name), stat)
    return _fill(inode, stat, driver, links=not store.condemned.concerns(number))


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
    """A name that the index does not have: it may lie on the disk, not adopted yet or made by others.

    Raises:
        NotFound; RootOffline: nobody knows if there is such a name.
    """
    if is_complete(store, parent):
        raise NotFound(name)
    try:
        driver, directory = store.places.directory(parent)
    except NotFound:
        raise NotFound(name) from None
    except RootOffline:
        if store.index.stamp(parent) is None:
            raise  # never listed: nobody knows
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
    if opened is not None and opened.is_reachable and (not opened.replica or number in store.orphans):
        driver = store.root_of(number)
        # What has no name has no link, even if its bytes are not destroyed yet.
        links = number not in store.orphans and (_disk_counts(store, number, driver, row) or inode.nlink == 0)
        return _fill(inode, content.stat(opened.fd), driver, links=links)
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
        at = store.places.at(spots[0], number, inode.id)
        stat = driver.stat(at.directory, at.name)
    except RootOffline:
        return Seen(inode, None, driver)
    except (FileNotFoundError, NotFound):
        if driver.outside is not Outside.WRITERS and not store.index.lost:
            raise
        return _let_go(store, inode, driver)
    if driver.outside is Outside.WRITERS and _differs(store, inode, at, stat):
        if stat.st_dev != driver.device:
            return Seen(inode, None, driver)
        inode = _reconcile_placed(store, inode, at, stat)
    return _fill(inode, stat, driver, links=_disk_counts(store, number, driver, row))


def _let_go(store: Store, inode: Inode, driver: Driver) -> Seen:
    """Take in that the object of an inode is not where it was; what is seen if the inode stays all the same.

    Raises:
        Gone
    """
    try:
        is_gone = adopting.vanish_missing(store, inode, driver)
    except RootOffline:
        return Seen(inode, None, driver)
    if is_gone:
        raise Gone(inode.number)
    return see(store, store.inode(inode.number))


def know(store: Store, inode: Inode, driver: Driver) -> Inode:
    """The record of an inode that we are about to change, with what others have made of it, lest that pass for ours.

    Raises:
        NotFound: they have taken it away.
    """
    return see(store, inode).inode if driver.outside is Outside.WRITERS else inode


def see_at(store: Store, inode: Inode, at: At) -> Seen:
    """The attributes of what lies at `at`, no directory, after a change of our own that `know` came before."""
    links = _disk_counts(store, inode.number, at.driver, store.index.placement(inode.number))
    return _fill(inode, at.driver.stat(at.directory, at.name), at.driver, links=links)


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
    try:
        _, directory = store.places.directory(inode.number)
    except RootOffline:
        return Seen(inode, None, driver)
    seen = _fill(inode, driver.stat_dir(directory), driver, links=_disk_counts(store, inode.number, driver, row))
    if is_on_its_way(store, inode.number):
        inode.atime_ns, inode.mtime_ns, inode.ctime_ns = times
    return seen


def getattr(store: Store, number: InodeNo) -> Seen:
    """The attributes of an inode.

    Raises:
        NotFound: it is gone for good.
    """
    return see(store, store.inode(number))


def last_seen(store: Store, number: InodeNo) -> Seen:
    """An inode with the attributes that it had when it was last looked at.

    Raises:
        NotFound
    """
    return Seen(store.inode(number), None, store.root_of(number))


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


def _differs(store: Store, inode: Inode, at: At, stat: os.stat_result) -> bool:
    """Whether a record has to be compared with what lies in its place now; see `core.reconcile`.

    Our own changes move the times of directories and of what is being written. There the object itself counts, and no
    other gets its inode number as long as it is open here.
    """
    backing, number = inode.backing, inode.number
    if backing is None or backing.st_ino != stat.st_ino:
        return True
    if inode.ctime_ns == stat.st_ctime_ns:
        return False
    if inode.is_dir:
        is_open = store.places.is_open(number, at.driver)
    elif inode.state is State.WRITING:
        is_open = number in store.files
    else:
        return True
    return not is_open and at.driver.backing(at.directory, at.name).btime_ns != backing.btime_ns


def _disk_counts(store: Store, number: InodeNo, driver: Driver | None, row: tuple[Spot, ...] | None) -> bool:
    """Whether the disk's link count is the inode's.

    Not in an `id` root, while names and disk objects differ, or while a link that no name needs is still to go.
    """
    return driver is not None and driver.layout is Layout.TREE and row is None and not store.condemned.concerns(number)


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
