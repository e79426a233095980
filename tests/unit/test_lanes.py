"""Who is next: places of the lane, places of each pair of roots, and turns between pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from fusestore.jobs.lanes import Lane
from fusestore.model import MoveNo

if TYPE_CHECKING:
    from collections.abc import Sequence

A, B, C = ("hot", "cold"), ("cold", "hot"), ("uploads", "hot")


def lane(places: int, per_pair: int, waiting: Sequence[tuple[str, str]]) -> Lane:
    """A lane with a move of each of these pairs, numbered from 1."""
    lane = Lane(places, per_pair)
    for number, pair in enumerate(waiting, 1):
        lane.put(MoveNo(number), pair)
    return lane


def all_that_enter(lane: Lane) -> list[int]:
    found = []
    while (move := lane.enter()) is not None:
        found.append(int(move))
    return found


def test_a_lane_that_gets_narrower_lets_nobody_in_until_enough_have_left() -> None:
    wide = lane(3, 3, [A, A, A, A])
    assert all_that_enter(wide) == [1, 2, 3]
    wide.resize(2, 2)
    wide.leave(MoveNo(1))
    assert all_that_enter(wide) == []
    wide.leave(MoveNo(2))
    assert all_that_enter(wide) == [4]


def test_first_come_first_served_up_to_the_number_of_places() -> None:
    two = lane(2, 2, [A, A, A])
    assert all_that_enter(two) == [1, 2]
    two.leave(MoveNo(1))
    assert all_that_enter(two) == [3]


def test_a_pair_whose_places_are_taken_holds_up_no_other() -> None:
    assert all_that_enter(lane(8, 2, [A, A, A, A, B, C])) == [1, 5, 6, 2]


def test_pairs_take_turns() -> None:
    one = lane(1, 1, [A, A, A, B, B])
    order = []
    while (move := one.enter()) is not None:
        order.append(move)
        one.leave(move)
    assert order == [1, 4, 2, 5, 3]


@given(st.lists(st.sampled_from([A, B, C])), st.integers(1, 4), st.integers(1, 4))
def test_everything_has_its_turn_once_and_in_the_order_of_its_pair(
    waiting: list[tuple[str, str]], places: int, per_pair: int
) -> None:
    some = lane(places, per_pair, waiting)
    inside: list[int] = []
    order: list[int] = []
    while True:
        entered = all_that_enter(some)
        order += entered
        inside += entered
        assert len(inside) <= places
        assert all([waiting[each - 1] for each in inside].count(pair) <= per_pair for pair in (A, B, C))
        if not inside:
            break
        some.leave(MoveNo(inside.pop(0)))
    assert sorted(order) == list(range(1, len(waiting) + 1))
    for pair in (A, B, C):
        of_pair = [each for each in order if waiting[each - 1] == pair]
        assert of_pair == sorted(of_pair)
