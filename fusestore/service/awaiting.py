"""Waiting for moves: which concern something, and when nothing is to be expected of them any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import trio

from fusestore.core.moves import ACTIVE, OPEN, PASSING
from fusestore.model import MoveState
from fusestore.service import moving, walking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from fusestore.model import InodeNo, Move, MoveNo
    from fusestore.service.store import Store
    from fusestore.service.verifying import Report

POLL_S: Final = 0.1  # between two looks at how far moves are; what is waited for is state, not an edge
LOOKING_SHARE: Final = 30  # and so many times as long as a look takes, because there may be thousands of moves


def concerned(store: Store, running: Mapping[MoveNo, Move], top: InodeNo | None) -> list[Move]:
    """The moves of what is below `top` or above it, None for all: open ones, and those that are in hand yet.

    Args:
        running: moves that a worker has in hand, those overtaken among them.
    """
    open_moves = {move.number: move for move in store.index.moves(open_only=True)}
    moves = [move for _, move in sorted({**running, **open_moves}.items())]
    if top is None:
        return moves
    return [move for move in moves if _is_within(store, move.inode, top) or _is_within(store, top, move.inode)]


def _is_within(store: Store, number: InodeNo, top: InodeNo) -> bool:
    return number == top or top in walking.above(store, number)


async def over(
    store: Store,
    running: Mapping[MoveNo, Move],
    waited_for: Iterable[Move],
    settled: Callable[[], Awaitable[None]],
    report: Report,
) -> list[Move]:
    """Wait until moves are over, with no copy of theirs left behind, or wait for an operator; returns how they ended.

    Args:
        running: moves being worked on, with live counts.
        settled: returns when no finished content waits to be made durable and hashed.
    """
    moves = {move.number: move for move in waited_for}
    going_on = set(moves)
    judged = _have_tried_again(store, running, moves.values())
    while True:
        await settled()
        began = time.monotonic()
        for number in going_on:
            moves[number] = moving.current(store, store.index.move(number) or moves[number])
        going_on = {each for each in going_on if each in running or moves[each].state in OPEN}
        report(
            sum(move.bytes_done for move in moves.values()),
            sum(move.bytes_total for move in moves.values()),
            "bytes",
        )
        if not any(number in running or _goes_on(store, moves[number], judged) for number in going_on):
            return list(moves.values())
        await trio.sleep(max(POLL_S, LOOKING_SHARE * (time.monotonic() - began)))


def _have_tried_again(store: Store, running: Mapping[MoveNo, Move], moves: Iterable[Move]) -> dict[MoveNo, int]:
    """How often each move must have been tried before its reason is believed: what held it up may have passed."""
    judged = {}
    for move in moves:
        judged[move.number] = store.tries[move.number] + 1
        if needs_help(move):
            # A try that is under way may have seen what is over by now.
            judged[move.number] += move.number in running
            store.on_retry(move.number)
    return judged


def _goes_on(store: Store, move: Move, judged: Mapping[MoveNo, int]) -> bool:
    """Whether a move may end by itself."""
    if move.state not in ACTIVE:
        return False
    return not needs_help(move) or store.tries[move.number] < judged.get(move.number, 0)


def needs_help(move: Move) -> bool:
    """Whether a move waits for something that does not pass by itself."""
    return move.state is MoveState.WAITING and move.reason not in PASSING
