"""The replicas that a file has: which hold what they should, what is due of them, and how they go.

No name leads to a replica, so no rename touches it. That a write makes it stale follows in the batch that records the
new version (`index.batch`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from fusestore.core.placement import by_id
from fusestore.errors import FusestoreError, RootOffline
from fusestore.model import Cause, Operation, ReplicaState, RootNo
from fusestore.service.discarding import discard
from fusestore.service.places import is_object
from fusestore.service.restoring import YOUNG_NS
from fusestore.service.soundness import BROKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.core.intents import Discard
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, Replica
    from fusestore.service.places import At
    from fusestore.service.store import Store

log = structlog.get_logger()

ANY: Final = RootNo(0)  # where a copy goes is not chosen yet


# -- which there are --------------------------------------------------------------------------------------------------


def is_good(store: Store, number: InodeNo, root: RootNo) -> bool:
    """Whether a root has a file's place, or a current replica."""
    record = store.index.replica(number, root)
    placed = any(spot.root == root for spot in store.placement.spots(number))
    return placed or (record is not None and record.state is ReplicaState.CURRENT)


def roots_of(store: Store, number: InodeNo) -> set[RootNo]:
    """The roots where a file's place is, and will be."""
    roots = {spot.root for spot in store.placement.spots(number)}
    home = store.placement.home(number)
    return roots | {home} if home is not None else roots


def at_root(store: Store, inode: Inode, root: RootNo) -> At:
    """Where the copy on a root is, be it the file's place or a replica.

    Raises:
        RootOffline, NotFound.
    """
    spots = store.placement.spots(inode.number)
    own = next((spot for spot in spots if spot.root == root), by_id(root))
    return store.places.at(own, inode.number, inode.id)


def readable(store: Store, inode: Inode) -> Iterator[tuple[RootNo, At]]:
    """The current replicas within reach; see `reach`."""
    for root, record in store.index.replicas(inode.number):
        at = reach(store, inode, root, record) if record.state is ReplicaState.CURRENT else None
        if at is not None:
            yield root, at


def reach(store: Store, inode: Inode, root: RootNo, record: Replica) -> At | None:
    """Where a current replica is; None if its root is away, or it is not where it should be, which is recorded."""
    try:
        at = store.places.at(by_id(root), inode.number, inode.id)
        seen = at.driver.stat(at.directory, at.name)
        if record.backing is not None and is_object(at, record.backing) and seen.st_size == record.size:
            return at
        reason = "it is not the object that was verified"
    except RootOffline:
        return None
    except OSError as error:
        note_failure(store, inode, root, error)
        return None
    mark_bad(store, inode, root, reason)
    return None


# -- due --------------------------------------------------------------------------------------------------------------


def tell_due(store: Store, root: RootNo, number: InodeNo) -> None:
    """For `Batch.then`: a copy is due from here on."""
    store.on_due(root, number)


def settled(store: Store, number: InodeNo) -> None:
    """The content of a file has come to rest: what is due of it can be made now."""
    for root, record in store.index.replicas(number):
        if record.state is not ReplicaState.CURRENT:
            store.on_due(root, number)


def hold_up(store: Store, number: InodeNo, root: RootNo, reason: str) -> None:
    """Remember why a copy is not made, and say so when that is new."""
    inode = store.index.inode(number)
    if inode is None or store.troubles.get((number, root)) == reason:
        return
    store.troubles[number, root] = reason
    name = store.roots[root].name if root != ANY else ""
    log.info("a replica is not made", inode=number, root=name, reason=reason)
    batch = store.batch()
    path = store.path(number)
    store.event(batch, inode, Operation.UPDATE, "replica-held", path=path, root=name, detail=reason)
    store.index.apply(batch)


# -- bad, or not wanted any more --------------------------------------------------------------------------------------


def mark_bad(store: Store, inode: Inode, root: RootNo, reason: str, *, cause: Cause | None = None) -> None:
    """Record that a replica is not what was verified; it is made again.

    Args:
        cause: whose doing that is, where it is known.
    """
    record = store.index.replica(inode.number, root)
    if record is None or record.state is ReplicaState.BAD:
        return
    log.warning("a replica is bad", inode=inode.number, root=store.roots[root].name, reason=reason)
    batch = store.batch()
    batch.replica(inode.number, root, replace(record, state=ReplicaState.BAD))
    path, name = store.path(inode.number), store.roots[root].name
    cause = cause or _blame(store, record)
    store.event(batch, inode, Operation.UPDATE, "replica-bad", path=path, root=name, cause=cause, detail=reason)
    store.journal(batch, inode, "replicate", f"bad: {reason}", new=path or b"", new_root=name)
    batch.then(partial(tell_due, store, root, inode.number))
    try:
        store.index.apply(batch)
    except FusestoreError as error:  # whoever reads goes on all the same
        log.debug("a bad replica is not recorded", error=str(error))


def note_failure(store: Store, inode: Inode, root: RootNo, error: OSError) -> None:
    """A replica could not be read: record that it is bad, if its disk says that the bytes are gone."""
    if isinstance(error, FileNotFoundError):
        mark_bad(store, inode, root, "it is missing")
    elif error.errno in BROKEN:
        mark_bad(store, inode, root, error.strerror or str(error))
    else:
        log.info("a replica is out of reach", inode=inode.number, root=store.roots[root].name, error=str(error))


def _blame(store: Store, record: Replica) -> Cause:
    """Who has spoiled a replica: so young a one, a power cut may have."""
    is_young = record.verified_ns > store.index.lost_ns[0] - YOUNG_NS
    return Cause.RECOVER if store.index.lost and is_young else Cause.OUTSIDE


def give_up(store: Store, batch: Batch, inode: Inode, root: RootNo) -> list[tuple[int, Discard]]:
    """Add to a batch that a replica goes; pass the result to `carry_out` after `apply`."""
    record = store.index.replica(inode.number, root)
    if record is None:
        return []
    batch.replica(inode.number, root, None)
    if record.backing is None:
        return []
    return discard(store, batch, inode, (by_id(root),), backing=record.backing)


def give_way(store: Store, batch: Batch, inode: Inode, roots: set[RootNo]) -> None:
    """Add to a batch that the replicas on these roots go, because the file's place comes there."""
    if not any(store.index.replica(inode.number, root) for root in roots):
        return
    discards = [each for root in roots for each in give_up(store, batch, inode, root)]
    batch.then(lambda: store.on_replaced(discards))
    if store.copies:
        batch.due(ANY, inode.number)  # there is one copy less
        batch.then(partial(tell_due, store, ANY, inode.number))
