"""What an operator does with moves that are under way: pause, resume, retry; `service.cancelling` takes one back.

Each is one step of the table in `core.moves`, recorded, announced and written into the object's history in one batch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import trio

from fusestore.core.moves import MoveEvent, may
from fusestore.errors import MoveRefused, NoMove
from fusestore.model import MoveNo
from fusestore.service import moving

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.model import InodeNo, Move, Owner
    from fusestore.service.store import Store

AT_ONCE: Final = 20  # moves, some 4 ms of the event loop
PAUSED: Final = "paused"  # the reason that is shown


def numbered(store: Store, number: int) -> Move:
    """The move of a number.

    Raises:
        NoMove
    """
    move = store.index.move(MoveNo(number))
    if move is None:
        raise NoMove(number)
    return move


def move_of(store: Store, number: InodeNo) -> Move:
    """The move of an object, which it must be at the top of: a directory's is steered as a whole.

    Raises:
        NoMove
    """
    move = moving.open_above(store, number)
    name = repr(os.fsdecode(store.path(number) or b""))
    if move is None:
        raise NoMove(f"{name} is not on its way")
    if move.inode != number:
        raise NoMove(f"{name} is on its way with {os.fsdecode(move.path)!r}, which is move {move.number}")
    return move


def latest_of(store: Store, number: InodeNo) -> Move:
    """The move that an object is on its way with, or the last one that it had.

    Raises:
        NoMove
    """
    move = moving.open_above(store, number)
    if move is not None:
        return move
    last = max((entry.move for entry in store.index.journal(store.inode(number).id)), default=0)
    move = store.index.move(MoveNo(last))
    if move is None:
        raise NoMove(f"{os.fsdecode(store.path(number) or b'')!r} was never on its way")
    return move


def pause(store: Store, move: Move, owner: Owner) -> None:
    """Stop a move at its next safe point, until it is resumed; restarts do not matter.

    Raises:
        MoveRefused
    """
    _check(move, MoveEvent.PAUSED)
    moving.change(store, moving.current(store, move), MoveEvent.PAUSED, PAUSED, owner=owner)


def resume(store: Store, move: Move, owner: Owner) -> None:
    """Let a paused move go on.

    Raises:
        MoveRefused
    """
    _check(move, MoveEvent.RESUMED)
    moving.change(store, move, MoveEvent.RESUMED, owner=owner)
    store.on_retry(move.number)


def retry(store: Store, move: Move, owner: Owner) -> None:
    """Try a move that waits now; one that is just being tried, once more.

    Raises:
        MoveRefused
    """
    _check(move, MoveEvent.RETRIED)
    if move.number not in store.running:
        moving.change(store, move, MoveEvent.RETRIED, owner=owner)
    store.on_retry(move.number)


# What an operator can do to a move, and the step that it takes.
VERBS: Final[dict[str, tuple[MoveEvent, Callable[[Store, Move, Owner], None]]]] = {
    "pause": (MoveEvent.PAUSED, pause),
    "resume": (MoveEvent.RESUMED, resume),
    "retry": (MoveEvent.RETRIED, retry),
}


async def steer_all(store: Store, verb: str, owner: Owner) -> list[MoveNo]:
    """Do one of these to every open move that can take the step; returns those."""
    event, do = VERBS[verb]
    done: list[MoveNo] = []
    for number in store.index.open_numbers():
        move = store.index.move(number)
        if move is not None and may(move, event):
            do(store, move, owner)
            done.append(number)
            if len(done) % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
    return done


def _check(move: Move, event: MoveEvent) -> None:
    if not may(move, event):
        raise MoveRefused(f"move {move.number} is {move.state}, and cannot be {event.value}")
