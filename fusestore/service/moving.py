"""Moves as records: begun by a rename across roots, ended when everything below the object is home.

`jobs.mover` does the work; here is what it, the rename and the queries agree on.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fusestore.core.moves import ACTIVE, OPEN, MoveEvent, advance
from fusestore.core.placement import are_same
from fusestore.model import Cause, Move, MoveState, Operation
from fusestore.service import room, walking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, Kind, Owner, Spot
    from fusestore.service.store import Store

LOOK_NS: Final = 3_000_000


def follow(
    store: Store,
    batch: Batch,
    inode: Inode,
    names: Sequence[tuple[InodeNo, bytes]],
    spots: tuple[Spot, ...],
    old_home: Driver,
    home: Driver,
    old_path: bytes,
    path: bytes,
    owner: Owner | None,
) -> bool:
    """Add to a rename's batch what it means for moves, and its line of history.

    Args:
        names, spots: what the inode has after the rename.

    Returns:
        whether there is work for the mover.
    """
    number = inode.number
    crossing = old_home is not home
    open_moves = store.index.open_moves_of(number) if store.index.has_open_moves() else []
    at_home = are_same(spots, store.placement.home_spots_of(names, spots))
    cancelled = [move for move in open_moves if crossing and move.old_path == path]
    for move in open_moves if crossing else ():
        if move in cancelled:
            _cancel(store, batch, move, inode, old_path, home, owner)
        else:
            step(store, batch, move, MoveEvent.OVERTAKEN, reason=f"renamed on to {home.name}")
    if cancelled and at_home and not (inode.is_dir and _has_begun(store, number)):
        return False
    # What is in a directory may be left behind, or left out: by a move that had begun, by hard links to names outside.
    needed = not at_home or (inode.is_dir and (crossing or is_scattered(store, number)))
    if not crossing and home.number in store.drains and spots[0].root != home.number:
        needed = False  # it has left
    if not crossing and (not needed or open_moves):
        store.journal(
            batch, inode, "rename", old=old_path, new=path, old_root=home.name, new_root=home.name, owner=owner
        )
        return needed
    source = store.roots[spots[0].root] if needed else old_home
    move = _begin(store, batch, inode, source, home, old_path, path, owner)
    # What rename(2) has brought home has arrived when no power cut can take it back.
    _queue(store, batch, move, inode, home, needs_room=needed)
    return True


def _cancel(
    store: Store, batch: Batch, move: Move, inode: Inode, old_path: bytes, home: Driver, owner: Owner | None
) -> None:
    """Add to the batch of a rename that it gives an object the name back which it had before a move."""
    step(store, batch, move, MoveEvent.CANCELLED, path=move.old_path)
    store.journal(
        batch,
        inode,
        "move",
        "cancelled",
        old=old_path,
        new=move.old_path,
        old_root=move.target,
        new_root=home.name,
        owner=owner,
        move=move.number,
    )


def _has_begun(store: Store, number: InodeNo) -> bool:
    """Whether anything below a directory on its way may lie elsewhere than the directory itself; a look of 3 ms."""
    deadline = time.monotonic_ns() + LOOK_NS
    for inode in walking.below(store, number):
        moved = inode.number != number and store.index.placement(inode.number) is not None
        if moved or (inode.is_dir and store.index.skeletons(inode.number)) or time.monotonic_ns() > deadline:
            return True
    return False


def is_scattered(store: Store, number: InodeNo) -> bool:
    """Whether a move that is not over goes through this directory, so that what is in it may lie on several roots.

    The move may be that of a directory above, which does not come by any more once this one is renamed away from there.
    """
    while store.index.has_open_moves():
        if store.index.open_moves_of(number):
            return True
        names = store.index.parents(number)
        if not names:
            break
        number = names[0][0]
    return False


def send_home(
    store: Store, batch: Batch, inode: Inode, names: Sequence[tuple[InodeNo, bytes]], spots: tuple[Spot, ...]
) -> bool:
    """Add to a batch the move of an inode that has lost the name which kept its bytes where they are.

    Returns:
        whether there is work for the mover.
    """
    wanted = store.placement.home_spots_of(names, spots)
    if are_same(spots, wanted) or store.index.open_moves_of(inode.number):
        return False
    path = store.join(*names[0]) or b""
    home = store.roots[wanted[0].root]
    if home.number in store.drains:
        return False
    move = _begin(store, batch, inode, store.roots[spots[0].root], home, path, path, None)
    _queue(store, batch, move, inode, home)
    return True


def begin_again(store: Store, batch: Batch, inode: Inode, home: Driver, *, source: Driver | None = None) -> None:
    """Add to a batch a move of what is on its way without one.

    Args:
        source: where its bytes are once the batch is applied, if they are not there yet.
    """
    spots = store.placement.spots(inode.number)
    source = source or (store.roots[spots[0].root] if spots else home)
    path = store.path(inode.number) or b""
    _queue(store, batch, _begin(store, batch, inode, source, home, path, path, None), inode, home)


def _begin(
    store: Store,
    batch: Batch,
    inode: Inode,
    source: Driver,
    target: Driver,
    old_path: bytes,
    path: bytes,
    owner: Owner | None,
) -> Move:
    move = Move(
        number=store.index.new_move(),
        inode=inode.number,
        id=inode.id,
        source=source.name,
        target=target.name,
        old_path=old_path,
        path=path,
        uid=owner.uid if owner else -1,
        pid=owner.pid if owner else 0,
        created_ns=time.time_ns(),
    )
    store.journal(
        batch,
        inode,
        "move",
        "begun",
        old=old_path,
        new=path,
        old_root=source.name,
        new_root=target.name,
        owner=owner,
        move=move.number,
    )
    return move


def _queue(store: Store, batch: Batch, move: Move, inode: Inode, target: Driver, *, needs_room: bool = True) -> None:
    batch.move(move)
    size = room.needs(store, inode, target) if inode.is_regular and needs_room else 0
    batch.then(partial(store.reserved[target.number].promise, move.number, size))
    announce(store, batch, move, inode, TOLD[move.state], path=move.path)


def promise_again(store: Store) -> None:
    """Reserve the room that moves were promised before a restart."""
    roots = {root.name: root.number for root in store.roots.values()}
    for move in store.index.moves(open_only=True):
        inode = store.index.inode(move.inode)
        if inode is not None and inode.is_regular and move.target in roots:
            root = store.roots[roots[move.target]]
            size = 0 if store.placement.is_home(inode.number) else room.needs(store, inode, root)
            store.reserved[root.number].promise(move.number, size)


def current(store: Store, recorded: Move) -> Move:
    """A move as it is now: with the counts of whoever has it in hand."""
    held = store.running.get(recorded.number)
    return recorded if held is None or recorded.state not in OPEN else _with_counts(recorded, held)


def _with_counts(move: Move, held: Move) -> Move:
    return replace(
        move,
        files_total=held.files_total,
        files_done=held.files_done,
        bytes_total=held.bytes_total,
        bytes_done=held.bytes_done,
        started_bytes=held.started_bytes,
    )


def held_path(store: Store, move: Move) -> bytes | None:
    """The path of what holds a directory's move up; None where nothing does, or it is not known yet."""
    holding = store.holding.get(move.number) if move.state is MoveState.WAITING else None
    return store.path(holding) if holding is not None else None


