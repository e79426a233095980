"""Owner, mode, times and size."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from fusestore.core.intents import Attributes
from fusestore.model import Layout, Operation
from fusestore.roots import content
from fusestore.service import writing
from fusestore.service.deciding import Decided
from fusestore.service.looking import Seen, know, see, see_at
from fusestore.service.places import At

if TYPE_CHECKING:
    from fusestore.model import Inode, InodeNo, Owner
    from fusestore.service.store import Store


class Wanted(Struct, frozen=True):
    """The attributes to set; None leaves one as it is. Times in nanoseconds since the epoch, sizes in bytes."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None

    @property
    def owner(self) -> tuple[int, int] | None:
        """What chown(2) is to be called with, if it is: also where nothing is wanted, which still moves the ctime."""
        if self.uid is None and self.gid is None and self != Wanted():
            return None
        return -1 if self.uid is None else self.uid, -1 if self.gid is None else self.gid

    @property
    def only_size(self) -> bool:
        return (self.mode, self.uid, self.gid, self.atime_ns, self.mtime_ns) == (None,) * 5


def setattr(store: Store, number: InodeNo, wanted: Wanted, owner: Owner) -> Seen:
    """Change attributes; the permission to do so was checked by the kernel.

    Raises:
        NotFound, RootOffline, RootReadOnly; OSError as the disk says.
    """
    inode = store.inode(number)
    if wanted.size is not None:
        writing.truncate(store, number, wanted.size)
        if wanted.only_size:
            return see(store, store.inode(number))
        inode = store.inode(number)
    if number in store.orphans:
        _of_nameless(store, inode, wanted)
        return see(store, inode)
    spots = store.disk_spots(inode, store.placement.spots(number))
    top = store.tops.get(number)
    if spots or (top is not None and store.layouts[top] is Layout.TREE):
        return _on_disk(store, inode, wanted, owner)
    _in_index(store, inode, wanted, owner)
    return see(store, store.inode(number))


def drop_set_id(store: Store, number: InodeNo, owner: Owner) -> None:
    """Take the set-id bits from a program that an ordinary user has just cut with O_TRUNC; the kernel does not here.

    For truncate(2) and write(2) it does.
    """
    mode = store.inode(number).mode
    dropped = stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0)
    if owner.uid != 0 and mode & dropped:
        setattr(store, number, Wanted(mode=mode & ~dropped), owner)


def _on_disk(store: Store, inode: Inode, wanted: Wanted, owner: Owner) -> Seen:
    number = inode.number
    at = object_of(store, inode)
    driver, directory, name = at
    store.writable(driver)
    inode = know(store, inode, driver)
    with Decided(store, Attributes(number)) as key:
        # The owner first: chown(2) clears set-id bits, which the mode may then set again.
        if wanted.owner is not None:
            driver.chown(directory, name, *wanted.owner)
        if wanted.mode is not None:
            driver.chmod(directory, name, stat.S_IMODE(wanted.mode))
        if wanted.atime_ns is not None or wanted.mtime_ns is not None:
            seen = driver.stat(directory, name)
            driver.utime(
                directory,
                name,
                seen.st_atime_ns if wanted.atime_ns is None else wanted.atime_ns,
                seen.st_mtime_ns if wanted.mtime_ns is None else wanted.mtime_ns,
            )
            passing = store.digests.get(number)
            if passing is not None and wanted.mtime_ns is not None and passing.mtime_ns == seen.st_mtime_ns:
                store.digests[number] = passing._replace(mtime_ns=wanted.mtime_ns)
    if wanted.atime_ns is not None:
        inode.atime_ns = wanted.atime_ns
    if wanted.mtime_ns is not None:
        inode.mtime_ns = wanted.mtime_ns
    return settle_attributes(store, inode, at, key, owner=owner)


def object_of(store: Store, inode: Inode) -> At:
    """Where the disk object of an inode is, for what changes its attributes."""
    return At(*store.places.directory(inode.number), b".") if inode.is_dir else store.place(inode.number)


def settle_attributes(store: Store, inode: Inode, at: At, key: int, *, owner: Owner | None = None) -> Seen:
    """Record what the disk shows now of an inode that lies at `at`."""
    seen = see(store, inode) if inode.is_dir else see_at(store, inode, at)
    store.files.touched(inode.number, seen.stat)
    _record(store, inode, key, at.driver.name, owner)
    return seen


def _of_nameless(store: Store, inode: Inode, wanted: Wanted) -> None:
    """Change what has lost its last name: its holders go on seeing it, through its descriptor or in memory."""
    opened = store.files.get(inode.number)
    if opened is None:
        _apply(inode, wanted)
        return
    opened.reach()
    before = content.stat(opened.fd)
    atime_ns = before.st_atime_ns if wanted.atime_ns is None else wanted.atime_ns
    mtime_ns = before.st_mtime_ns if wanted.mtime_ns is None else wanted.mtime_ns
    content.change(
        opened.fd,
        mode=None if wanted.mode is None else stat.S_IMODE(wanted.mode),
        owner=wanted.owner,
        times_ns=None if wanted.atime_ns is None and wanted.mtime_ns is None else (atime_ns, mtime_ns),
    )


def _in_index(store: Store, inode: Inode, wanted: Wanted, owner: Owner) -> None:
    _apply(inode, wanted)
    driver = store.root_of(inode.number)
    _record(store, inode, None, driver.name if driver else "", owner)


def _apply(inode: Inode, wanted: Wanted) -> None:
    if wanted.mode is not None:
        inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(wanted.mode)
    if wanted.uid is not None:
        inode.uid = wanted.uid
    if wanted.gid is not None:
        inode.gid = wanted.gid
    if wanted.atime_ns is not None:
        inode.atime_ns = wanted.atime_ns
    if wanted.mtime_ns is not None:
        inode.mtime_ns = wanted.mtime_ns
    inode.ctime_ns = time.time_ns()


def _record(store: Store, inode: Inode, key: int | None, root: str, owner: Owner | None) -> None:
    batch = store.batch()
    if key is not None:
        batch.settle(key)
    batch.touch_inode(inode)
    store.event(batch, inode, Operation.UPDATE, "attributes", path=store.path(inode.number), root=root, owner=owner)
    store.index.apply(batch)
