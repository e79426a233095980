"""Long work on the event loop, in pieces that requests hardly feel, however many do such work."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

import trio

LONGEST_NS: Final = 1_000_000  # a turn of the loop costs a twentieth of that

_line: Final[deque[trio.Event]] = deque()  # those who wait to go on; of them, one does in each turn of the loop


class Breath:
    """Lets others have the loop at first, and whenever the last time is a millisecond ago."""

    __slots__ = ("_until_ns",)

    def __init__(self) -> None:
        self._until_ns = 0

    async def take(self) -> None:
        """A point where requests may come in between."""
        if time.monotonic_ns() > self._until_ns:
            await _turn()
            self._until_ns = time.monotonic_ns() + LONGEST_NS


async def _turn() -> None:
    """Return in a turn of the loop in which nobody else does."""
    mine = trio.Event()
    _line.append(mine)
    try:
        if _line[0] is mine:
            await trio.lowlevel.checkpoint()
        else:
            await mine.wait()
    finally:
        is_next = _line[0] is mine
        _line.remove(mine)
        if is_next and _line:
            _line[0].set()
