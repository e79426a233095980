"""The mover as it runs: which moves it has in hand, when it comes back to those that wait, and who waits for it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fusestore.model import MoveNo, MoveState, Outside
from fusestore.service.queries import Queries
from tests.support.byhand import by_hand
from tests.support.opened import Opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from fusestore.model import Move

pytestmark = pytest.mark.timeout(60)
HOT, COLD = "resources/hot", "resources/cold"


@pytest.fixture
def opened(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """Set up by hand; what the test itself does runs in trio."""
    with by_hand():
        opened = Opened(*devices, outside=Outside.NONE)
    try:
        yield opened
        with by_hand():
            opened.check()
            opened.close()
    finally:
        opened.remove()


@contextlib.asynccontextmanager
async def running(opened: Opened) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opened.mover.run)
        yield nursery
        nursery.cancel_scope.cancel()


def queries(opened: Opened) -> Queries:
    return Queries(opened.store, opened.path, opened.mover.running, trio.lowlevel.checkpoint, lambda: None)


def state(opened: Opened, number: MoveNo) -> MoveState:
    move = opened.store.index.move(number)
    assert move is not None
    return move.state


def files_on_their_way(opened: Opened, count: int) -> list[MoveNo]:
    """So many files whose names went from hot to cold, each with its move."""
    with by_hand():
        for number in range(count):
            opened.write(f"{HOT}/{number}", b"x")
        opened.settle()
        for number in range(count):
            opened.rename(f"{HOT}/{number}", f"{COLD}/{number}")
    return [move.number for move in opened.store.index.moves(open_only=True)]


class Gate:
    """Holds a root's next sync until it is let go."""

    def __init__(self, opened: Opened, root: str) -> None:
        self.reached = trio.Event()
        self._go = threading.Event()
        driver = next(each for each in opened.store.roots.values() if each.name == root)
        self._sync = driver.sync
        driver.sync = self._wait  # type: ignore[method-assign]

    def _wait(self) -> None:
        trio.from_thread.run_sync(self.reached.set)
        assert self._go.wait(30)
        self._sync()

    def open(self) -> None:
        self._go.set()


def test_nobody_is_told_that_all_is_over_while_a_copy_is_staged(opened: Opened) -> None:
    files_on_their_way(opened, 3)
    answers: list[object] = []

    async def wait_for_all() -> None:
        answers.append(await queries(opened).wait(None, lambda *figures: None))

    async def main() -> None:
        gate = Gate(opened, "cold")
        async with running(opened) as nursery:
            await gate.reached.wait()
            for number in range(3):
                opened.unlink(f"{COLD}/{number}")
            async with trio.open_nursery() as waiting:
                waiting.start_soon(wait_for_all)
                await wait_all_tasks_blocked()
                told = list(answers)
                gate.open()
            assert told == []
            assert answers != []
            assert opened.on_disk("cold") == opened.on_disk("hot") == {}
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_daemon_that_ends_throws_away_what_is_staged(opened: Opened) -> None:
    files_on_their_way(opened, 5)

    async def main() -> None:
        gate = Gate(opened, "cold")
        async with running(opened) as nursery:
            await gate.reached.wait()
            nursery.cancel_scope.cancel()
            gate.open()

    trio.run(main)
    assert opened.on_disk("cold") == {}


def test_no_more_moves_are_in_hand_than_there_are_workers(opened: Opened) -> None:
    numbers = files_on_their_way(opened, 12)
    begun: list[MoveNo] = []
    most = 0
    bring = opened.mover.bring

    async def watched(move: Move) -> None:
        nonlocal most
        begun.append(move.number)
        most = max(most, len(opened.mover.running))
        await bring(move)

    opened.mover.bring = watched  # type: ignore[method-assign]

    async def main() -> None:
        async with running(opened):
            await queries(opened).wait(None, lambda *figures: None)

    trio.run(main)
    assert sorted(begun) == numbers
    assert most == 2
    assert {state(opened, number) for number in numbers} == {MoveState.DONE}


def test_a_move_is_read_from_the_index_as_often_however_many_others_there_are(opened: Opened) -> None:
    numbers = files_on_their_way(opened, 40)
    index = opened.store.index
    listings = 0
    moves = index.moves

    def counted(open_only: bool = False) -> list[Move]:
        nonlocal listings
        listings += 1
        return moves(open_only)

    async def main() -> None:
        index.moves = counted  # type: ignore[method-assign]
        async with running(opened):
            while index.has_open_moves():
                await trio.lowlevel.checkpoint()

    trio.run(main)
    assert {state(opened, number) for number in numbers} == {MoveState.DONE}
    assert listings <= 1


def test_a_closed_writer_has_its_own_move_tried_again_at_once_and_no_other(opened: Opened) -> None:
    with by_hand():
        handles = [opened.create(f"{HOT}/{name}") for name in "ab"]
        for name in "ab":
            opened.rename(f"{HOT}/{name}", f"{COLD}/{name}")
    first, second = opened.store.index.moves(open_only=True)
    begun: list[MoveNo] = []
    bring = opened.mover.bring

    async def watched(move: Move) -> None:
        begun.append(move.number)
        await bring(move)

    opened.mover.bring = watched  # type: ignore[method-assign]

    async def main() -> None:
        async with running(opened):
            while len(begun) < 2 or opened.mover.running:
                await trio.lowlevel.checkpoint()
            del begun[:]
            opened.release(handles[0])
            while state(opened, first.number) is not MoveState.DONE:
                await trio.lowlevel.checkpoint()
            assert begun == [first.number]
            opened.release(handles[1])
            while opened.store.index.has_open_moves():
                await trio.lowlevel.checkpoint()
            assert begun == [first.number, second.number]

    trio.run(main, clock=MockClock())


def test_what_waits_is_tried_again_by_and_by(opened: Opened) -> None:
    with by_hand():
        opened.write(f"{HOT}/a", b"mine")
        opened.settle()
        opened.names(COLD)
        (opened.disks["cold"] / "a").write_bytes(b"theirs")
        opened.rename(f"{HOT}/a", f"{COLD}/a")

    async def main() -> None:
        async with running(opened):
            answer = await queries(opened).wait(None, lambda *figures: None)
            assert [move["state"] for move in answer["moves"]] == ["waiting"]
            (opened.disks["cold"] / "a").unlink()
            while opened.store.index.has_open_moves():
                await trio.lowlevel.checkpoint()

    trio.run(main)
    assert opened.on_disk("cold") == {"a": b"mine"}
