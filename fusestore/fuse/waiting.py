"""How the daemon waits for the kernel's next request: it looks for a moment before it sleeps.

A program's next request mostly follows within microseconds of the last reply, and falling asleep costs both sides a
wake-up, several times what the request itself does (decision 0016). pyfuse3 takes its lock and its wait from its
module global `trio` (its asyncio support replaces them there too), so both are exchanged in that one place.

What may not happen here: keeping the event loop from everybody else. It gets its turn once every `TURN_NS`.
"""

from __future__ import annotations

import os
import select
import time
from types import SimpleNamespace
from typing import Final

import pyfuse3
import trio

LOOK_NS: Final = 60_000  # a client on another CPU asks again within this time, or not soon
BRISK_NS: Final = 200_000  # requests that follow each other this closely are worth looking for; includes a wake-up
TURN_NS: Final = 500_000  # how long requests are served one after the other before the loop has its turn


class Turns:
    """A lock that may be taken again before those who wait for it have run.

    pyfuse3's tasks take turns at reading requests. `trio.Lock` hands over at each release, which is a round of the
    event loop for each request; this one changes hands only when its holder has to wait for something.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._turn_ns = 0  # when the loop had its last turn

    async def __aenter__(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._turn_ns > TURN_NS:
            self._turn_ns = now_ns
            await trio.lowlevel.checkpoint()
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(self, *error: object) -> None:
        self._held = False
        self._waiting.unpark()


class Lookout:
    """Waits until a descriptor is readable, and looks for a moment before it sleeps while that has paid lately.

    Args:
        look_ns: for how long it looks.
    """

    def __init__(self, look_ns: int) -> None:
        self._look_ns = look_ns
        self._poll = select.poll()
        self._watched = -1
        self._brisk = False

    async def wait_readable(self, fd: int) -> None:
        """Return when `fd`, the same one at each call, is readable; without a turn for the loop if it is so soon.

        Raises:
            trio.ClosedResourceError: it is closed meanwhile.
        """
        if fd != self._watched:
            self._poll.register(fd, select.POLLIN)
            self._watched = fd
        began_ns = time.monotonic_ns()
        until_ns = began_ns + self._look_ns if self._brisk else 0
        while not self._poll.poll(0):
            if time.monotonic_ns() >= until_ns:
                await trio.lowlevel.wait_readable(fd)
                self._brisk = time.monotonic_ns() - began_ns < BRISK_NS
                return


def look_before_sleeping() -> None:
    """Have pyfuse3 wait as this module does, from its next `main` on."""
    # With one CPU the client cannot ask before we sleep.
    lookout = Lookout(LOOK_NS if len(os.sched_getaffinity(0)) > 1 else 0)
    lowlevel = SimpleNamespace(**vars(trio.lowlevel) | {"wait_readable": lookout.wait_readable})
    pyfuse3.trio = SimpleNamespace(**vars(trio) | {"lowlevel": lowlevel, "Lock": Turns})  # type: ignore[attr-defined]
