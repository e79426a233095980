"""The life of a move.

A move is a goal, "bring everything below this inode home", not a script: it can be interrupted anywhere and begun
again, because each step is decided from what the index says at that moment. Its state says only what an operator must
know. The whole life is this table; there is no other way to change a move's state.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from fusestore.model import Move, MoveState

if TYPE_CHECKING:
    from collections.abc import Mapping


class MoveEvent(Enum):
    STARTED = "started"
    HELD_UP = "held up"  # a writer, no room, a root offline, a conflict
    ARRIVED = "arrived"
    OVERTAKEN = "overtaken"  # renamed to yet another root, removed or replaced


TRANSITIONS: Final[Mapping[MoveState, Mapping[MoveEvent, MoveState]]] = {
    MoveState.QUEUED: {
        MoveEvent.STARTED: MoveState.RUNNING,
        MoveEvent.ARRIVED: MoveState.DONE,
        MoveEvent.OVERTAKEN: MoveState.SUPERSEDED,
    },
    MoveState.RUNNING: {
        MoveEvent.STARTED: MoveState.RUNNING,  # again, after a restart
        MoveEvent.HELD_UP: MoveState.WAITING,
        MoveEvent.ARRIVED: MoveState.DONE,
        MoveEvent.OVERTAKEN: MoveState.SUPERSEDED,
    },
    MoveState.WAITING: {  # it is tried again and again, and goes on waiting until it gets through
        MoveEvent.HELD_UP: MoveState.WAITING,
        MoveEvent.ARRIVED: MoveState.DONE,
        MoveEvent.OVERTAKEN: MoveState.SUPERSEDED,
    },
    MoveState.DONE: {},
    MoveState.SUPERSEDED: {},
}

# What holds a move up and passes without anybody's help; any other reason needs an operator.
OPEN_FOR_WRITING: Final = "open for writing"
CHANGED: Final = "changed while it was copied"
ANOTHER_MOVE: Final = "on its way with another move"
NOT_ALL_THERE: Final = "some of its files are still on their way"
PASSING: Final = frozenset({OPEN_FOR_WRITING, CHANGED, ANOTHER_MOVE, NOT_ALL_THERE})

OPEN: Final = frozenset(state for state, ways in TRANSITIONS.items() if ways)


def advance(move: Move, event: MoveEvent, *, reason: str = "", now_ns: int) -> Move:
    """Change `move.state` as the table says and return it.

    Raises:
        ValueError: the table has no such step; a bug, never a user's doing.
    """
    following = TRANSITIONS[move.state].get(event)
    if following is None:
        raise ValueError(f"a move that is {move.state.value} cannot be {event.value}")
    move.state = following
    move.reason = reason
    if following not in OPEN:
        move.finished_ns = now_ns
    return move
