"""Owner, mode, times and size."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from fusestore.core.intents import Attributes
from fusestore.model import Layout, Operation
from fusestore.service import writing
from fusestore.service.deciding import Decided
from fusestore.service.looking import Seen, fill, see

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
    spots = store.disk_spots(inode, store.placement.spots(number))
    top = store.tops.get(number)
    if number not in store.orphans and (spots or (top is not None and store.layouts[top] is Layout.TREE)):
        _on_disk(store, inode, wanted, owner)
    else:
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


def _on_disk(store: Store, inode: Inode, wanted: Wanted, owner: Owner) -> None:
    number = inode.number
    if inode.is_dir:
        driver, directory = store.places.directory(number)
        name = b"."
    else:
        driver, directory, name = store.place(number)
    store.writable(driver)
    with Decided(store, Attributes(number)) as key:
        # The owner first: chown(2) clears set-id bits, which the mode may then set again.
        if wanted.uid is not None or wanted.gid is not None or wanted == Wanted():  # which still moves the ctime
            driver.chown(
                directory, name, -1 if wanted.uid is None else wanted.uid, -1 if wanted.gid is None else wanted.gid
            )
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
    if wanted.atime_ns is not None:
        inode.atime_ns = wanted.atime_ns
    if wanted.mtime_ns is not None:
        inode.mtime_ns = wanted.mtime_ns
    settle_attributes(store, inode, key, owner=owner)


def settle_attributes(store: Store, inode: Inode, key: int, *, owner: Owner | None = None) -> None:
    """Record what the disk shows now."""
    number = inode.number
    if inode.is_dir:
        driver, _ = store.places.directory(number)
        see(store, inode)
    else:
        at = store.place(number)
        driver = at.driver
        fill(inode, driver.stat(at.directory, at.name), links=False)
    _record(store, inode, key, driver.name, owner)


def _in_index(store: Store, inode: Inode, wanted: Wanted, owner: Owner) -> None:
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
    if inode.number in store.orphans:
        return  # nobody but its holders can see it
    driver = store.root_of(inode.number)
    _record(store, inode, None, driver.name if driver else "", owner)


def _record(store: Store, inode: Inode, key: int | None, root: str, owner: Owner | None) -> None:
    batch = store.batch()
    if key is not None:
        batch.settle(key)
    batch.put_inode(inode)
    store.event(batch, inode, Operation.UPDATE, "attributes", path=store.path(inode.number), root=root, owner=owner)
    store.index.apply(batch)
