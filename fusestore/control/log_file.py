"""The event log as the bytes of a file, one line an event, as watchers of the socket get it.

The file begins at most SHOWN events back from when somebody opened it, and grows at its end as long as it is open: what
is at an offset stays there. How long the lines before an event are is worked out once and remembered for every MARK-th
event; the lines themselves are made again when they are read, so the log is never in memory.

    0                                                          end
    ├── events of mark 0 ──┼── events of mark 1 ──┼── … ──┼─────┤
      from here on may be cut off by retention

A reader that comes to events which are not in the log any more gets the stop message of the socket, and no more until
it begins anew at offset 0. One that begins in a file whose beginning is cut off begins with what is still there: it
meets its end before the size that was told.
"""

from __future__ import annotations

import bisect
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from fusestore.control.methods import Role
from fusestore.control.protocol import encode_stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusestore.control.lines import Lines
    from fusestore.control.methods import Queries
    from fusestore.control.roles import Roles
    from fusestore.model import Owner

SHOWN: Final = 10_000  # some 0.2 s of work, in pieces, for the first who looks
MARK: Final = 128  # events, some 2 ms of the event loop


class Mark(NamedTuple):
    """The line of the first event after `seq` begins at `offset`."""

    offset: int
    seq: int


class Block(NamedTuple):
    """The lines from one mark to the next, as far as they are still in the log."""

    offset: int  # of the first of them
    text: bytes


class Reader:
    """One open file.

    Attributes:
        block: what was read last, for readers of small pieces, and for the end of a line that is cut off meanwhile.
        position: behind what was read last.
        seat: held as long as it is open.
    """

    __slots__ = ("block", "position", "seat", "shift", "stop", "stopped_at")

    def __init__(self) -> None:
        self.block = Block(0, b"")
        self.position = 0
        self.seat = ExitStack()
        self.shift = 0  # of the file's offsets against the reader's
        self.stop = b""  # the message that its stream has ended with
        self.stopped_at = 0


class LogFile:
    """The file; one for all its readers."""

    def __init__(self, queries: Queries, lines: Lines, roles: Callable[[], Roles]) -> None:
        self._queries = queries
        self._lines = lines
        self._roles = roles  # those of now
        self._readers: set[Reader] = set()
        self._end = Mark(0, max(queries.first_seq - 1, queries.last_seq - SHOWN))
        self._marks = [self._end]
        self.changed_ns = 0  # when the newest event happened

    @property
    def mode(self) -> int:
        """Its permission bits; who among the others may really read it, `may_read` says."""
        return 0o444 if self._roles().others_have_some else 0o400

    def may_read(self, peer: Owner, groups: Iterable[int]) -> bool:
        """Whether somebody could read events from the socket, too."""
        return self._roles().of(peer, groups) >= Role.READER

    @property
    def size(self) -> int:
        """Up to the last event that `measure` has seen."""
        return self._end.offset

    def open(self) -> Reader:
        reader = Reader()
        reader.seat.enter_context(self._queries.listening())
        self._readers.add(reader)
        return reader

    def close(self, reader: Reader) -> None:
        self._readers.discard(reader)
        reader.seat.close()

    def has_more(self, reader: Reader) -> bool:
        """Whether there is something behind what a reader has read."""
        if reader.stop:
            return reader.position < reader.stopped_at + len(reader.stop)
        return reader.position + reader.shift < self._end.offset or self._end.seq < self._queries.last_seq

    async def changed(self) -> None:
        """Return once there is an event that the file did not show yet."""
        await self._queries.changed(self._end.seq)

    async def measure(self) -> None:
        """Take up what has happened since the last time."""
        if not self._readers:
            self._begin_anew()
        while self._end.seq < self._queries.last_seq:
            self._skip_what_is_lost()
            if self._end.seq - self._marks[-1].seq >= MARK:
                self._marks.append(self._end)
            lines = self._lines.after(self._end.seq, MARK)
            if not lines:
                return
            size = sum(len(line.encoded) for line in lines)
            self._end = Mark(self._end.offset + size, lines[-1].seq)
            self.changed_ns = lines[-1].event["time_ns"]
            await trio.lowlevel.checkpoint()

    def _begin_anew(self) -> None:
        """While nobody reads, offsets may change: the file begins where the log does, but not too far back."""
        first, last = self._queries.first_seq, self._queries.last_seq
        if self._marks[0].seq < first - 1 or last - self._marks[0].seq > 2 * SHOWN:
            self._end = Mark(0, max(first - 1, last - SHOWN))
            self._marks = [self._end]

    def _skip_what_is_lost(self) -> None:
        """Events that were cut off before they were measured take one byte, at which readers find that out."""
        first = self._queries.first_seq
        if self._end.seq < first - 1:
            self._end = Mark(self._end.offset + 1, first - 1)
            self._marks.append(self._end)
        while len(self._marks) > 1 and self._marks[1].seq < first - 1:
            del self._marks[0]

    async def read(self, reader: Reader, offset: int, size: int) -> bytes:
        """At most `size` bytes; fewer only at the end, and before what is lost."""
        await self.measure()
        if offset == 0:
            reader.stop = b""
            reader.shift = self._first_offset()
        found = b""
        while not reader.stop and len(found) < size:
            piece = self._piece(reader, offset + len(found) + reader.shift, size - len(found))
            if piece is None and not found:
                reader.stop = self._stop_message()
                reader.stopped_at = offset
            if not piece:
                break
            found += piece
            await trio.lowlevel.checkpoint()
        if reader.stop:
            start = offset - reader.stopped_at
            found = reader.stop[start : start + size] if start >= 0 else b""
        reader.position = offset + len(found)
        return found

    def _stop_message(self) -> bytes:
        queries = self._queries
        return encode_stopped(f"the log begins at {queries.first_seq}", queries.last_seq, queries.epoch)

    def _first_offset(self) -> int:
        """Where the first event begins that is still in the log."""
        index = bisect.bisect_right(self._marks, self._queries.first_seq - 1, key=lambda mark: mark.seq) - 1
        return self._marks[0].offset if index < 0 else self._block(index).offset

    def _piece(self, reader: Reader, at: int, size: int) -> bytes | None:
        """Bytes from the file's offset `at` on: b"" at the end, None where they are lost."""
        if not 0 <= at - reader.block.offset < len(reader.block.text):
            if at >= self._end.offset:
                return b""
            index = bisect.bisect_right(self._marks, at, key=lambda mark: mark.offset) - 1
            if index < 0:
                return None
            reader.block = self._block(index)
            if at < reader.block.offset:
                return None
        start = at - reader.block.offset
        return reader.block.text[start : start + size]

    def _block(self, index: int) -> Block:
        """Read what is behind a mark.

        Its offset follows from that of the next mark, because what lies before it may be cut off.
        """
        end = self._marks[index + 1] if index + 1 < len(self._marks) else self._end
        since = max(self._marks[index].seq, self._queries.first_seq - 1)
        text = b""
        while since < end.seq:
            lines = self._lines.after(since, MARK)
            text += b"".join(line.encoded for line in lines if line.seq <= end.seq)
            since = lines[-1].seq
        return Block(end.offset - len(text), text)
