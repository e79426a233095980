"""Who gets a place among the connections, and who has to make room."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusestore.control.crowd import EACH, IDLE_S, KEPT, PLACES, make_room
from fusestore.control.methods import Role
from fusestore.errors import ControlError

pytestmark = pytest.mark.timeout(60)
NOW = 1000.0


class Guest(NamedTuple):
    uid: int
    role: Role
    idle_since: float | None


def crowd(count: int, uid: int = 1, role: Role = Role.READER, idle_since: float | None = None) -> list[Guest]:
    return [Guest(uid, role, idle_since) for _ in range(count)]


def users(count: int, role: Role = Role.READER) -> list[Guest]:
    """So many watchers of as many users as it takes."""
    return [Guest(100 + number // EACH, role, None) for number in range(count)]


def test_whoever_finds_a_free_place_sends_nobody_away() -> None:
    assert make_room(crowd(EACH - 1), 1, Role.READER, NOW) is None
    assert make_room(crowd(PLACES - 1, role=Role.ADMIN), 1, Role.ADMIN, NOW) is None


def test_one_user_keeps_no_other_out() -> None:
    with pytest.raises(ControlError, match="128 connections are open already, and none of them can make room"):
        make_room(crowd(EACH), 1, Role.READER, NOW)
    assert make_room(crowd(EACH), 2, Role.READER, NOW) is None
    assert make_room(crowd(EACH), 1, Role.OPERATOR, NOW) is None


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN])
def test_places_are_kept_for_operators_and_admins(role: Role) -> None:
    watchers = users(PLACES - KEPT)
    with pytest.raises(ControlError):
        make_room(watchers, 7, Role.ANYONE, NOW)
    assert make_room(watchers, 7, role, NOW) is None
    with pytest.raises(ControlError):
        make_room(watchers + crowd(KEPT, 0, Role.ADMIN), 7, role, NOW)


def test_the_one_that_was_idle_the_longest_makes_room_and_lower_roles_come_first() -> None:
    long, longer = Guest(0, Role.ADMIN, 20), Guest(0, Role.ADMIN, 10)
    low = Guest(5, Role.READER, 30)
    full = [*crowd(PLACES - 3, 0, Role.ADMIN), long, longer]
    assert make_room([*full, low], 0, Role.ADMIN, NOW) is low
    assert make_room([*full, Guest(5, Role.READER, None)], 0, Role.ADMIN, NOW) is longer


def test_nobody_makes_room_for_a_lower_role_or_before_it_is_idle_for_long() -> None:
    with pytest.raises(ControlError):
        make_room(crowd(PLACES, 0, Role.ADMIN, 0.0), 5, Role.OPERATOR, NOW)
    with pytest.raises(ControlError):
        make_room(crowd(PLACES, 0, Role.ADMIN, NOW - IDLE_S + 1), 0, Role.ADMIN, NOW)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(Role), st.booleans()), max_size=1500))
def test_no_crowd_that_is_idle_or_watches_below_operator_keeps_an_admin_out(
    comers: list[tuple[int, Role, bool]],
) -> None:
    present: list[Guest] = []
    for uid, role, watches in comers:
        guest = Guest(uid, role, None if watches and role < Role.OPERATOR else 0.0)
        try:
            leaving = make_room(present, uid, role, NOW)
        except ControlError:
            continue
        if leaving is not None:
            present.remove(leaving)
        present.append(guest)
        assert len(present) <= PLACES
    leaving = make_room(present, 0, Role.ADMIN, NOW)
    assert leaving is None or leaving.idle_since is not None
