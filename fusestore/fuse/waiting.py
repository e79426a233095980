"""How the daemon waits for the kernel's next request: it looks for a moment before it sleeps.

A program's next request mostly follows within microseconds of the last reply, and falling asleep costs both sides a
wake-up, several times what the request itself does (decision 0016). pyfuse3 takes its lock and its wait from its
module global `trio` (its asyncio support replaces them there too), so both are exchanged in that one place.

What may not happen here: keeping the event loop from everybody else. It has its turn once every `TURN_NS` while a
request waits for it, for a thread mostly, and once every `CALM_NS` otherwise.
"""

from __future__ import annotations

import os
import select
import time
from types import SimpleNamespace
from typing import Final

import pyfuse3
import trio

LOOK_NS: Final = 60_000  # a client on another CPU mostly asks again within this time
BRISK_NS: Final = 120_000  # the longest wait after which it pays to look again: a wake-up takes its part of it
TURN_NS: Final = 200_000  # how long requests are served one after the other before the loop has its turn
CALM_NS: Final = 1_000_000  # the same while no other request waits for the loop to bring it something
TURN_STEPS: Final = 3  # rounds of the loop in a turn: a hand-over to a thread and back takes several


class Reading:
    """The right to read the next request, and the wait for it; pyfuse3's tasks take it in turns.

    `trio.Lock` hands over at each release, which is a round of the event loop for each request. Here whoever has just
    replied may go on reading before those who wait have run.

    Args:
        look_ns: for how long a task that has just replied looks before it sleeps.
        brisk_ns, turn_ns, calm_ns: see `BRISK_NS`, `TURN_NS`, `CALM_NS`.
    """

    def __init__(
        self, look_ns: int, *, brisk_ns: int = BRISK_NS, turn_ns: int = TURN_NS, calm_ns: int = CALM_NS
    ) -> None:
        self._look_ns = look_ns
        self._brisk_ns = brisk_ns
        self._turn_ns = turn_ns
        self._calm_ns = calm_ns
        self._serving: set[trio.lowlevel.Task] = set()  # who has read a request and not come back
        self._poll = select.poll()
        self._watched = -1
        self._taken = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._has_replied = False  # whoever has it got it without waiting
        self._brisk = False  # the last sleep was short
        self._last_turn_ns = 0  # when the loop last had a turn that we know of

    async def __aenter__(self) -> None:
        self._serving.discard(trio.lowlevel.current_task())
        self._has_replied = not self._taken
        while self._taken:
            await self._waiting.park()
        self._taken = True
        turn_ns = self._turn_ns if self._serving else self._calm_ns
        if time.monotonic_ns() - self._last_turn_ns > turn_ns:
            self._serving = {task for task in self._serving if task.coro.cr_frame is not None}  # who has not ended
            try:
                for _ in range(TURN_STEPS):
                    await trio.lowlevel.checkpoint()
            except BaseException:
                self._give_back()
                raise
            self._last_turn_ns = time.monotonic_ns()

    async def __aexit__(self, *error: object) -> None:
        self._serving.add(trio.lowlevel.current_task())
        self._give_back()

    def _give_back(self) -> None:
        self._taken = False
        self._waiting.unpark()

    async def wait_readable(self, fd: int) -> None:
        """Return when `fd`, the same one at each call, is readable; without a turn for the loop if it is so soon.

        Who had to wait for the right to read does not look: then another task waits for a thread, and its client for
        the reply.

        Raises:
            trio.ClosedResourceError: it is closed meanwhile.
        """
        if fd != self._watched:
            self._poll.register(fd, select.POLLIN)
            self._watched = fd
        began_ns = time.monotonic_ns()
        until_ns = began_ns + self._look_ns if self._brisk and self._has_replied else 0
        while not self._poll.poll(0):
            if time.monotonic_ns() >= until_ns:
                await trio.lowlevel.wait_readable(fd)
                self._last_turn_ns = time.monotonic_ns()
                self._brisk = self._last_turn_ns - began_ns < self._brisk_ns
                return


def look_before_sleeping() -> None:
    """Have pyfuse3 wait as this module does, from its next `main` on."""
    # With one CPU the client cannot ask before we sleep.
    reading = Reading(LOOK_NS if len(os.sched_getaffinity(0)) > 1 else 0)
    lowlevel = SimpleNamespace(**vars(trio.lowlevel) | {"wait_readable": reading.wait_readable})
    pyfuse3.trio = SimpleNamespace(  # type: ignore[attr-defined]
        **vars(trio) | {"lowlevel": lowlevel, "Lock": lambda: reading}
    )
