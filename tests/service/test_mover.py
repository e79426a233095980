"""The mover as it runs: which moves it has in hand, when it comes back to those that wait, and who waits for it."""

from __future__ import annotations

import contextlib
import os
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from fusestore import daemon
from fusestore.core.moves import BUG, MoveEvent
from fusestore.daemon import keep_up
from fusestore.jobs import carrier, mover, walk
from fusestore.jobs.scrubber import Scrubber
from fusestore.jobs.waiting import LOOK_S
from fusestore.model import MoveNo, MoveState, Outside
from fusestore.roots import copy
from fusestore.service import moving
from fusestore.service.queries import Queries
from tests.support.byhand import by_hand, in_place, run
from tests.support.calls import ME
from tests.support.opened import Opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from fusestore.jobs.held import Held
    from fusestore.jobs.walk import Beside
    from fusestore.model import InodeNo, Move

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
    scrubber = Scrubber(opened.store)
    return Queries(opened.store, opened.path, opened.mover.running, trio.lowlevel.checkpoint, scrubber, lambda: None)


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


def test_a_bug_that_one_move_meets_does_not_hold_up_the_others(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, *others = files_on_their_way(opened, 3)
    bring = carrier.Carrier.bring

    async def stumble(self: carrier.Carrier, numbers: Sequence[InodeNo]) -> list[Held]:
        if opened.store.index.inode(numbers[0]) == opened.stat(f"{COLD}/0"):
            raise ZeroDivisionError
        return await bring(self, numbers)

    async def main() -> None:
        async with running(opened):
            await queries(opened).wait(None, lambda *figures: None)
            assert {state(opened, number) for number in others} == {MoveState.DONE}
            move = opened.store.index.move(bad)
            assert move is not None
            assert (move.state, move.reason) == (MoveState.WAITING, BUG)
            monkeypatch.undo()
            opened.store.on_retry(bad)
            await queries(opened).wait(None, lambda *figures: None)
            assert state(opened, bad) is MoveState.DONE

    monkeypatch.setattr(carrier.Carrier, "bring", stumble)
    with capture_logs() as logs:
        trio.run(main)
    assert {line["event"] for line in logs if line["log_level"] == "error"} == {"a bug in a move"}


@pytest.mark.parametrize("when", ["at once", "with moves in hand"])
def test_after_a_bug_the_mover_begins_anew(opened: Opened, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    moves = files_on_their_way(opened, 3)
    take_due = opened.mover._waiting.take_due
    looks = 0

    def stumble(now: float) -> list[MoveNo]:
        nonlocal looks
        looks += 1
        if looks == (1 if when == "at once" else 2):
            raise ZeroDivisionError
        return take_due(now)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_up, opened.mover.run)
            if when != "at once":
                await wait_all_tasks_blocked()
                opened.mover.wake()
            await queries(opened).wait(None, lambda *figures: None)
            assert {state(opened, number) for number in moves} == {MoveState.DONE}
            nursery.cancel_scope.cancel()

    monkeypatch.setattr(opened.mover._waiting, "take_due", stumble)
    monkeypatch.setattr(daemon, "AFTER_BUG_S", 0.1)
    with capture_logs() as logs:
        trio.run(main)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["a bug in a job"]


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

    async def watched(move: Move, beside: Beside) -> None:
        nonlocal most
        begun.append(move.number)
        most = max(most, len(opened.mover.running))
        await bring(move, beside)

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


def test_a_move_that_is_asked_for_is_tried_again_at_once_and_no_other(opened: Opened) -> None:
    with by_hand():
        for name in "ab":
            opened.write(f"{HOT}/{name}", b"mine")
        opened.settle()
        opened.names(COLD)
        for name in "ab":
            (opened.disks["cold"] / name).write_bytes(b"theirs")
            opened.rename(f"{HOT}/{name}", f"{COLD}/{name}")
    first, second = opened.store.index.moves(open_only=True)
    begun: list[MoveNo] = []
    bring = opened.mover.bring

    async def watched(move: Move, beside: Beside) -> None:
        begun.append(move.number)
        await bring(move, beside)

    opened.mover.bring = watched  # type: ignore[method-assign]

    async def main() -> None:
        async with running(opened):
            while len(begun) < 2 or opened.mover.running:
                await trio.lowlevel.checkpoint()
            del begun[:]
            for name in "ab":
                (opened.disks["cold"] / name).unlink()
            opened.store.on_retry(first.number)
            while state(opened, first.number) is not MoveState.DONE:
                await trio.lowlevel.checkpoint()
            assert begun == [first.number]
            opened.store.on_retry(second.number)
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


def test_whoever_waits_gives_what_held_a_move_up_one_more_try(opened: Opened) -> None:
    with by_hand():
        opened.write(f"{HOT}/a", b"mine")
        opened.settle()
        opened.names(COLD)
        (opened.disks["cold"] / "a").write_bytes(b"theirs")
        opened.rename(f"{HOT}/a", f"{COLD}/a")

    async def main() -> None:
        async with running(opened):
            number = opened.store.index.last_move
            for _ in range(3):
                answer = await queries(opened).wait(number, lambda *figures: None)
                assert [move["state"] for move in answer["moves"]] == ["waiting"]
            (opened.disks["cold"] / "a").unlink()  # the index says still that it waits
            assert state(opened, number) is MoveState.WAITING
            answer = await queries(opened).wait(number, lambda *figures: None)
            assert [move["state"] for move in answer["moves"]] == ["done"]

    trio.run(main)


def test_what_is_paused_in_hand_is_put_down_and_goes_on_when_it_is_resumed(opened: Opened) -> None:
    numbers = files_on_their_way(opened, 3)

    async def main() -> None:
        gate = Gate(opened, "cold")
        async with running(opened):
            await gate.reached.wait()
            assert len(await queries(opened).steer("pause", None, ME)) == 3
            gate.open()
            answer = await queries(opened).wait(None, lambda *figures: None)
            assert [move["reason"] for move in answer["moves"]] == ["paused"] * 3
            assert opened.on_disk("cold") == {}
            assert not opened.mover.running
            await queries(opened).steer("resume", None, ME)
            await queries(opened).steer("pause", numbers[0], ME)
            await queries(opened).steer("resume", numbers[0], ME)
            await queries(opened).wait(None, lambda *figures: None)
            assert {state(opened, number) for number in numbers} == {MoveState.DONE}

    trio.run(main)


def test_a_move_that_waited_is_running_once_its_bytes_flow(opened: Opened) -> None:
    (number,) = files_on_their_way(opened, 1)

    async def flow(move: Move, beside: Beside) -> None:
        moving.change(opened.store, move, MoveEvent.STARTED)
        moving.change(opened.store, move, MoveEvent.HELD_UP, "no room")
        move.bytes_done += 1
        for _ in range(3):
            await trio.sleep(0.2)
            move.bytes_done += 1
        assert (state(opened, number), move.state) == (MoveState.RUNNING, MoveState.RUNNING)
        moving.change(opened.store, move, MoveEvent.HELD_UP, "no room")

    opened.mover.bring = flow  # type: ignore[method-assign]

    async def main() -> None:
        async with running(opened):
            await trio.sleep(1)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    entries = opened.store.index.journal(opened.store.index.moves()[0].id)
    assert [entry.outcome for entry in entries if entry.outcome == "no room"] == ["no room"]


def test_a_move_without_room_is_tried_ever_more_rarely_and_soon_after_there_is_some(opened: Opened) -> None:
    with by_hand():
        opened.mkdir(f"{HOT}/d")
        opened.write(f"{HOT}/d/a", b"x")
        opened.rename(f"{HOT}/d", f"{COLD}/d")
        cold = opened.store.home_root(opened.find(COLD))
    whole, full = cold.space, cold.space()._replace(available=0)
    cold.space = lambda: full  # type: ignore[method-assign]
    tried: list[float] = []
    bring = opened.mover.bring

    async def watched(move: Move, beside: Beside) -> None:
        tried.append(trio.current_time())
        await bring(move, beside)

    opened.mover.bring = watched  # type: ignore[method-assign]

    async def main() -> None:
        await trio.sleep(3600)
        pauses = [round(later - earlier) for earlier, later in pairwise(tried)]
        assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
        assert set(pauses[7:]) == {60}
        cold.space = whole  # type: ignore[method-assign]
        await trio.sleep(LOOK_S)
        await wait_all_tasks_blocked()
        assert not opened.store.index.has_open_moves()

    with in_place():
        run(main, opened.mover.run)


def test_a_daemon_that_ends_does_not_wait_for_a_copy(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    with by_hand():
        opened.write(f"{HOT}/a", b"content")
        opened.settle()
        opened.rename(f"{HOT}/a", f"{COLD}/a")
    begun = threading.Event()

    def endless(*_: object, progress: Callable[[int], None], **__: object) -> None:
        begun.set()
        while True:
            progress(0)

    async def main() -> None:
        with monkeypatch.context() as patch, trio.fail_after(30):
            patch.setattr(copy, "copy_file", endless)
            async with running(opened) as nursery:
                await trio.to_thread.run_sync(begun.wait)
                nursery.cancel_scope.cancel()

    trio.run(main)
    (move,) = opened.store.index.moves(open_only=True)
    assert (move.state, move.reason) == (MoveState.RUNNING, "")
    with by_hand():
        opened.crash()
        opened.open()
        opened.rest()
    assert opened.on_disk("cold")["a"] == b"content"


# -- nobody waits behind something huge -------------------------------------------------------------------------------


class Slow:
    """Copies of files of at least so many bytes do not end until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        self._go = threading.Event()
        copy_file = copy.copy_file

        def slow(source: int, *where: Any, **how: Any) -> copy.CopyResult:
            if os.fstat(source).st_size >= size:
                assert self._go.wait(30)
            return copy_file(source, *where, **how)

        monkeypatch.setattr(copy, "copy_file", slow)

    def let_go(self) -> None:
        self._go.set()


def move_all(opened: Opened, *names: str, old: str = HOT, new: str = COLD) -> list[MoveNo]:
    with by_hand():
        for name in names:
            opened.rename(f"{old}/{name}", f"{new}/{name}")
    return [move.number for move in opened.store.index.moves(open_only=True)][-len(names) :]


async def all_done(opened: Opened, numbers: list[MoveNo]) -> None:
    while any(state(opened, number) is not MoveState.DONE for number in numbers):
        await trio.lowlevel.checkpoint()


def test_small_moves_do_not_wait_for_huge_files(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mover, "HANDFUL_BYTES", 1000)
    monkeypatch.setattr(walk, "HANDFUL_BYTES", 1000)
    slow = Slow(monkeypatch, 1000)
    with by_hand():
        for name in ("d", "e", "f", "small"):
            opened.mkdir(f"{HOT}/{name}")
            opened.write(f"{HOT}/{name}/a", b"x")
        for name in ("d/huge", "e/huge", "f/huge", "huge"):
            opened.write(f"{HOT}/{name}", bytes(1000))
        opened.write(f"{HOT}/a", b"x")
        opened.settle()
    huge = move_all(opened, "d", "e", "huge", "f")
    small = move_all(opened, "a", "small")

    async def main() -> None:
        async with running(opened):
            with trio.fail_after(20):
                await all_done(opened, small)
            assert {state(opened, number) for number in huge} <= {MoveState.RUNNING, MoveState.QUEUED}
            slow.let_go()
            await all_done(opened, huge)

    trio.run(main)


def test_small_moves_do_not_wait_for_trees_of_many_files(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "HANDFUL", 1)
    monkeypatch.setattr(mover, "SLICE_S", 0.0)
    with by_hand():
        for name in "def":
            opened.mkdir(f"{HOT}/{name}")
            for number in range(20):
                opened.write(f"{HOT}/{name}/{number}", b"x")
        for name in "abc":
            opened.write(f"{HOT}/{name}", b"x")
        opened.settle()
    trees = move_all(opened, *"def")
    small = move_all(opened, *"abc")
    ended: list[MoveNo] = []
    opened.store.index.on_events = lambda events: ended.extend(MoveNo(e.move) for e in events if e.kind == "moved")

    async def main() -> None:
        async with running(opened):
            await all_done(opened, trees + small)

    trio.run(main)
    assert sorted(ended[:3]) == small
    assert sorted(ended[3:]) == trees


def test_roots_that_are_slow_hold_up_only_what_goes_between_them(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch, 1000)
    with by_hand():
        opened.mover = mover.Mover(opened.store, 3, 2)
        for number in range(4):
            opened.write(f"{HOT}/{number}", bytes(1000))
        opened.write("uploads/a", b"x")
        opened.settle()
    stuck = move_all(opened, *"0123")
    other = move_all(opened, "a", old="uploads")

    async def main() -> None:
        async with running(opened):
            with trio.fail_after(20):
                await all_done(opened, other)
            assert len([number for number in stuck if number in opened.mover.running]) == 2
            slow.let_go()
            await all_done(opened, stuck)

    trio.run(main)


def test_what_waits_for_help_is_tried_ever_more_rarely(opened: Opened) -> None:
    with by_hand():
        opened.names(COLD)
        for number in range(5):
            opened.write(f"{HOT}/{number}", b"mine")
            (opened.disks["cold"] / f"{number}").write_bytes(b"theirs")
        opened.settle()
        for number in range(5):
            opened.rename(f"{HOT}/{number}", f"{COLD}/{number}")
    tries = 0
    bring = opened.mover.bring

    async def watched(move: Move, beside: Beside) -> None:
        nonlocal tries
        tries += 1
        await bring(move, beside)

    opened.mover.bring = watched  # type: ignore[method-assign]

    async def main() -> None:
        await trio.sleep(160)

    with in_place(), capture_logs():  # to render all these tracebacks would take ten seconds
        run(main, opened.mover.run)
    assert tries <= 5 * (4 + 160 / 8)
    with by_hand():
        for number in range(5):
            opened.unlink(f"{COLD}/{number}")
