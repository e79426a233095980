"""The event log as lines to send: each event is read and encoded once, however many watchers get it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fusestore.control.broadcasts import encode_broadcast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fusestore.control.methods import Queries

PAUSE_S: Final = 0.001  # for each other watcher
PAUSE_MAX_S: Final = 0.1
KEPT: Final = 1024  # of the newest; whoever is further behind reads the log by itself


class Line(NamedTuple):
    """One event, and what is sent of it."""

    seq: int
    event: Mapping[str, Any]
    encoded: bytes


class Lines:
    """What watchers are fed from; one for all of them."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._kept: dict[int, Line] = {}  # by `seq`
        self._epoch = queries.epoch
        self._watchers = 0

    @property
    def pause_s(self) -> float:
        """How long a watcher who has heard everything is left alone, so that many hear of several events at a time.

        Each event by itself would cost all who change the tree more than the change does.
        """
        return min(PAUSE_MAX_S, PAUSE_S * (self._watchers - 1))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this is held, there is one watcher more."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    def after(self, seq: int, limit: int) -> list[Line]:
        """The events after `seq`, in order; at most `limit`, and perhaps fewer than there are, but not none."""
        if self._epoch != self._queries.epoch:  # what was kept may not have survived
            self._epoch = self._queries.epoch
            self._kept.clear()
        lines: list[Line] = []
        while len(lines) < limit and (kept := self._kept.get(seq + 1)) is not None:
            lines.append(kept)
            seq += 1
        return lines if lines or seq >= self._queries.last_seq else self._read(seq, limit)

    def _read(self, seq: int, limit: int) -> list[Line]:
        events = self._queries.events(seq, limit)
        lines = [Line(event["seq"], event, encode_broadcast(event)) for event in events]
        if lines and lines[-1].seq + KEPT > self._queries.last_seq:
            self._kept.update((line.seq, line) for line in lines)
            for old in sorted(self._kept)[:-KEPT]:
                del self._kept[old]
        return lines
