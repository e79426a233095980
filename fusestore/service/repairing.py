"""A file whose bytes are found damaged gets those of a replica, without a change of name, id, version or times.

    damaged ─► a replica reads back as the file's hash ─► it is the place (one batch); the damaged bytes go
      ─► a move brings the content home, verified ─► the replica is made again

From the batch on the file reads well, whatever becomes of the rest. Without a good replica nothing is changed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from fusestore.errors import FusestoreError, RootOffline
from fusestore.model import Cause, Operation, Outcome, Replica, ReplicaState, Verified
from fusestore.service import moving, replicas, soundness, succeeding
from fusestore.service.discarding import carry_out
from fusestore.service.syncing import sync_all

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, RootNo
    from fusestore.service.arriving import Discards
    from fusestore.service.store import Store

log = structlog.get_logger()


async def repair(store: Store, number: InodeNo) -> bool:
    """Have a file that is known to be damaged read from a good replica from now on; False if it stays as it is."""
    try:
        return await _repair(store, number)
    except (OSError, FusestoreError) as error:
        log.warning("a damaged file is not repaired", inode=number, error=str(error))
        return False


async def _repair(store: Store, number: InodeNo) -> bool:
    inode = _damaged(store, number)
    for root, _ in list(replicas.readable(store, inode)) if inode is not None else ():
        driver = store.roots[root]
        try:
            discards = await _succeed(store, number, driver)
        except (OSError, RootOffline) as error:  # another disk may do better
            log.warning("a damaged file is not repaired from here", inode=number, source=driver.name, error=str(error))
            continue
        if discards is not None:
            log.info("a damaged file is repaired", inode=number, source=driver.name)
            await sync_all(store, [driver])
            carry_out(store, discards)
            store.on_move()
            return True
    return False


def _damaged(store: Store, number: InodeNo) -> Inode | None:
    inode = store.index.inode(number)
    return inode if inode is not None and soundness.unsound(store, inode) is not None else None


async def _succeed(store: Store, number: InodeNo, driver: Driver) -> Discards | None:
    """Make the replica on a root the place of a damaged file; None if it is no better, or nothing is damaged any more.

    Raises:
        InUse: somebody writes the file; Gone; RootOffline; OSError as the disks say.
    """
    good = driver.number
    inode = _damaged(store, number)
    if inode is None or not _is_of(store, inode, good) or not await succeeding.prove(store, inode, good):
        return None
    inode = _damaged(store, number)
    if inode is None or not _is_of(store, inode, good):
        return None
    bad = store.root_of(number)
    number_of_home = store.placement.home(number)

    def announce(batch: Batch, inode: Inode) -> None:
        batch.verified(number, Verified(time.time_ns(), inode.version, good, Outcome.SOUND, b""))
        store.forgetting.add(number)
        path, old = store.path(number) or b"", bad.name if bad is not None else ""
        said = f"repaired from the copy on {driver.name}"
        store.event(
            batch, inode, Operation.UPDATE, "mended", path=path, root=driver.name, old_root=old,
            cause=Cause.RECOVER, detail=said,
        )  # fmt: skip
        store.journal(batch, inode, "verify", said, new=path, old_root=old, new_root=driver.name)
        if number_of_home is None or number_of_home in store.drains or number_of_home == good:
            return
        batch.replica(number, good, Replica(ReplicaState.WANTED))  # when the place has left
        if moving.open_above(store, number) is None:
            moving.begin_again(store, batch, inode, store.roots[number_of_home], source=driver)

    return succeeding.succeed(store, number, good, announce, moved=True)


def _is_of(store: Store, inode: Inode, root: RootNo) -> bool:
    """Whether a replica was made of a file's content as its hash says it, and not of the damaged bytes."""
    record = store.index.replica(inode.number, root)
    return record is not None and (record.algorithm, record.digest) == (inode.hash_algorithm, inode.current_hash)
