"""The wait for requests: soon enough, one at a time, and never at the cost of the rest of the event loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from fusestore.fuse.waiting import Lookout, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_NS = 10_000_000_000


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_a_request_that_is_there_costs_the_loop_no_turn(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"x")
    with trio.testing.assert_no_checkpoints():
        await Lookout(LONG_NS).wait_readable(reader)


async def test_it_sleeps_until_there_is_one(pipe: tuple[int, int], nursery: trio.Nursery) -> None:
    reader, writer = pipe
    lookout = Lookout(0)
    for _ in range(3):
        done = trio.Event()

        async def wait(done: trio.Event = done) -> None:
            await lookout.wait_readable(reader)
            done.set()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not done.is_set()
        os.write(writer, b"x")
        await done.wait()
        os.read(reader, 1)


async def test_it_does_not_look_before_requests_have_come_closely(pipe: tuple[int, int], nursery: trio.Nursery) -> None:
    reader, writer = pipe
    nursery.start_soon(Lookout(LONG_NS).wait_readable, reader)
    await trio.testing.wait_all_tasks_blocked()  # a look of ten seconds would keep this from being reached
    os.write(writer, b"x")


async def test_it_ends_when_the_descriptor_is_to_be_closed(pipe: tuple[int, int], nursery: trio.Nursery) -> None:
    reader, _ = pipe
    ended = trio.Event()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await Lookout(0).wait_readable(reader)
        ended.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.notify_closing(reader)
    await ended.wait()


async def test_only_one_task_has_the_turn(nursery: trio.Nursery) -> None:
    turns = Turns()
    inside = most = rounds = 0
    finished = trio.Event()

    async def reader() -> None:
        nonlocal inside, most, rounds
        for _ in range(50):
            async with turns:
                inside += 1
                most = max(most, inside)
                await trio.lowlevel.checkpoint()
                inside -= 1
            rounds += 1
        if rounds == 150:
            finished.set()

    for _ in range(3):
        nursery.start_soon(reader)
    await finished.wait()
    assert most == 1


async def test_a_task_that_is_cancelled_while_it_waits_leaves_the_turn_to_others(nursery: trio.Nursery) -> None:
    turns = Turns()
    release, served = trio.Event(), trio.Event()

    async def holder() -> None:
        async with turns:
            await release.wait()

    async def second() -> None:
        async with turns:
            served.set()

    nursery.start_soon(holder)
    await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(0.01):
        async with turns:
            raise AssertionError("the turn was taken")
    nursery.start_soon(second)
    await trio.testing.wait_all_tasks_blocked()
    release.set()
    await served.wait()


async def test_whoever_takes_the_turn_again_and_again_lets_the_loop_run(nursery: trio.Nursery) -> None:
    """As when requests never cease: everything else in the daemon still goes on, and so do the other readers."""
    turns = Turns()
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            await trio.lowlevel.checkpoint()
            others += 1

    nursery.start_soon(other)
    while others < 10:
        async with turns:
            pass
    nursery.cancel_scope.cancel()
