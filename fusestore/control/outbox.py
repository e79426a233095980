"""What one connection still has to send: bounded in bytes, so that a peer that never reads costs a fixed amount.

A line enters whole or not at all, also when its sender is cancelled, because only `run` writes to the stream.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Never

import trio

if TYPE_CHECKING:
    from trio.abc import SendStream

FULL_BYTES: Final = 256 << 10
PIECE_BYTES: Final = 64 << 10  # what is written at once: who reads slowly shows that it does


class Outbox:
    """Lines on their way to one peer.

    Attributes:
        waited_s: how long pieces waited until the peer had read on.
    """

    def __init__(self, stream: SendStream) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self.waited_s = 0.0
        self._bytes = 0  # in `_lines` and in the write that is under way
        self._filled = trio.Event()
        self._written = trio.lowlevel.ParkingLot()

    @property
    def is_empty(self) -> bool:
        return self._bytes == 0

    @property
    def is_full(self) -> bool:
        return self._bytes >= FULL_BYTES

    async def put(self, lines: bytes) -> None:
        """Queue one or several whole lines; waits while the peer is behind."""
        await trio.lowlevel.checkpoint()
        while self.is_full:
            await self._written.park()
            await trio.lowlevel.checkpoint_if_cancelled()  # a sender cancelled after it was woken adds nothing
        self.add(lines)

    def offer(self, line: bytes) -> bool:
        """Queue a line that may be left out; False when the peer is behind and it was."""
        if self.is_full:
            return False
        self.add(line)
        return True

    def add(self, lines: bytes) -> None:
        """Queue them, however far the peer is behind: for what is short and seldom."""
        self._lines.append(lines)
        self._bytes += len(lines)
        self._filled.set()

    async def flushed(self) -> None:
        """Wait until all of it was handed to the kernel."""
        while not self.is_empty:
            await self._written.park()

    async def run(self) -> Never:
        """Write until cancelled.

        Raises:
            trio.BrokenResourceError: the peer is gone.
        """
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            chunk = b"".join(self._lines)
            self._lines.clear()
            for start in range(0, len(chunk), PIECE_BYTES):
                began = trio.current_time()
                await self._stream.send_all(chunk[start : start + PIECE_BYTES])
                self.waited_s += trio.current_time() - began
            self._bytes -= len(chunk)
            self._written.unpark_all()
