"""What has happened: the event feed, each object's journal, and the moves.

Events are cut at the front by retention; journal and moves are kept for ever. Nothing here writes: `forget_events`
adds to a batch like any other change.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Final

from fusestore.index import schema
from fusestore.index.schema import read_u64, u64
from fusestore.index.tables import Tables
from fusestore.model import MoveNo

if TYPE_CHECKING:
    from fusestore.index.batch import Batch
    from fusestore.index.schema import Numbers
    from fusestore.model import Consumer, Event, InodeNo, JournalEntry, Move

FORGET_AT_ONCE: Final = 1024  # events, some 12 ms of the event loop


class History(Tables):
    """The feed and the histories."""

    numbers: Numbers

    # -- events -----------------------------------------------------------------------------------------------------

    def events(self, since: int, limit: int) -> list[Event]:
        """At most `limit` events with a seq above `since`, in order."""
        found: list[Event] = []
        for _, value in self.scan(schema.EVENTS, start=u64(since + 1)):
            if len(found) == limit:
                break
            found.append(schema.EVENT.unpack(value))
        return found

    @property
    def first_seq(self) -> int:
        """The oldest seq that is still in the feed; `last_seq + 1` when there is none."""
        first = next(self.scan(schema.EVENTS), None)
        return read_u64(first[0]) if first else self.numbers.last_seq + 1

    @property
    def last_seq(self) -> int:
        return self.numbers.last_seq

    @property
    def epoch(self) -> int:
        return self.numbers.epoch

    def forget_events(self, batch: Batch, keep: int, *, older_ns: int = 0, until: int | None = None) -> int:
        """Add the removal of the oldest events to `batch`: those beyond the last `keep`, and those before `older_ns`.

        Args:
            until: the last that may go.

        Returns:
            the seq of the last that goes, 0 if none does. At most FORGET_AT_ONCE go: call again, with a new batch.
        """
        surplus = self._txn.stat(self._events)["entries"] - keep
        last = 0
        for count, (key, value) in enumerate(self.scan(schema.EVENTS)):
            seq = read_u64(key)
            if count == FORGET_AT_ONCE or (until is not None and seq > until):
                break
            if count >= surplus and not (older_ns and schema.EVENT.unpack(value).time_ns < older_ns):
                break
            batch.rows[schema.TAG[schema.EVENTS] + key] = None
            last = seq
        return last

    def consumer(self, name: str) -> Consumer | None:
        raw = self.get(schema.META, schema.consumer_row(name))
        return schema.CONSUMER.unpack(raw) if raw is not None else None

    def consumers(self) -> dict[str, Consumer]:
        """Those that have a name, by that."""
        found = self.scan(schema.META, schema.CONSUMER_ROW)
        return {key.removeprefix(schema.CONSUMER_ROW).decode(): schema.CONSUMER.unpack(raw) for key, raw in found}

    # -- journal and moves ------------------------------------------------------------------------------------------

    def journal(self, id: bytes) -> list[JournalEntry]:
        """An object's history, oldest first; by id, because it outlives the inode."""
        return [schema.ENTRY.unpack(value) for _, value in self.scan(schema.JOURNAL, id)]

    def move(self, number: MoveNo) -> Move | None:
        raw = self._get(u64(number), None, self._moves)
        return schema.MOVE.unpack(raw) if raw is not None else None

    def moves(self, open_only: bool = False) -> list[Move]:
        """All moves in the order they were begun, or only those that are not over."""
        if not open_only:
            return [schema.MOVE.unpack(value) for _, value in self.scan(schema.MOVES)]
        return sorted(self._open(b""), key=lambda move: move.number)

    @property
    def last_move(self) -> MoveNo:
        """The newest move; 0 when there never was one."""
        key = self.last_key(schema.MOVES)
        return MoveNo(read_u64(key) if key else self.numbers.last_move)

    def moves_after(self, number: MoveNo) -> list[MoveNo]:
        """The moves that were begun after another, in that order; some may be over."""
        return [MoveNo(read_u64(key)) for key, _ in self.scan(schema.MOVES, start=u64(number + 1))]

    def moves_before(self, number: MoveNo | None, limit: int, *, open_only: bool) -> list[Move]:
        """At most `limit` moves, the newest first: those begun before another, or the last of all."""
        if open_only:
            numbers = (MoveNo(read_u64(key[8:])) for key, _ in self.scan(schema.OPEN_MOVES))
            chosen = heapq.nlargest(limit, (each for each in numbers if number is None or each < number))
            return [move for each in chosen if (move := self.move(each)) is not None]
        values = self.scan_back(schema.MOVES, b"" if number is None else u64(number))
        return [schema.MOVE.unpack(value) for _, value in islice(values, limit)]

    def open_numbers(self) -> list[MoveNo]:
        """The numbers of what is on its way, in order."""
        return sorted(MoveNo(read_u64(key[8:])) for key, _ in self.scan(schema.OPEN_MOVES))

    def has_open_moves(self) -> bool:
        """Whether anything is on its way at all."""
        return self.has_prefix(schema.OPEN_MOVES, b"")

    def open_moves_of(self, inode: InodeNo) -> list[Move]:
        return self._open(u64(inode))

    def _open(self, prefix: bytes) -> list[Move]:
        numbers = [MoveNo(read_u64(key[8:])) for key, _ in self.scan(schema.OPEN_MOVES, prefix)]
        return [move for number in numbers if (move := self.move(number)) is not None]
