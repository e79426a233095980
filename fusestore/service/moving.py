"""Moves as records: begun by a rename across roots, ended when everything below the object is home.

`jobs.mover` does the work; here is what it, the rename and the queries agree on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fusestore.core.moves import MoveEvent, advance
from fusestore.core.placement import are_same
from fusestore.errors import NoRoom
from fusestore.model import Cause, Move, MoveState, Operation
from fusestore.service import walking
from fusestore.service.store import Promise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, Owner, Spot
    from fusestore.service.store import Store

SIZE_BUDGET_NS: Final = 3_000_000  # how long a rename may look for the size of a directory


def check_room(store: Store, inode: Inode, target: Driver) -> None:
    """Refuse a rename whose bytes cannot fit on `target`.

    Exact for a file. For a directory what the index knows in 3 ms counts; a shortage that shows later makes the move
    wait.

    Raises:
        NoRoom
    """
    if not target.online:
        return
    needed = _known_size(store, inode)
    promised = sum(promise.left for promise in store.reserved[target.number].values())
    if needed > target.space().available - promised:
        raise NoRoom(target.name, f"{needed} bytes needed")


def _known_size(store: Store, inode: Inode) -> int:
    if not inode.is_dir:
        return inode.size if inode.is_regular else 0
    deadline = time.monotonic_ns() + SIZE_BUDGET_NS
    size = 0
    for each in walking.below(store, inode.number):
        if each.is_regular:
            size += each.size
        if time.monotonic_ns() > deadline:
            break
    return size


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
    if crossing:
        overtake(store, batch, number, reason=f"renamed on to {home.name}")
    # What is in a directory may be left behind, or left out: by a move that had begun, by hard links to names outside.
    needed = not at_home or (inode.is_dir and (crossing or is_scattered(store, number)))
    if not crossing and (not needed or open_moves):
        store.journal(
            batch, inode, "rename", old=old_path, new=path, old_root=home.name, new_root=home.name, owner=owner
        )
        return needed
    source = store.roots[spots[0].root] if needed else old_home
    move = _begin(store, batch, inode, source, home, old_path, path, owner)
    if needed:
        _queue(store, batch, move, inode, home)
    else:
        finish(store, batch, move, inode, path)
    return needed


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
    move = _begin(store, batch, inode, store.roots[spots[0].root], home, path, path, None)
    _queue(store, batch, move, inode, home)
    return True


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


def _queue(store: Store, batch: Batch, move: Move, inode: Inode, target: Driver) -> None:
    batch.move(move)
    size = inode.size if inode.is_regular else 0
    batch.then(lambda: store.reserved[target.number].update({move.number: Promise(size)}))
    announce(store, batch, move, inode, "queued", path=move.path)


def promise_again(store: Store) -> None:
    """Reserve the room that moves were promised before a restart."""
    roots = {root.name: root.number for root in store.roots.values()}
    for move in store.index.moves(open_only=True):
        inode = store.index.inode(move.inode)
        if inode is not None and inode.is_regular and move.target in roots:
            store.reserved[roots[move.target]][move.number] = Promise(inode.size)


def overtake(store: Store, batch: Batch, number: InodeNo, *, reason: str) -> None:
    """Add to a batch that every open move of an inode has lost its goal."""
    if not store.index.has_open_moves():
        return
    for move in store.index.open_moves_of(number):
        batch.move(advance(move, MoveEvent.OVERTAKEN, reason=reason, now_ns=time.time_ns()))
        _release_room(store, batch, move)


def finish(store: Store, batch: Batch, move: Move, inode: Inode, path: bytes) -> None:
    """Add to a batch that a move has arrived at `path`."""
    move.files_done, move.bytes_done = move.files_total, move.bytes_total
    batch.move(advance(replace(move), MoveEvent.ARRIVED, now_ns=time.time_ns()))
    _release_room(store, batch, move)
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


def change(store: Store, move: Move, event: MoveEvent, reason: str = "") -> None:
    """Advance the state of a move that goes on, and say so."""
    was = (move.state, move.reason)
    advance(move, event, reason=reason, now_ns=time.time_ns())
    if (move.state, move.reason) == was:
        return
    batch = store.batch()
    batch.move(move)
    inode = store.index.inode(move.inode)
    if inode is not None:
        announce(store, batch, move, inode, move.state.value, detail=reason)
        if move.state is MoveState.WAITING:
            store.journal(batch, inode, "move", reason, new_root=move.target, move=move.number)
    store.index.apply(batch)


def announce(
    store: Store, batch: Batch, move: Move, inode: Inode, kind: str, *, path: bytes | None = None, detail: str = ""
) -> None:
    """Add an event about a move to a batch."""
    store.event(
        batch,
        inode,
        Operation.UPDATE,
        kind if kind == "moved" else f"move-{kind}",
        path=path or store.path(inode.number) or move.path,
        root=move.target,
        old_root=move.source,
        old_path=move.old_path,
        cause=Cause.MOVE,
        move=move.number,
        detail=detail,
    )


def _release_room(store: Store, batch: Batch, move: Move) -> None:
    """Add to a batch that a move needs no room on its target any more."""

    def give_back() -> None:
        for promised in store.reserved.values():
            promised.pop(move.number, None)

    batch.then(give_back)
