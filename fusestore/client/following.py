"""Where a watcher stands that goes on through restarts of the daemon and losses of events; no I/O.

    nothing known ─► Lost ─► [present … whole ─►] event ─► event ─► …
          ▲                                                 │ events are missing
          └─────────────────────────────────────────────────┘

`Lost` says that what the watcher knew may be out of date: at its very first, and when events are missing. An event is
handled once the watcher asks for the next one. What is handled is saved now and then, and whenever no event waits, so
each event comes at least once.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from fusestore.client.wire import FENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.client.wire import Event, StreamLost

EVERY: Final = 100  # events that are saved together while more wait
FIRST_PAUSE_S: Final = 0.1  # before connecting again
LONGEST_PAUSE_S: Final = 5.0


class CursorStore(Protocol):
    """Keeps where a watcher stands, where it survives the watcher."""

    def load(self) -> tuple[int, int] | None:
        """The (epoch, seq) saved last; None when there is none yet."""

    def save(self, epoch: int, seq: int) -> None:
        """All events up to this one are handled."""


class Lost(NamedTuple):
    """What was known may be out of date: look at the tree now; the events after `seq` follow.

    Whoever follows with `snapshot` is told what there is next, and need not look.
    """

    reason: str
    epoch: int
    seq: int


class Following:
    """One watcher, whatever connections it has had."""

    def __init__(self, wanted: dict[str, Any], *, snapshot: bool) -> None:
        self._wanted = wanted
        self._snapshot = snapshot
        self._cursor: tuple[int, int] | None = None
        self._unsaved = 0
        self._is_registered = True
        self.lost: Lost | None = None  # to be told before it goes on
        self.is_begun = False

    def begin(self, cursor: tuple[int, int] | None, log: dict[str, Any]) -> None:
        """Stand where the store says.

        Args:
            log: what `events.list` says of the log as it is now.
        """
        self.is_begun = True
        self._cursor = cursor
        if cursor is None:
            self._is_registered = False
            self.lost = Lost("nothing is known yet", log["epoch"], log["last_seq"])

    def lose(self, stopped: StreamLost) -> None:
        """The stream has ended."""
        self.lost = Lost(stopped.reason, stopped.epoch, stopped.snapshot_seq)

    def looked(self) -> tuple[int, int] | None:
        """The loss was told; what to save, unless a snapshot has to come first."""
        if self.lost is None or self._snapshot:
            return None
        self._cursor = (self.lost.epoch, self.lost.seq)
        self.lost = None
        return self._cursor

    def arguments(self) -> dict[str, Any]:
        """What to listen for now."""
        if self.lost is not None or self._cursor is None:
            return {"snapshot": True, **self._wanted}
        epoch, seq = self._cursor
        return {"since": seq, "epoch": epoch, **self._wanted}

    def handled(self, event: Event, *, is_read: bool) -> tuple[int, int] | None:
        """The watcher asks for the next one; what to save now.

        Args:
            is_read: no other event waits.
        """
        reached = (event["epoch"], event["seq"])
        if event["kind"] == "present":  # a cursor only once all is told
            return None
        if event["kind"] == FENCE and (self.lost is not None or (reached == self._cursor and not self._unsaved)):
            return None
        self.lost = None
        self._cursor = reached
        self._unsaved += 1
        if not is_read and self._unsaved < EVERY:
            return None
        self._unsaved = 0
        return self._cursor

    def acknowledging(self, consumer: str, epoch: int, seq: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """The requests that save a consumer's cursor.

        It is registered no sooner than it has something to acknowledge, so that one which was ended before it had
        looked at the tree begins anew.
        """
        if not self._is_registered:
            yield "events.register", {"consumer": consumer, "since": seq}
            self._is_registered = True
        yield "events.ack", {"consumer": consumer, "epoch": epoch, "seq": seq}


def place_of(consumer: str, consumers: list[dict[str, Any]]) -> tuple[int, int] | None:
    """The cursor of a consumer, among those that `events.consumers` tells of."""
    return next(((each["epoch"], each["seq"]) for each in consumers if each["consumer"] == consumer), None)


def pauses() -> Iterator[float]:
    """How long to wait before each attempt to connect, in seconds."""
    return (
        min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S) for attempt in itertools.chain(range(10), itertools.repeat(9))
    )
