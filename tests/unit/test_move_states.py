"""The life of a move is a table; these are the sentences it has to be."""

from __future__ import annotations

import pytest

from fusestore.core.moves import OPEN, TRANSITIONS, MoveEvent, advance
from fusestore.model import InodeNo, Move, MoveNo, MoveState


def move(state: MoveState) -> Move:
    return Move(MoveNo(1), InodeNo(256), bytes(16), "hot", "cold", b"a", b"b", 0, 0, 1, state=state)


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    reached = {MoveState.QUEUED} | {after for ways in TRANSITIONS.values() for after in ways.values()}
    assert set(TRANSITIONS) == set(MoveState) == reached


def test_what_is_over_stays_over() -> None:
    assert set(MoveState) - OPEN == {MoveState.DONE, MoveState.SUPERSEDED}
    for state in set(MoveState) - OPEN:
        for event in MoveEvent:
            with pytest.raises(ValueError, match="cannot be"):
                advance(move(state), event, now_ns=7)


@pytest.mark.parametrize("state", sorted(OPEN))
def test_whatever_is_open_can_arrive_and_be_overtaken(state: MoveState) -> None:
    for event, end in ((MoveEvent.ARRIVED, MoveState.DONE), (MoveEvent.OVERTAKEN, MoveState.SUPERSEDED)):
        ended = advance(move(state), event, now_ns=7)
        assert (ended.state, ended.finished_ns) == (end, 7)


@pytest.mark.parametrize("state", [MoveState.RUNNING, MoveState.WAITING])
def test_whatever_is_worked_on_can_be_held_up_and_says_why(state: MoveState) -> None:
    held = advance(move(state), MoveEvent.HELD_UP, reason="no room", now_ns=7)
    assert (held.state, held.reason, held.finished_ns) == (MoveState.WAITING, "no room", 0)
