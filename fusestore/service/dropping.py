"""Giving one copy of a file up: a replica goes, or its place does and a replica becomes the place.

The last good copy goes only by force. A copy is good when it reads back as it was recorded; whichever stays is read
once more before another one goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog
import trio

from fusestore.errors import FusestoreError, InUse, LastCopy, NotFound
from fusestore.model import Operation, ReplicaState, State
from fusestore.service import keeping, removing, replicas, reserving, succeeding, verifying, walking
from fusestore.service.discarding import carry_out
from fusestore.service.syncing import sync_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, Owner, RootNo
    from fusestore.service.store import Store

log = structlog.get_logger()


class Dropped(NamedTuple):
    """What came of it.

    Attributes:
        dropped: files that have one copy less.
        removed: files that are gone, because that was their last good copy.
        refused: why others were left alone, by path.
    """

    dropped: int
    removed: int
    refused: dict[bytes, str]


async def drop(
    store: Store,
    top: InodeNo,
    root: Driver,
    *,
    force_last: bool,
    owner: Owner,
    report: Callable[[int], None],
    path: bytes = b"",
) -> Dropped:
    """Give up the copies on `root` of a file, or of every file below a directory.

    Args:
        report: called with the number of files looked at so far.
        path: what the caller calls `top`, which may have other names; b"" for any of them.

    Raises:
        NotFound, LastCopy, InUse, RootOffline, OSError: of a single file; below a directory such files are refused.
    """
    if not store.inode(top).is_dir:
        removed = int(await drop_file(store, top, root, force_last=force_last, owner=owner, path=path))
        return Dropped(1 - removed, removed, {})
    counts = {False: 0, True: 0}
    refused: dict[bytes, str] = {}
    for position, inode in enumerate(walking.below(store, top), 1):
        await trio.lowlevel.checkpoint()
        report(position)
        if not inode.is_regular or not has_copy(store, inode.number, root.number):
            continue
        here = walking.path_below(store, inode.number, top)
        try:
            counts[await drop_file(store, inode.number, root, force_last=force_last, owner=owner, path=here)] += 1
        except (OSError, FusestoreError) as error:
            refused[here] = str(error)
    return Dropped(counts[False], counts[True], refused)


def has_copy(store: Store, number: InodeNo, root: RootNo) -> bool:
    """Whether a file's place or a replica of it, of whatever state, is on a root."""
    return _is_placed(store, number, root) or store.index.replica(number, root) is not None


def _is_placed(store: Store, number: InodeNo, root: RootNo) -> bool:
    return any(spot.root == root for spot in store.placement.spots(number))


async def drop_file(
    store: Store, number: InodeNo, root: Driver, *, force_last: bool, owner: Owner, path: bytes = b""
) -> bool:
    """Give up a file's copy on `root`; returns whether the file went with it.

    Args:
        path: what errors call the file; b"" for any of its names.

    Raises:
        NotFound: there is none; LastCopy; InUse: it is being written; RootOffline; OSError as the disks say.
    """
    inode = store.inode(number)
    path = path or store.path(number) or b""
    if store.index.replica(number, root.number) is not None:
        if not force_last and _counts(store, number, root.number):
            other = await _other_good_copy(store, inode, root.number)
            # It is proven; but whoever drops that one at the same time may have relied on this one.
            if other is None or not replicas.is_good(store, number, other):
                raise LastCopy(root.name, path)
        _drop_replica(store, store.inode(number), root, owner)
        return False
    if not _is_placed(store, number, root.number):
        raise NotFound(f"no copy of it is on {root.name}")
    if store.files.has_writer(number) or inode.state is State.WRITING:
        raise InUse(path)
    successor = await succeeding.good_replica(store, inode)
    if successor is None:
        if not force_last:
            raise LastCopy(root.name, path)
        _remove(store, store.inode(number), root, owner)
        return True
    driver = store.roots[successor]

    def announce(batch: Batch, inode: Inode) -> None:
        _tell(store, batch, inode, driver, root, owner)

    if not _is_placed(store, number, root.number):
        raise InUse(path)
    discards = succeeding.succeed(store, number, successor, announce)
    await sync_all(store, [driver])
    carry_out(store, discards)
    return False


def _counts(store: Store, number: InodeNo, root: RootNo) -> bool:
    """Whether a replica is one of the good copies."""
    record = store.index.replica(number, root)
    return record is not None and record.state is ReplicaState.CURRENT


async def _other_good_copy(store: Store, inode: Inode, root: RootNo) -> RootNo | None:
    """Another root whose copy reads back as this one's replica was verified; the file itself is read for that, too."""
    record, place = store.index.replica(inode.number, root), store.root_of(inode.number)
    try:
        found = await verifying.read_at_once(store, store.place(inode.number), record.algorithm) if record else b""
        if record is not None and place is not None and found == record.digest:
            return place.number
    except (OSError, FusestoreError) as error:
        log.debug("the place cannot be read", inode=inode.number, error=str(error))
    return await succeeding.good_replica(store, inode, but=root)


def _drop_replica(store: Store, inode: Inode, root: Driver, owner: Owner) -> None:
    batch = store.batch()
    discards = replicas.give_up(store, batch, inode, root.number)
    _tell(store, batch, inode, store.root_of(inode.number), root, owner)
    store.index.apply(batch)
    carry_out(store, discards)


def _tell(store: Store, batch: Batch, inode: Inode, place: Driver | None, root: Driver, owner: Owner) -> None:
    """Add to a batch that the copy on `root` is given up, and the file is at `place`."""
    name, path = place.name if place is not None else "", store.path(inode.number)
    store.event(batch, inode, Operation.UPDATE, "dropped", path=path, root=name, old_root=root.name, owner=owner)
    store.journal(batch, inode, "drop", new=path or b"", old_root=root.name, new_root=name, owner=owner)
    keeping.consider(store, batch, inode, store.placement.home(inode.number))


def _remove(store: Store, inode: Inode, root: Driver, owner: Owner) -> None:
    """The last good copy goes, and with it the file, as by rm.

    Raises:
        RootOffline; OSError as the disk says.
    """
    store.place(inode.number)  # an offline root refuses, and a reservation, before history speaks of it
    reserving.check(store, inode.number, store.path(inode.number) or b"")
    batch = store.batch()
    path = store.path(inode.number) or b""
    store.journal(batch, inode, "drop", "forced: it was the last good copy", old=path, old_root=root.name, owner=owner)
    store.index.apply(batch)
    for parent, name in store.index.parents(inode.number):
        removing.unlink(store, parent, name, owner)
