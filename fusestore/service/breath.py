"""Long work on the event loop, in pieces that requests hardly feel, however many do such work.

Of all that wait to go on, one does in each turn of the loop; users take turns, and so do those who work for one user.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

import trio

LONGEST_NS: Final = 1_000_000  # a turn of the loop costs a twentieth of that


class Breath:
    """Lets others have the loop at first, and whenever the last time is a millisecond ago.

    Args:
        uid: whom the work is for; None for the daemon itself.
    """

    __slots__ = ("_uid", "_until_ns")

    def __init__(self, uid: int | None = None) -> None:
        self._uid = uid
        self._until_ns = 0

    async def take(self) -> None:
        """A point where requests may come in between."""
        if time.monotonic_ns() > self._until_ns:
            await _line.pass_through(self._uid)
            self._until_ns = time.monotonic_ns() + LONGEST_NS


class Line:
    """Those who wait to go on."""

    def __init__(self) -> None:
        self._waiting: dict[int | None, deque[trio.Event]] = {}  # by user, whose turn it is first
        self._is_taken = False

    async def pass_through(self, uid: int | None) -> None:
        """Return in a turn of the loop in which nobody else does."""
        if not self._is_taken:
            self._is_taken = True
            try:
                await trio.lowlevel.checkpoint()
            finally:
                self._call_after(uid)
            return
        mine = trio.Event()
        self._waiting.setdefault(uid, deque()).append(mine)
        try:
            await mine.wait()
        finally:
            if mine.is_set():
                self._call_after(uid)
            else:
                self._leave(uid, mine)

    def _call_after(self, uid: int | None) -> None:
        """Let the next one through; this user has had a turn."""
        if uid in self._waiting:
            self._waiting[uid] = self._waiting.pop(uid)  # behind the others
        self._is_taken = bool(self._waiting)
        if self._is_taken:
            first, waiting = next(iter(self._waiting.items()))
            waiting[0].set()
            self._leave(first, waiting[0])

    def _leave(self, uid: int | None, waiting: trio.Event) -> None:
        self._waiting[uid].remove(waiting)
        if not self._waiting[uid]:
            del self._waiting[uid]


_line: Final = Line()
