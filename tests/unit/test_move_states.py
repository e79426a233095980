"""The life of a move is a table; these are the sentences it has to be."""

from __future__ import annotations

import msgspec
import pytest

from fusestore.core.moves import ACTIVE, OPEN, TRANSITIONS, MoveEvent, advance, eta_s, may
from fusestore.model import InodeNo, Move, MoveNo, MoveState


def move(state: MoveState) -> Move:
    return Move(MoveNo(1), InodeNo(256), bytes(16), "hot", "cold", b"a", b"b", 0, 0, 1, state=state)


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    reached = {MoveState.QUEUED} | {after for ways in TRANSITIONS.values() for after in ways.values()}
    assert set(TRANSITIONS) == set(MoveState) == reached


def test_what_is_over_stays_over() -> None:
    assert set(MoveState) - OPEN == {MoveState.DONE, MoveState.CANCELLED, MoveState.SUPERSEDED}
    for state in set(MoveState) - OPEN:
        for event in MoveEvent:
            with pytest.raises(ValueError, match="cannot be"):
                advance(move(state), event, now_ns=7)


@pytest.mark.parametrize("state", sorted(OPEN))
def test_whatever_is_open_can_be_overtaken_and_cancelled(state: MoveState) -> None:
    for event, end in ((MoveEvent.CANCELLED, MoveState.CANCELLED), (MoveEvent.OVERTAKEN, MoveState.SUPERSEDED)):
        ended = advance(move(state), event, now_ns=7)
        assert (ended.state, ended.finished_ns) == (end, 7)


def test_whatever_is_worked_on_can_arrive_and_be_paused() -> None:
    assert {state for state in MoveState if may(move(state), MoveEvent.ARRIVED)} == ACTIVE
    assert {state for state in MoveState if may(move(state), MoveEvent.PAUSED)} == ACTIVE


def test_what_is_paused_only_goes_on_when_somebody_resumes_it() -> None:
    assert OPEN - {MoveState.PAUSED} == ACTIVE
    goes_on = {event for event, after in TRANSITIONS[MoveState.PAUSED].items() if after in OPEN}
    assert goes_on == {MoveEvent.RESUMED}


def test_the_time_left_is_reckoned_from_the_last_start() -> None:
    carried = move(MoveState.QUEUED)
    carried.bytes_done, carried.bytes_total = 100, 300
    assert eta_s(carried, 5) is None
    advance(carried, MoveEvent.STARTED, now_ns=1_000_000_000)
    assert eta_s(carried, 2_000_000_000) is None
    carried.bytes_done = 150
    assert eta_s(carried, 2_000_000_000) == 3.0
    advance(carried, MoveEvent.PAUSED, now_ns=3_000_000_000)
    assert eta_s(carried, 4_000_000_000) is None


def test_a_record_of_before_is_readable() -> None:
    old = msgspec.msgpack.encode(
        [1, 256, b"i" * 16, "hot", "cold", b"a", b"b", 0, 0, 1, "waiting", "no room", 0, 3, 2, 9, 8]
    )
    read = msgspec.msgpack.decode(old, type=Move)
    assert (read.state, read.reason, read.bytes_done, read.held_up) == (MoveState.WAITING, "no room", 8, "")


@pytest.mark.parametrize("state", [MoveState.RUNNING, MoveState.WAITING])
def test_whatever_is_worked_on_can_be_held_up_and_says_why(state: MoveState) -> None:
    held = advance(move(state), MoveEvent.HELD_UP, reason="no room", now_ns=7)
    assert (held.state, held.reason, held.finished_ns) == (MoveState.WAITING, "no room", 0)
