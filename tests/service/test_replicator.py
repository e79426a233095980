"""The replicator as it runs: when it takes up what is due, and what does not hold it up."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from fusestore.core.moves import BUG
from fusestore.core.ports import Space
from fusestore.jobs.copyist import Copyist
from fusestore.model import MOUNT_ROOT, Outside, ReplicaState
from fusestore.service import copies, dropping, replicating
from tests.support.byhand import by_hand, in_place
from tests.support.calls import ME
from tests.support.opened import Opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from fusestore.core.ports import Driver

pytestmark = pytest.mark.timeout(60)
HOT = "resources/hot"


@pytest.fixture
def opened(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """hot/a, hot/b and hot/c, at rest; what the test itself does runs in trio."""
    with by_hand():
        opened = Opened(*devices, outside=Outside.NONE)
        for name in "abc":
            opened.write(f"{HOT}/{name}", name.encode())
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
        yield
        nursery.cancel_scope.cancel()


def root(opened: Opened, name: str) -> Driver:
    return replicating.named(opened.store, name)


async def current(opened: Opened, path: str, name: str) -> None:
    """Return once a copy is made."""
    number = opened.find(path)
    with trio.fail_after(30):
        while True:
            record = opened.store.index.replica(number, root(opened, name).number)
            if record is not None and record.state is ReplicaState.CURRENT:
                return
            await trio.sleep(0.001)


def test_what_was_due_before_the_start_and_what_becomes_due_is_made_at_once(opened: Opened) -> None:
    opened.replicate(f"{HOT}/a", "cold")

    async def main() -> None:
        async with running(opened):
            await current(opened, f"{HOT}/a", "cold")
            opened.replicate(f"{HOT}/b", "cold")
            opened.replicate(f"{HOT}", "warm")
            await current(opened, f"{HOT}/b", "cold")
            for name in "abc":
                await current(opened, f"{HOT}/{name}", "warm")

    with in_place():
        trio.run(main)


def test_a_disk_that_hangs_holds_up_no_other(opened: Opened) -> None:
    cold, go = root(opened, "cold"), threading.Event()
    sync = cold.sync

    def hanging() -> None:
        assert go.wait(30)
        sync()

    async def main() -> None:
        cold.sync = hanging  # type: ignore[method-assign]
        opened.replicate(f"{HOT}", "cold")
        async with running(opened):
            opened.replicate(f"{HOT}", "warm")
            for name in "abc":
                await current(opened, f"{HOT}/{name}", "warm")
                assert opened.replicas(f"{HOT}/{name}").get("cold") != "current"
            go.set()
            await current(opened, f"{HOT}/a", "cold")

    trio.run(main)


def test_a_root_that_is_back_is_served_within_seconds(opened: Opened) -> None:
    cold = root(opened, "cold")
    cold.online = False
    opened.replicate(f"{HOT}/a", "cold")

    async def main() -> None:
        async with running(opened):
            await trio.sleep(10_000)
            assert opened.replicas(f"{HOT}/a") == {"cold": "wanted"}
            cold.online = True
            began = trio.current_time()
            await current(opened, f"{HOT}/a", "cold")
            assert trio.current_time() - began < 5

    with in_place():
        trio.run(main, clock=MockClock(autojump_threshold=0))


def test_what_finds_no_room_is_tried_again_and_again_but_not_all_the_time(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def full() -> Space:
        nonlocal asked
        asked += 1
        return Space(1, 0, 0, 1, 1)

    cold = root(opened, "cold")
    monkeypatch.setattr(cold, "space", full)
    opened.replicate(f"{HOT}/a", "cold")

    async def main() -> None:
        async with running(opened):
            await trio.sleep(3600)
            assert 10 < asked < 100
            monkeypatch.undo()
            await trio.sleep(100)
            assert opened.replicas(f"{HOT}/a") == {"cold": "current"}

    with in_place():
        trio.run(main, clock=MockClock(autojump_threshold=0))


def test_whoever_waits_is_told_when_all_is_made_and_what_is_held_up(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[tuple[int, int, str]] = []
    store = opened.store
    monkeypatch.setattr(root(opened, "warm"), "space", lambda: Space(1, 0, 0, 1, 1))

    def report(*figure: int | str) -> None:
        figures.append(figure)  # type: ignore[arg-type]

    async def main() -> None:
        async with running(opened):
            opened.replicate(HOT, "cold")
            assert await copies.made(store, opened.find(HOT), root(opened, "cold").number, report) == []
            assert opened.replicas(f"{HOT}/c") == {"cold": "current"}
            opened.replicate(f"{HOT}/c", "warm")
            held = await copies.made(store, MOUNT_ROOT, None, report)
            assert held == [{"path": f"{HOT}/c", "root": "warm", "reason": "no room"}]
            assert await copies.made(store, opened.find(f"{HOT}/a"), None, report) == []

    with in_place():
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert figures[-1] == (0, 0, "bytes")


def test_whoever_waits_for_a_directory_is_told_of_what_has_its_only_copy_there(opened: Opened) -> None:
    store, cold = opened.store, root(opened, "cold")

    async def main() -> None:
        async with running(opened):
            number = opened.find(f"{HOT}/a")
            opened.replicate(f"{HOT}/a", "cold")
            assert await copies.made(store, number, cold.number, lambda *_: None) == []
            await dropping.drop_file(store, number, root(opened, "hot"), force_last=False, owner=ME)
            opened.replicate(HOT, "cold")
            (held,) = await copies.made(store, opened.find(HOT), cold.number, lambda *_: None)
            assert (held["path"], held["root"]) == (f"{HOT}/a", "cold")
            assert "its only copy is on cold" in held["reason"]
            assert opened.replicas(f"{HOT}/c") == {"cold": "current"}

    with in_place():
        trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("step", ["_plan", "_put_in_place"])
def test_a_bug_that_one_file_meets_does_not_hold_up_the_others_of_its_root(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bad, cold = opened.find(f"{HOT}/a"), root(opened, "cold")
    do = getattr(Copyist, step)

    def stumble(self: Copyist, what: Any) -> Any:
        if what.number == bad:
            raise ZeroDivisionError
        return do(self, what)

    monkeypatch.setattr(Copyist, step, stumble)

    async def main() -> None:
        async with running(opened):
            for name in "abc":
                opened.replicate(f"{HOT}/{name}", "cold")
            for name in "bc":
                await current(opened, f"{HOT}/{name}", "cold")
            assert opened.store.troubles[bad, cold.number] == BUG

    with capture_logs() as logs, in_place():
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert {line["event"] for line in logs if line["log_level"] == "error"} == {"a bug while a copy is made"}
