"""The drainer as it runs beside replicator and mover: it needs no help, and does not go on when it is not wanted."""

from __future__ import annotations

import contextlib
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from fusestore.core.moves import BUG
from fusestore.core.ports import Space
from fusestore.jobs import drainer
from fusestore.jobs.scrubber import Scrubber
from fusestore.model import Outside
from fusestore.service import dropping, emptying, replicating
from fusestore.service.queries import Queries
from tests.support.byhand import by_hand, in_place
from tests.support.opened import Opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from fusestore.core.ports import Driver
    from fusestore.service.store import Store

pytestmark = pytest.mark.timeout(60)
HOT = "resources/hot"


@pytest.fixture
def opened(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """hot/f0 to hot/f19, at rest; what the test itself does runs in trio."""
    with by_hand():
        opened = Opened(*devices, outside=Outside.NONE)
        for number in range(20):
            opened.write(f"{HOT}/f{number}", b"%d" % number * 100)
        opened.settle()
    try:
        yield opened
        with by_hand():
            opened.check()
            opened.close()
    finally:
        opened.remove()


@contextlib.asynccontextmanager
async def running(opened: Opened) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opened.replicator.run)
        nursery.start_soon(opened.drainer.run)
        nursery.start_soon(opened.mover.run)
        yield
        nursery.cancel_scope.cancel()


def root(opened: Opened, name: str) -> Driver:
    return replicating.named(opened.store, name)


def places(opened: Opened) -> set[str]:
    roots = [opened.store.root_of(opened.find(f"{HOT}/f{number}")) for number in range(20)]
    return {root.name for root in roots if root is not None}


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(200):
        while True:
            if condition():
                return
            await trio.sleep(0.01)


@contextlib.asynccontextmanager
async def stuck_for_room(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A drain of hot to cold has begun that cannot go on; there is room afterwards."""
    cold, hot = root(opened, "cold"), root(opened, "hot")
    with monkeypatch.context() as patch:
        patch.setattr(cold, "space", lambda: Space(total=1 << 30, free=9, available=9, files=9, files_free=9))
        opened.drain("hot", "cold")
        await until(lambda: hot.number in opened.store.emptying and opened.store.emptying[hot.number].stuck)
        yield


def is_drained(opened: Opened) -> bool:
    return bool(opened.store.drains[root(opened, "hot").number].finished_ns)


def go(main: Callable[[], Awaitable[None]]) -> None:
    with in_place():
        trio.run(main, clock=MockClock(autojump_threshold=0))


def test_it_goes_on_by_itself_when_what_held_it_has_passed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = root(opened, "hot")

    async def main() -> None:
        async with running(opened):
            async with stuck_for_room(opened, monkeypatch):
                assert set(opened.store.emptying[hot.number].held.values()) == {emptying.NO_ROOT}
                assert places(opened) == {"hot"}
            await until(lambda: is_drained(opened))
            assert places(opened) == {"cold"}

    go(main)


def test_whoever_waits_gives_what_held_it_another_try(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    scrubber = Scrubber(opened.store)
    ask = Queries(opened.store, opened.path, {}, trio.lowlevel.checkpoint, scrubber, lambda: None)

    async def main() -> None:
        async with running(opened):
            async with stuck_for_room(opened, monkeypatch):
                with trio.fail_after(60):
                    told = await ask.drained("hot", lambda *figures: None)
                assert told is not None
                assert {each["reason"] for each in told["held"]} == {emptying.NO_ROOT}
            with trio.fail_after(60):
                told = await ask.drained("hot", lambda *figures: None)
            assert told is not None
            assert told["state"] == "drained"

    go(main)


def test_a_root_that_is_away_is_drained_when_it_is_back(opened: Opened) -> None:
    hot = root(opened, "hot")
    hot.online = False

    async def main() -> None:
        async with running(opened):
            opened.drain("hot", "cold")
            await trio.sleep(1000)
            assert not is_drained(opened)
            hot.online = True
            await until(lambda: is_drained(opened))

    go(main)


def test_nothing_is_wanted_any_more_once_it_is_stopped(opened: Opened) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened.drainer.run)  # and nobody makes copies
            opened.drain("hot", "cold")
            await until(lambda: opened.replicas(f"{HOT}/f19") == {"cold": "wanted"})
            opened.stop_draining("hot")
            await until(lambda: not opened.store.index.due_roots())
            nursery.cancel_scope.cancel()
        assert places(opened) == {"hot"}
        assert [opened.replicas(f"{HOT}/f{number}") for number in range(20)] == [{}] * 20

    go(main)


def test_files_that_were_dropped_at_home_go_home_again_some_at_a_time(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer, "MOVES_AT_ONCE", 3)
    with by_hand():
        opened.replicate(HOT, "cold")
        opened.rest()
        opened.drop(HOT, "hot")
    assert places(opened) == {"cold"}
    cold = root(opened, "cold")

    async def main() -> None:
        async with running(opened):
            opened.drain("cold", "hot")
            await until(lambda: opened.store.drains[cold.number].finished_ns)

    go(main)
    assert places(opened) == {"hot"}
    kinds = [event.kind for event in opened.store.index.events(0, 10_000)]
    open_moves = list(accumulate((kind == "move-queued") - (kind == "moved") for kind in kinds))
    assert (max(open_moves), open_moves[-1]) == (3, 0)
    with by_hand():
        opened.settle()
        opened.assert_at_home()


@pytest.mark.parametrize("what", ["emptying.step", "dropping.drop_file"])
def test_a_bug_that_one_file_meets_does_not_hold_up_the_others_of_its_root(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    bad, hot = opened.find(f"{HOT}/f3"), root(opened, "hot")
    module, name = {"emptying.step": (emptying, "step"), "dropping.drop_file": (dropping, "drop_file")}[what]
    do = getattr(module, name)

    def stumble(store: Store, which: Any, *others: Any, **named: Any) -> Any:
        if bad in (which, getattr(which, "number", 0)):
            raise ZeroDivisionError
        return do(store, which, *others, **named)

    monkeypatch.setattr(module, name, stumble)

    async def main() -> None:
        async with running(opened):
            opened.drain("hot", "cold")
            await until(
                lambda: hot.number in opened.store.emptying and opened.store.emptying[hot.number].files_left == 1
            )
            assert opened.store.emptying[hot.number].held == {f"{HOT}/f3".encode(): BUG}
            monkeypatch.undo()
            await until(lambda: is_drained(opened))

    with capture_logs() as logs:
        go(main)
    assert {line["event"] for line in logs if line["log_level"] == "error"} == {"a bug while a file leaves a root"}