def keep_counts(store: Store, held: Move) -> None:
    """Record how far a move has come that is not worked on any more, and not over."""
    recorded = store.index.move(held.number)
    if recorded is None or recorded.state not in OPEN:
        return
    counted = _with_counts(recorded, held)
    if counted != recorded:
        batch = store.batch()
        batch.move(counted)
        store.index.apply(batch)


def open_above(store: Store, number: InodeNo) -> Move | None:
    """The open move that an inode is on its way with: its own, or that of the nearest directory above; None at rest."""
    while store.index.has_open_moves():
        moves = store.index.open_moves_of(number)
        if moves:
            return current(store, moves[-1])
        names = store.index.parents(number)
        if not names:
            break
        number = names[0][0]
    return None


def overtake(store: Store, batch: Batch, number: InodeNo, *, reason: str) -> None:
    """Add to a batch that every open move of an inode has lost its goal."""
    if not store.index.has_open_moves():
        return
    for move in store.index.open_moves_of(number):
        step(store, batch, move, MoveEvent.OVERTAKEN, reason=reason)


def finish(store: Store, batch: Batch, move: Move, inode: Inode, path: bytes) -> None:
    """Add to a batch that a move has arrived at `path`."""
    move.files_done, move.bytes_done = move.files_total, move.bytes_total
    _record(store, batch, move, advance(replace(move), MoveEvent.ARRIVED, now_ns=time.time_ns()))
    store.journal(
        batch,
        inode,
        "move",
        "done",
        old=move.old_path,
        new=path,
        old_root=move.source,
        new_root=move.target,
        move=move.number,
    )
    announce(store, batch, move, inode, "moved", path=path)


