"""Where a watcher stands that goes on through restarts of the daemon and losses of events; no I/O.

    nothing known ─► Lost ─► [present … whole ─►] event ─► event ─► …
          ▲                                                 │ events are missing
          └─────────────────────────────────────────────────┘

`Lost` says that what the watcher knew may be out of date: at its very first, and when events are missing. An event is
handled once the watcher asks for the next one. What is handled is saved now and then, and whenever no event waits, so
each event comes at least once. What brings no event is tried again, ever more seldom.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from fusestore.client.wire import FENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.client.wire import Event, StreamLost
    from fusestore.errors import ControlError

EVERY: Final = 100  # events that are saved together while more wait
FIRST_PAUSE_S: Final = 0.1  # before listening again
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

    @property
    def cursor(self) -> tuple[int, int]:
        """Where the events that follow begin."""
        return self.epoch, self.seq


class Following:
    """One watcher, whatever connections it has had."""

    def __init__(self, wanted: dict[str, Any], *, snapshot: bool) -> None:
        self._wanted = wanted
        self._snapshot = snapshot
        self._cursor: tuple[int, int] | None = None
        self._unsaved = 0
        self._is_registered = True
        self._lost: Lost | None = None  # until an event comes
        self._told: tuple[int, int] | None = None  # of which loss, until anything comes
        self._pauses = pauses()
        self.is_begun = False

    @property
    def lost(self) -> Lost | None:
        """What has to be told before it goes on: each loss once, but anew when a snapshot begins anew."""
        return self._lost if self._lost is not None and self._lost.cursor != self._told else None

    def begin(self, cursor: tuple[int, int] | None, log: dict[str, Any]) -> None:
        """Stand where the store says.

        Args:
            log: what `events.list` says of the log as it is now.
        """
        self.is_begun = True
        self._cursor = cursor
        if cursor is None:
            self._is_registered = False
            self._lost = Lost("nothing is known yet", log["epoch"], log["last_seq"])

    def lose(self, stopped: StreamLost) -> None:
        """The stream has ended."""
        self._lost = Lost(stopped.reason, stopped.epoch, stopped.snapshot_seq)

    def pause(self) -> float:
        """How long to wait before it listens again, in seconds: longer each time, until an event comes."""
        return next(self._pauses)

    def looked(self) -> tuple[int, int] | None:
        """The loss was told; what to save, unless a snapshot has to come first."""
        if self._lost is None:
            return None
        self._told = self._lost.cursor
        if self._snapshot:
            return None
        self._cursor = self._told
        return self._cursor

    def arguments(self) -> dict[str, Any]:
        """What to listen for now."""
        if self._cursor is None or self._is_incomplete:
            return {"snapshot": True, **self._wanted}
        epoch, seq = self._cursor
        return {"since": seq, "epoch": epoch, **self._wanted}

    def handled(self, event: Event, *, is_read: bool) -> tuple[int, int] | None:
        """The watcher asks for the next one; what to save now.

        Args:
            is_read: no other event waits.
        """
        reached = (event["epoch"], event["seq"])
        if event["kind"] == FENCE and (self._is_incomplete or (reached == self._cursor and not self._unsaved)):
            return None
        self._told = None
        if event["kind"] == "present":  # a cursor only once all is told
            return None
        self._lost = None
        self._pauses = pauses()
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

    def refused(self, error: ControlError) -> bool:
        """The daemon does not take an acknowledgement; whether to say it again, which registers the consumer again.

        Raises:
            ControlError: the watcher cannot go on.
        """
        if error.code == "lost":  # retention was faster, and the stream says so if it goes no further
            return False
        if error.code != "not_found" or not self._is_registered:
            raise error
        self._is_registered = False  # forgotten: by an operator, or with the index that was made anew
        return True

    @property
    def _is_incomplete(self) -> bool:
        """Whether what there is has to come before the next event."""
        return self._snapshot and self._lost is not None


def place_of(consumer: str, consumers: list[dict[str, Any]]) -> tuple[int, int] | None:
    """The cursor of a consumer, among those that `events.consumers` tells of."""
    return next(((each["epoch"], each["seq"]) for each in consumers if each["consumer"] == consumer), None)


def pauses() -> Iterator[float]:
    """How long to wait before each attempt to listen, in seconds."""
    return (
        min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S) for attempt in itertools.chain(range(10), itertools.repeat(9))
    )
