"""Roots that are to be empty: the record, and what goes round them. `service.emptying` says how their files leave.

    drain ──► draining ──► drained ──► released        a file that turns up on its disk ──► draining again
                 └────────────┴────────────┴──► drain --stop

Nothing is brought to such a root. New files below its directory in the mount lie on another root from the start, and
names of what has left go on being changed when its disk is gone: they are in the index alone.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from fusestore.core.replicas import Candidate, choose
from fusestore.errors import InvalidRequest, RootDrained, RootOffline
from fusestore.index import schema
from fusestore.model import Cause, Drain, Layout, Operation
from fusestore.service import room

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, Kind, Owner, RootNo
    from fusestore.service.store import Store

log = structlog.get_logger()

OUTCOMES: Final = {"drain-started": "begun", "drain-stopped": "stopped", "drain-released": "released"}


# -- the record -------------------------------------------------------------------------------------------------------


def begin(store: Store, root: Driver, to: Iterable[Driver], owner: Owner) -> bool:
    """Record that a root is to be empty; False if it was already, and may use the same roots.

    Args:
        to: as for `check`.

    Raises:
        InvalidRequest: it is no resource root, or `to` names it, another such, or one that takes nothing.
    """
    chosen = check(store, root, to)
    known = store.drains.get(root.number)
    if known is not None and known.to == chosen:
        return False
    batch = store.batch(grows=True)
    _put(store, batch, root.number, Drain(owner.uid, owner.pid, time.time_ns(), chosen))
    _tell(store, batch, root, "drain-started", owner=owner)
    store.index.apply(batch)
    store.on_drain()
    return True


def check(store: Store, root: Driver, to: Iterable[Driver]) -> tuple[RootNo, ...]:
    """The numbers of the roots that are to take what is on `root`, if it can be drained to them; see `begin`.

    Args:
        to: none: those that were chosen before, or any.
    """
    if root.layout is not Layout.TREE:
        raise InvalidRequest(f"only resource roots can be drained, and {root.name} is none")
    to = tuple(to)
    for each in to:
        if each is root:
            raise InvalidRequest(f"{root.name} is the root that is to be emptied")
        if each.layout is not Layout.TREE or each.number in store.drains or each.read_only:
            raise InvalidRequest(f"nothing can be put on {each.name}")
    if not to and root.number in store.drains:
        return store.drains[root.number].to
    return tuple(each.number for each in to)


def stop(store: Store, root: Driver, owner: Owner) -> bool:
    """Record that a root is an ordinary one again; what has left it stays where it is. False if it was one."""
    if root.number not in store.drains:
        return False
    batch = store.batch()
    _put(store, batch, root.number, None)
    _tell(store, batch, root, "drain-stopped", owner=owner)
    store.index.apply(batch)
    store.on_retry(None)  # moves to it go on
    store.on_drain()
    return True


def finish(store: Store, root: Driver, proof: str) -> None:
    """Record that a root is empty, and what was found there."""
    batch = store.batch()
    _put(store, batch, root.number, replace(store.drains[root.number], finished_ns=time.time_ns(), proof=proof))
    _tell(store, batch, root, "drain-done", detail=proof)
    store.index.apply(batch)
    log.info("a root is drained", root=root.name, found=proof)


def release(store: Store, root: Driver, owner: Owner) -> bool:
    """Record that the disk of a root that is empty is let go of; `service.absence` does it. False if it was already.

    Raises:
        InvalidRequest: it is not empty, or somebody has a file open that was removed and lies nowhere else.
    """
    known = store.drains.get(root.number)
    if known is None or not known.finished_ns:
        raise InvalidRequest(f"{root.name} is not drained, and its disk is needed")
    if known.released_ns:
        return False
    if any(store.index.inode(file.number) is None for file in store.files.on(root)):
        raise InvalidRequest(f"a program has a file on {root.name} open that was removed, and there is no other copy")
    batch = store.batch()
    _put(store, batch, root.number, replace(known, released_ns=time.time_ns()))
    _tell(store, batch, root, "drain-released", owner=owner)
    store.index.apply(batch)
    return True


def is_released(store: Store, root: RootNo) -> bool:
    """Whether a root's disk is not to be touched, there or not."""
    return root in store.drains and store.drains[root].released_ns > 0


def found(store: Store, batch: Batch, root: Driver) -> None:
    """Add to a batch that a file turned up on a root's disk: one that is to be empty is not."""
    known = store.drains.get(root.number)
    if known is None:
        return
    if root.number in store.emptying:
        store.emptying[root.number].news += 1
    if known.finished_ns:
        _put(store, batch, root.number, replace(known, finished_ns=0, proof=""))
    batch.then(partial(_wake, store))


def _wake(store: Store) -> None:
    store.on_drain()


def _put(store: Store, batch: Batch, root: RootNo, record: Drain | None) -> None:
    def follow() -> None:
        if record is None or not record.finished_ns:
            store.emptying.pop(root, None)  # it is looked at anew
        if record is not None:
            store.drains[root] = record
        else:
            store.drains.pop(root, None)

    batch.meta(schema.drain_row(root), schema.DRAIN.pack(record) if record is not None else None)
    batch.then(follow)


def _tell(
    store: Store, batch: Batch, root: Driver, kind: Kind, *, owner: Owner | None = None, detail: str = ""
) -> None:
    top = store.inode(next(top for top, number in store.tops.items() if number == root.number))
    path, cause = store.path(top.number), None if owner is not None else Cause.MOVE
    store.event(batch, top, Operation.UPDATE, kind, path=path, root=root.name, cause=cause, owner=owner, detail=detail)
    outcome = detail or OUTCOMES[kind]
    store.journal(batch, top, "drain", outcome, old=path or b"", old_root=root.name, owner=owner)


# -- what goes round it -----------------------------------------------------------------------------------------------


def refuse(store: Store, root: Driver) -> None:
    """Refuse to bring anything to a root that is to be empty.

    Raises:
        RootDrained
    """
    if root.number in store.drains:
        raise RootDrained(root.name)


def takes(store: Store, root: Driver) -> bool:
    """Whether a root may be chosen for what has to lie somewhere."""
    return root.layout is Layout.TREE and root.online and not root.read_only and root.number not in store.drains


def haven(store: Store, root: Driver) -> Driver:
    """The root for a new file below a directory of one that is to be empty.

    Raises:
        RootDrained: there is none.
    """
    chosen = choose(candidates(store, store.drains[root.number].to), {root.device}, 1)
    if chosen is None:
        raise RootDrained(root.name)
    return store.roots[chosen]


def candidates(store: Store, to: tuple[RootNo, ...]) -> Iterator[Candidate]:
    """The roots that could take a copy now: those of `to`, or all if it is empty."""
    for root in store.roots.values():
        if not takes(store, root) or (to and root.number not in to):
            continue
        try:
            available = room.free(store, root, promised=False)
        except (OSError, RootOffline):
            continue
        yield Candidate(root.number, root.device, available)


def namable(store: Store, root: Driver, inode: Inode) -> Driver:
    """Refuse changes of an object's names below a root that cannot take them; see `Store.writable`.

    A file that has left a root has names there in the index alone.
    """
    if root.number in store.drains and inode.is_regular:
        spots = store.placement.spots(inode.number)
        if spots and spots[0].root != root.number:
            store.writable(store.roots[spots[0].root])
            return root
    return store.writable(root)
