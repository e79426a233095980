"""The wait for requests: soon enough, one at a time, and never at the cost of the rest of the event loop."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pyfuse3
import pytest
import trio
import trio.testing

from fusestore.fuse import waiting
from fusestore.fuse.waiting import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(10)
LONG_NS = 60_000_000_000  # whoever looks that long fails by the timeout


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def sleep_once(reading: Reading, pipe: tuple[int, int], nursery: trio.Nursery) -> None:
    """One wait that had to sleep and was served."""
    done = trio.Event()

    async def wait() -> None:
        async with reading:
            await reading.wait_readable(pipe[0])
        done.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert not done.is_set()
    os.write(pipe[1], b"x")
    await done.wait()
    os.read(pipe[0], 1)


async def test_a_request_that_is_there_costs_the_loop_no_round(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    with trio.testing.assert_no_checkpoints():
        await Reading(LONG_NS).wait_readable(pipe[0])


async def test_it_sleeps_until_there_is_one(pipe: tuple[int, int], nursery: trio.Nursery) -> None:
    reading = Reading(0)
    for _ in range(3):
        await sleep_once(reading, pipe, nursery)


async def test_after_a_short_sleep_it_looks_for_what_comes_meanwhile(
    pipe: tuple[int, int], nursery: trio.Nursery
) -> None:
    reading = Reading(LONG_NS, brisk_ns=LONG_NS, calm_ns=LONG_NS)
    await sleep_once(reading, pipe, nursery)

    def ask() -> None:
        time.sleep(0.05)
        os.write(pipe[1], b"x")

    asking = threading.Thread(target=ask)
    async with reading:
        asking.start()
        with trio.testing.assert_no_checkpoints():
            await reading.wait_readable(pipe[0])
    asking.join()


async def test_after_a_long_sleep_it_does_not_look(pipe: tuple[int, int], nursery: trio.Nursery) -> None:
    reading = Reading(LONG_NS, brisk_ns=0)
    await sleep_once(reading, pipe, nursery)
    await sleep_once(reading, pipe, nursery)


async def test_whoever_had_to_wait_for_the_right_to_read_does_not_look(
    pipe: tuple[int, int], nursery: trio.Nursery
) -> None:
    """The one before waits for a thread, whose answer the loop has to bring."""
    reading = Reading(LONG_NS, brisk_ns=LONG_NS)
    await sleep_once(reading, pipe, nursery)
    async with reading:
        nursery.start_soon(sleep_once, reading, pipe, nursery)
        await trio.testing.wait_all_tasks_blocked()


async def test_taking_the_right_again_at_once_costs_no_round() -> None:
    reading = Reading(0, calm_ns=LONG_NS)
    async with reading:
        pass
    with trio.testing.assert_no_checkpoints():
        for _ in range(10):
            async with reading:
                pass


async def test_the_loop_has_its_turns_sooner_while_another_request_is_served(nursery: trio.Nursery) -> None:
    """And no longer once it has been, or whoever served it is gone."""
    reading = Reading(0, turn_ns=0, calm_ns=LONG_NS)
    reply = trio.Event()

    async def serve() -> None:
        async with reading:
            pass
        await reply.wait()

    async with reading:
        pass
    nursery.start_soon(serve)
    await trio.testing.wait_all_tasks_blocked()
    with trio.testing.assert_checkpoints():
        async with reading:
            pass
    reply.set()
    await trio.testing.wait_all_tasks_blocked()
    async with reading:
        pass
    with trio.testing.assert_no_checkpoints():
        async with reading:
            pass


async def test_it_ends_when_the_descriptor_is_to_be_closed(pipe: tuple[int, int], nursery: trio.Nursery) -> None:
    ended = trio.Event()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await Reading(0).wait_readable(pipe[0])
        ended.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.notify_closing(pipe[0])
    await ended.wait()


async def test_only_one_task_reads_and_none_is_left_out(nursery: trio.Nursery) -> None:
    reading = Reading(0)
    inside = most = 0
    finished = [trio.Event() for _ in range(3)]

    async def read(done: trio.Event) -> None:
        nonlocal inside, most
        for _ in range(50):
            async with reading:
                inside += 1
                most = max(most, inside)
                await trio.lowlevel.checkpoint()
                inside -= 1
            await trio.lowlevel.checkpoint()
        done.set()

    for done in finished:
        nursery.start_soon(read, done)
    for done in finished:
        await done.wait()
    assert most == 1


@pytest.mark.parametrize("turn_ns", [0, LONG_NS])
async def test_a_task_that_is_cancelled_on_the_way_leaves_the_right_to_others(
    nursery: trio.Nursery, turn_ns: int
) -> None:
    reading = Reading(0, turn_ns=turn_ns, calm_ns=turn_ns)
    release, served = trio.Event(), trio.Event()
    scope = trio.CancelScope()

    async def hold() -> None:
        async with reading:
            await release.wait()

    async def give_up() -> None:
        with scope:
            async with reading:
                raise AssertionError("it was cancelled before")

    async def read() -> None:
        async with reading:
            served.set()

    nursery.start_soon(hold)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(give_up)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
    release.set()
    await served.wait()


async def test_whoever_reads_again_and_again_lets_the_loop_run(nursery: trio.Nursery) -> None:
    """As when requests never cease: everything else in the daemon goes on."""
    reading = Reading(0)
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            await trio.lowlevel.checkpoint()
            others += 1

    nursery.start_soon(other)
    while others < 10:
        async with reading:
            pass
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("cpus", "looks"), [({0, 1}, True), ({0}, False)])
def test_pyfuse3_waits_like_this(monkeypatch: pytest.MonkeyPatch, cpus: set[int], looks: bool) -> None:
    assert pyfuse3.trio is trio  # type: ignore[attr-defined]  # what it takes lock and wait from
    monkeypatch.setattr(pyfuse3, "trio", trio)  # and gets back afterwards
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus)
    waiting.look_before_sleeping()
    reading = pyfuse3.trio.Lock()  # type: ignore[attr-defined]
    assert isinstance(reading, Reading)
    assert pyfuse3.trio.lowlevel.wait_readable == reading.wait_readable  # type: ignore[attr-defined]
    assert (reading._look_ns > 0) == looks
