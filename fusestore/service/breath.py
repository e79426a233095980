"""Long work on the event loop, in pieces that requests hardly feel."""

from __future__ import annotations

import time
from typing import Final

import trio

LONGEST_NS: Final = 1_000_000  # a turn of the loop costs a twentieth of that


class Breath:
    """Lets others have the loop when the last time is a millisecond ago."""

    __slots__ = ("_since_ns",)

    def __init__(self) -> None:
        self._since_ns = time.monotonic_ns()

    async def take(self) -> None:
        """A point where requests may come in between."""
        if time.monotonic_ns() - self._since_ns > LONGEST_NS:
            await trio.lowlevel.checkpoint()
            self._since_ns = time.monotonic_ns()
