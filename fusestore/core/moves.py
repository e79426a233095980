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
    STARTED = "started"  # or, of one that waited, bytes flow again
    HELD_UP = "held up"  # no room, a root offline, a conflict
    RETRIED = "tried again"  # because somebody asked; what waits is tried again by itself too, and waits meanwhile
    PAUSED = "paused"
    RESUMED = "resumed"
    CANCELLED = "cancelled"  # the object got its old name back
    ARRIVED = "arrived"
    OVERTAKEN = "overtaken"  # renamed to yet another root, removed or replaced


TRANSITIONS: Final[Mapping[MoveState, Mapping[MoveEvent, MoveState]]] = {
    MoveState.QUEUED: {
        MoveEvent.STARTED: MoveState.RUNNING,
        MoveEvent.ARRIVED: MoveState.DONE,
        MoveEvent.PAUSED: MoveState.PAUSED,
        MoveEvent.CANCELLED: MoveState.CANCELLED,
        MoveEvent.OVERTAKEN: MoveState.SUPERSEDED,
    },
    MoveState.RUNNING: {
        MoveEvent.STARTED: MoveState.RUNNING,  # again, after a restart
        MoveEvent.HELD_UP: MoveState.WAITING,
        MoveEvent.ARRIVED: MoveState.DONE,
        MoveEvent.PAUSED: MoveState.PAUSED,
        MoveEvent.CANCELLED: MoveState.CANCELLED,
        MoveEvent.OVERTAKEN: MoveState.SUPERSEDED,
    },
    MoveState.WAITING: {
        MoveEvent.STARTED: MoveState.RUNNING,
        MoveEvent.HELD_UP: MoveState.WAITING,
        MoveEvent.RETRIED: MoveState.QUEUED,
        MoveEvent.ARRIVED: MoveState.DONE,
        MoveEvent.PAUSED: MoveState.PAUSED,
        MoveEvent.CANCELLED: MoveState.CANCELLED,
        MoveEvent.OVERTAKEN: MoveState.SUPERSEDED,
    },
    MoveState.PAUSED: {  # nothing is done to it, not even to say that it has arrived
        MoveEvent.RESUMED: MoveState.QUEUED,
        MoveEvent.CANCELLED: MoveState.CANCELLED,
        MoveEvent.OVERTAKEN: MoveState.SUPERSEDED,
    },
    MoveState.DONE: {},
    MoveState.CANCELLED: {},
    MoveState.SUPERSEDED: {},
}

# What holds a move up and passes without anybody's help; any other reason needs an operator.
CHANGED: Final = "changed while it was copied"
ANOTHER_MOVE: Final = "on its way with another move"
NOT_ALL_THERE: Final = "some of its files are still on their way"
MISMATCH: Final = "the source does not match its recorded hash; nothing was changed"
PASSING: Final = frozenset({CHANGED, ANOTHER_MOVE, NOT_ALL_THERE})
NO_ROOM: Final = "no room"
NO_INODES: Final = "no inodes"
BUG: Final = "a bug in fusestore; the daemon's log has more"

OPEN: Final = frozenset(state for state, ways in TRANSITIONS.items() if ways)
ACTIVE: Final = OPEN - {MoveState.PAUSED}  # what the mover works on


def may(move: Move, event: MoveEvent) -> bool:
    """Whether the table has such a step."""
    return event in TRANSITIONS[move.state]


def advance(move: Move, event: MoveEvent, *, reason: str = "", now_ns: int) -> Move:
    """Change `move.state` as the table says and return it.

    Raises:
        ValueError: the table has no such step; a bug, never a user's doing.
    """
    if not may(move, event):
        raise ValueError(f"a move that is {move.state.value} cannot be {event.value}")
    move.state = TRANSITIONS[move.state][event]
    move.reason = reason
    if event is MoveEvent.HELD_UP:
        move.held_up = reason
    if event is MoveEvent.STARTED:
        move.started_ns, move.started_bytes = now_ns, move.bytes_done
    if move.state not in OPEN:
        move.finished_ns = now_ns
    return move


def eta_s(move: Move, now_ns: int) -> float | None:
    """The seconds a running move still needs at the speed it has had since it was last started; None if unknown."""
    carried, elapsed_ns = move.bytes_done - move.started_bytes, now_ns - move.started_ns
    if move.state is not MoveState.RUNNING or carried <= 0 or elapsed_ns <= 0 or move.bytes_done > move.bytes_total:
        return None
    return (move.bytes_total - move.bytes_done) * elapsed_ns / carried / 1e9


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/moves.md."""
    lines = [f"    [*] --> {MoveState.QUEUED.value}: renamed to another root"]
    for state, ways in TRANSITIONS.items():
        lines += [f"    {state.value} --> {after.value}: {event.value}" for event, after in ways.items()]
    lines += [f"    {state.value} --> [*]" for state in TRANSITIONS if state not in OPEN]
    return "\n".join(["stateDiagram-v2", *lines])