TOLD: Final[Mapping[MoveState, Kind]] = {
    MoveState.QUEUED: "move-queued",
    MoveState.RUNNING: "move-running",
    MoveState.WAITING: "move-waiting",
    MoveState.PAUSED: "move-paused",
    MoveState.DONE: "moved",
    MoveState.CANCELLED: "move-cancelled",
    MoveState.SUPERSEDED: "move-superseded",
}


def change(store: Store, move: Move, event: MoveEvent, reason: str = "", *, owner: Owner | None = None) -> None:
    """Advance the state of a move and say so, in a batch of its own."""
    batch = store.batch()
    step(store, batch, move, event, reason=reason, owner=owner)
    if batch.rows:
        store.index.apply(batch)


def step(
    store: Store,
    batch: Batch,
    move: Move,
    event: MoveEvent,
    *,
    reason: str = "",
    path: bytes | None = None,
    owner: Owner | None = None,
) -> None:
    """Add a step of a move's life to a batch, with its event; nothing if it neither changes the state nor the reason.

    Every way to another state but `finish` leads through here. What a person asked for, and what a move waits for, are
    lines of the object's history too.
    """
    after = advance(replace(move), event, reason=reason, now_ns=time.time_ns())
    if (after.state, after.reason) == (move.state, move.reason):
        return
    _record(store, batch, move, after)
    inode = store.index.inode(move.inode)
    if inode is None:
        return
    announce(store, batch, move, inode, TOLD[after.state], path=path, detail=reason, owner=owner)
    if owner is not None or after.held_up != move.held_up:
        outcome = reason if after.state is MoveState.WAITING else event.value
        store.journal(batch, inode, "move", outcome, new_root=move.target, owner=owner, move=move.number)


def _record(store: Store, batch: Batch, move: Move, after: Move) -> None:
    """Add a move's next record to a batch; `move`, and the one in somebody's hands, follow once that is applied."""
    batch.move(after)
    batch.then(lambda: _follow(store, move, after))


def _follow(store: Store, move: Move, after: Move) -> None:
    held = store.running.get(move.number, move)
    for each in (move, held):
        # What was stopped in somebody's hands stays so there, whatever becomes of the move meanwhile.
        if each.state in ACTIVE:
            each.state, each.reason, each.finished_ns = after.state, after.reason, after.finished_ns
            each.started_ns, each.started_bytes, each.held_up = after.started_ns, after.started_bytes, after.held_up
    if after.state not in OPEN:  # it needs no room on its target any more
        for reserved in store.reserved.values():
            reserved.give_back(move.number)


def announce(
    store: Store,
    batch: Batch,
    move: Move,
    inode: Inode,
    kind: Kind,
    *,
    path: bytes | None = None,
    detail: str = "",
    owner: Owner | None = None,
) -> None:
    """Add an event about a move to a batch."""
    path = path or store.path(inode.number) or move.path
    store.event(
        batch,
        inode,
        Operation.UPDATE,
        kind,
        path=path,
        root=move.target,
        old_root=move.source,
        old_path=move.old_path if path != move.old_path else move.path,  # it went back
        cause=Cause.MOVE,
        owner=owner,
        move=move.number,
        detail=detail,
    )
