"""Long work in pieces: of all who do some, one at a time goes on between two turns of the loop."""

from __future__ import annotations

import pytest
import trio

from fusestore.service import breath
from fusestore.service.breath import Breath
from tests.support.turns import Turns

pytestmark = pytest.mark.timeout(30)
PIECES = 5


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breath, "LONGEST_NS", -1)


async def test_of_many_one_goes_on_in_a_turn_of_the_loop() -> None:
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    pieces: list[tuple[int, str]] = []

    async def work(name: str, uid: int | None) -> None:
        taking = Breath(uid)
        for _ in range(PIECES):
            await taking.take()
            pieces.append((turns.count, name))

    async with trio.open_nursery() as nursery:
        for name in "abcdefgh":
            nursery.start_soon(work, name, None)
    at = [turn for turn, _ in pieces]
    assert len(set(at)) == len(at) == 8 * PIECES
    assert at[-1] - at[0] < 9 * PIECES  # and in hardly any turn does nobody
    assert {name for _, name in pieces[:8]} == set("abcdefgh")


async def test_a_user_with_many_at_work_leaves_half_of_it_to_another() -> None:
    order: list[int] = []

    async def work(uid: int) -> None:
        taking = Breath(uid)
        for _ in range(PIECES):
            await taking.take()
            order.append(uid)

    async with trio.open_nursery() as nursery:
        for uid in (1, 1, 1, 1, 1, 1, 1, 2):
            nursery.start_soon(work, uid)
    last_of_2 = max(place for place, uid in enumerate(order) if uid == 2)
    assert order[:last_of_2].count(1) <= PIECES + 2


async def test_who_is_cancelled_in_line_holds_nobody_up() -> None:
    done: list[int] = []

    async def work(number: int, scope: trio.CancelScope) -> None:
        taking = Breath()
        with scope:
            for _ in range(PIECES):
                await taking.take()
            done.append(number)

    scopes = [trio.CancelScope() for _ in range(6)]
    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(work, number, scope)
        await trio.lowlevel.checkpoint()
        for number in (0, 2, 3):
            scopes[number].cancel()
    assert sorted(done) == [1, 4, 5]
    assert not breath._line._waiting
    assert not breath._line._is_taken
