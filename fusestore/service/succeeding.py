"""A replica becomes the place of its file: by one batch, after it was read once more and no power cut can take it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fusestore.core.placement import by_id
from fusestore.errors import FusestoreError, InUse
from fusestore.model import Cause, Operation, ReplicaState
from fusestore.roots import content, copy, identity
from fusestore.service import arriving, replicas, verifying
from fusestore.service.discarding import discard
from fusestore.service.looking import fill, see
from fusestore.service.places import is_object
from fusestore.service.soundness import BROKEN
from fusestore.service.syncing import sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, Move, RootNo
    from fusestore.service.arriving import Discards
    from fusestore.service.places import At
    from fusestore.service.store import Store
    from fusestore.service.verifying import Read


async def take_over(store: Store, move: Move, number: InodeNo) -> Discards:
    """Make the replica on the root that a file is to go to its place there, so that it need not be copied.

    Returns:
        what to destroy once that is durable; nothing if there is no good replica, or rename(2) is quicker.

    Raises:
        Gone; RootOffline; OSError as the disks say.
    """
    inode, home = store.index.inode(number), store.placement.home(number)
    source = store.root_of(number)
    if inode is None or home is None or source is None or source.device == store.roots[home].device:
        return []
    if store.files.has_writer(number):
        return []
    if not await prove(store, inode, home) or store.placement.home(number) != home:
        return []

    def announce(batch: Batch, inode: Inode) -> None:
        arriving.announce(store, batch, move.number, inode, source, store.roots[home])

    try:
        return succeed(store, number, home, announce, moved=True)
    except InUse:
        return []  # it was written meanwhile, and is copied


async def prove(store: Store, inode: Inode, root: RootNo) -> bool:
    """Whether there is a current replica on a root that reads back as it was verified; durable then.

    Raises:
        RootOffline; OSError as the disk says.
    """
    if not store.roots[root].online or not await reread(store, inode, root):
        return False
    await sync(store, store.roots[root])
    return True


async def good_replica(store: Store, inode: Inode, *, but: RootNo | None = None) -> RootNo | None:
    """A root with a current replica that reads back as it was verified; those that do not are recorded as bad."""
    for root, _ in list(replicas.readable(store, inode)):
        if root != but and await prove(store, inode, root):
            return root
    return None


def succeed(
    store: Store, number: InodeNo, root: RootNo, announce: Callable[[Batch, Inode], None], *, moved: bool = False
) -> Discards:
    """Make the replica on a root the place of its file.

    Args:
        announce: adds to the batch what is told of it.
        moved: for a move, which may leave the old bytes in a trash.

    Returns:
        what to destroy once that is durable.

    Raises:
        InUse: the file is being written, or was since the replica was proven; Gone; RootOffline; OSError.
    """
    inode = _as_now(store, store.inode(number))
    record = store.index.replica(number, root)
    may_be_newer = store.files.has_writer(number) or number in store.suspects  # or somebody outside has written it
    if record is None or record.state is not ReplicaState.CURRENT or may_be_newer:
        raise InUse(store.path(number) or b"")
    driver = store.roots[root]
    at = store.places.at(by_id(root), number, inode.id)
    _take_attributes(store, inode, at)
    opened = store.files.get(number)
    fd = driver.open(at.directory, at.name, write=False) if opened is not None else -1
    names = store.index.parents(number)
    batch = store.batch()
    discards = discard(store, batch, inode, store.placement.spots(number), moved=moved)
    batch.place(number, store.placement.row_for((by_id(root),), names), store.index.placement(number))
    batch.replica(number, root, None)
    inode.backing = record.backing
    fill(inode, driver.stat(at.directory, at.name), links=False)
    inode.nlink = len(names)
    batch.put_inode(inode)
    announce(batch, inode)
    try:
        store.index.apply(batch)
    except FusestoreError:
        if fd >= 0:
            content.close(fd)
        raise
    if opened is not None:
        opened.switch(driver, fd, writable=False)
    store.on_stale(number)
    return discards


def _as_now(store: Store, inode: Inode) -> Inode:
    """The record with a change from outside, which the old bytes would take along; as it is where their disk fails."""
    try:
        return see(store, inode).inode
    except OSError as error:
        if error.errno not in BROKEN:
            raise
        return store.inode(inode.number)


def _take_attributes(store: Store, inode: Inode, at: At) -> None:
    """Give a replica what has become of the file's owner, mode, times and xattrs since it was made.

    Where the old bytes cannot be reached the record tells, which knows no xattrs.
    """
    try:
        old = _place(store, inode.number)
        if old is not None:
            _copy_attributes(old, at)
            return
    except OSError as error:
        if error.errno not in BROKEN:
            raise
    driver, directory, name = at
    seen = driver.stat(directory, name)
    if (seen.st_uid, seen.st_gid) != (inode.uid, inode.gid):
        driver.chown(directory, name, inode.uid, inode.gid)
    driver.chmod(directory, name, inode.mode)
    driver.utime(directory, name, inode.atime_ns, inode.mtime_ns)


def _copy_attributes(old: At, at: At) -> None:
    driver, directory, name = at
    here = set(driver.listxattr(directory, name))
    for attribute in here - {*old.driver.listxattr(old.directory, old.name), identity.IDENTITY_XATTR}:
        driver.removexattr(directory, name, attribute)
    copy.copy_attributes(old.directory, old.name, directory, name)


def _place(store: Store, number: InodeNo) -> At | None:
    root: Driver | None = store.root_of(number)
    return store.place(number) if root is not None and root.online else None


async def reread(store: Store, inode: Inode, root: RootNo, read: Read | None = None) -> bool:
    """Read a current replica again, past the page cache, and record what came of it; whether it is good.

    Args:
        read: how; at once, if nothing is said.
    """
    number, record = inode.number, store.index.replica(inode.number, root)
    if record is None or record.state is not ReplicaState.CURRENT:
        return False
    try:
        at = store.places.at(by_id(root), number, inode.id)
        found = await (read or partial(verifying.read_at_once, store))(at, record.algorithm)
    except OSError as error:
        if store.index.replica(number, root) == record:
            replicas.note_failure(store, store.inode(number), root, error)
        return False
    if store.index.replica(number, root) != record:
        return False  # it was written over, or made again, meanwhile
    if found != record.digest:
        replicas.mark_bad(store, store.inode(number), root, "its content is not what was verified")
        return False
    batch = store.batch()
    batch.replica(number, root, replace(record, verified_ns=time.time_ns()))
    store.index.apply(batch)
    return True


async def acquit(store: Store, number: InodeNo, root: RootNo) -> bool:
    """Read a bad replica of the present content again, as its disk may have failed for a moment; whether it is good."""
    inode, record = store.index.inode(number), store.index.replica(number, root)
    if inode is None or record is None or record.state is not ReplicaState.BAD or record.version != inode.version:
        return False
    try:
        at = store.places.at(by_id(root), number, inode.id)
        if record.backing is None or not is_object(at, record.backing):
            return False
        found = await verifying.read_at_once(store, at, record.algorithm)
    except (OSError, FusestoreError):
        return False
    inode = store.index.inode(number)
    if inode is None or inode.version != record.version or store.index.replica(number, root) != record:
        return False
    if found != record.digest:
        return False
    good = replace(record, state=ReplicaState.CURRENT, verified_ns=time.time_ns())
    batch, path, name = store.batch(), store.path(number), store.roots[root].name
    batch.replica(number, root, good)
    store.event(batch, inode, Operation.UPDATE, "replicated", path=path, root=name, cause=Cause.MOVE)
    store.journal(batch, inode, "replicate", "it reads as it was verified", new=path or b"", new_root=name)
    store.index.apply(batch)
    return True
