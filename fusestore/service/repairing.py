"""A file whose bytes are found damaged gets those of a replica, without a change of name, id, version or times.

    damaged ─► a replica reads back as the file's hash ─► it is the place (one batch); the damaged bytes go
      ─► a move brings the content home, verified ─► the replica is made again

From the batch on the file reads well, whatever becomes of the rest. Without a good replica nothing is changed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from fusestore.errors import FusestoreError
from fusestore.model import Cause, Operation, Outcome, Replica, ReplicaState, Verified
from fusestore.service import moving, soundness, succeeding
from fusestore.service.discarding import carry_out
from fusestore.service.syncing import sync_all

if TYPE_CHECKING:
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo
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
    inode = store.index.inode(number)
    if inode is None or soundness.unsound(store, inode) is None:
        return False
    good = await succeeding.good_replica(store, inode)
    inode = store.index.inode(number)
    if good is None or inode is None or soundness.unsound(store, inode) is None:
        return False
    record = store.index.replica(number, good)
    if record is None or (record.algorithm, record.digest) != (inode.hash_algorithm, inode.current_hash):
        return False  # it was made of the damaged bytes
    driver, bad = store.roots[good], store.root_of(number)
    number_of_home = store.placement.home(number)

    def announce(batch: Batch, inode: Inode) -> None:
        batch.verified(number, Verified(time.time_ns(), inode.version, good, Outcome.SOUND, b""))
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

    discards = succeeding.succeed(store, number, good, announce, moved=True)
    log.info("a damaged file is repaired", inode=number, source=driver.name)
    await sync_all(store, [driver])
    carry_out(store, discards)
    store.on_move()
    return True
