"""Coroutines stepped by hand instead of by trio, so that a test decides what comes between two of their steps.

A job goes from one of its waiting points to the next; what would run in a thread is a call in place. Whoever waits for
time or for an event is run by trio (`in_place` and `run`), on a clock that jumps when all wait.
"""

from __future__ import annotations

import contextlib
import types
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio
from trio.testing import MockClock

from fusestore.service.breath import Line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator

T = TypeVar("T")

MANY: Final = 5_000  # steps; no job of a test takes so many
WAITS: Final = "for somebody else"  # what a coroutine yields that cannot go on by itself


@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


async def _pass(line: Line, uid: int | None) -> None:
    await _pause()  # whose turn it is, the test decides


@types.coroutine
def _wait() -> Generator[str, None, None]:
    yield WAITS


async def _wait_for(event: trio.Event) -> None:
    while not event.is_set():
        await _wait()


async def _in_place(call: Callable[..., T], *args: Any, limiter: object = None, abandon_on_cancel: bool = False) -> T:
    """What a worker thread does, done here, with other work before and after it."""
    await _pause()
    result = call(*args)
    await _pause()
    return result


@contextlib.contextmanager
def by_hand() -> Iterator[None]:
    """Let coroutines wait for whoever steps them instead of trio."""
    checkpoint, run_sync, wait = trio.lowlevel.checkpoint, trio.to_thread.run_sync, trio.Event.wait
    trio.lowlevel.checkpoint, trio.to_thread.run_sync = _pause, _in_place  # type: ignore[assignment]
    trio.Event.wait = _wait_for  # type: ignore[method-assign, assignment]
    pass_through, Line.pass_through = Line.pass_through, _pass  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Line.pass_through = pass_through  # type: ignore[method-assign]
        trio.lowlevel.checkpoint, trio.to_thread.run_sync = checkpoint, run_sync
        trio.Event.wait = wait  # type: ignore[method-assign]


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """Let trio do in place, and in no time, what would run in a thread."""
    run_sync = trio.to_thread.run_sync

    async def call_here(call: Callable[..., T], *args: Any, **_: object) -> T:
        await trio.lowlevel.checkpoint()
        return call(*args)

    trio.to_thread.run_sync = call_here  # type: ignore[assignment]
    try:
        yield
    finally:
        trio.to_thread.run_sync = run_sync


def run(work: Callable[[], Awaitable[object]], *jobs: Callable[[], Awaitable[object]]) -> float:
    """Do `work` beside jobs that never end; returns how many seconds it took, on a clock that jumps when all wait."""

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(job)
            began = trio.current_time()
            await work()
            took_s = trio.current_time() - began
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main, clock=MockClock(autojump_threshold=0))


class Job:
    """A coroutine on its way."""

    def __init__(self, work: Coroutine[None, None, object]) -> None:
        self._work = work
        self.is_over = False

    def step(self) -> None:
        """Go on to the next waiting point."""
        try:
            self._work.send(None)
        except BaseException as error:
            self.is_over = True
            if not isinstance(error, StopIteration):
                raise

    def finish(self) -> None:
        for _ in range(MANY):
            if self.is_over:
                return
            self.step()
        raise AssertionError("a job does not come to an end")

    def drop(self) -> None:
        """End it where it is, as a crash or an unmount would."""
        self.is_over = True
        self._work.close()


class Beside:
    """Coroutines on their way side by side, which may begin others; what a nursery is for trio."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    @property
    def are_over(self) -> bool:
        return not self._jobs

    def start_soon(self, work: Callable[..., Coroutine[None, None, object]], *args: Any) -> None:
        self._jobs.append(Job(work(*args)))

    def step(self) -> None:
        """Take each to its next waiting point."""
        for job in list(self._jobs):
            job.step()
            if job.is_over:
                self._jobs.remove(job)

    def finish(self) -> None:
        for _ in range(MANY):
            if self.are_over:
                return
            self.step()
        raise AssertionError("jobs do not come to an end")

    def drop(self) -> None:
        """End them where they are, as a crash or an unmount would."""
        for job in self._jobs:
            job.drop()
        self._jobs.clear()


def finish(work: Coroutine[Any, None, T], meanwhile: Callable[[], None] = lambda: None) -> T:
    """Run a coroutine from its start to its end; returns what it returns.

    Args:
        meanwhile: has somebody else go on, where the coroutine cannot by itself.
    """
    for _ in range(MANY):
        try:
            if work.send(None) == WAITS:
                meanwhile()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
    raise AssertionError("a call does not come to an end")
