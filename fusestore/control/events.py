"""The collection `events`: the log, and following it without a gap.

A watcher is a cursor into the log, nothing else: it is fed in batches as fast as it reads, so one that falls behind
holds no memory and no transaction and delays nobody. The stream goes on only as long as each event after the cursor is
in the log; otherwise it ends with a stop message, and the watcher must look at the tree before it listens again.

How far moves are is no event (docs/moves.md): it goes to those who ask for it, beside the log, and is left out while
they are behind.

A cursor survives when the event it names is still there under the same epoch, or the log begins right behind it:

    since = first_seq - 1 … last_seq, event(since).epoch = epoch     goes on
    since < first_seq - 1                                            lost: cut off by retention
    since > last_seq, or another epoch, or no such event             lost: what the watcher saw did not survive a crash
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import trio
from msgspec import Meta

from fusestore.control.files import one_of
from fusestore.control.filters import Filter
from fusestore.control.methods import Arguments, Call, Method, Number, names
from fusestore.control.protocol import encode_progress_of_move, encode_stopped
from fusestore.errors import ControlError, FusestoreError
from fusestore.model import KINDS

if TYPE_CHECKING:
    from fusestore.control.lines import Lines
    from fusestore.control.methods import Queries
    from fusestore.control.outbox import Outbox
    from fusestore.control.snapshots import Snapshots, Spool
    from fusestore.service.breath import Breath

BATCH: Final = 256  # events read at once, at most
PIECE_BYTES: Final = 128 << 10  # of them as lines; well below a full outbox
LIST_MAX: Final = 1000
FILTER_MAX: Final = 1000  # paths, roots, kinds
Some = Annotated[list[str], Meta(max_length=FILTER_MAX)]
PROGRESS_S: Final = 0.3
COUNTS: Final = ("state", "files_done", "bytes_done")  # what makes a move worth another line


class Wanted(Arguments):
    """What events shall be about; null does not ask, and an empty list is met by none."""

    paths: Some | None = None
    roots: Some | None = None
    kinds: Some | None = None


class Since(Wanted):
    """Events after `since`; without it, from the oldest on."""

    since: Number | None = None
    limit: Annotated[int, Meta(ge=0, le=LIST_MAX)] = 1000


class Cursor(Wanted):
    """The last event the watcher has seen; without `since`, only what comes from now on.

    A `consumer` goes on behind what it has acknowledged. With `snapshot`, first what there is, then what comes after
    it. With `progress`, how far moves are, too.
    """

    consumer: str | None = None
    since: Number | None = None
    epoch: Number | None = None
    progress: bool = False
    snapshot: bool = False


def why_lost(queries: Queries, since: int, epoch: int | None = None) -> str:
    """Why events after the cursor are missing; "" when none is."""
    if reason := _cut_off(queries, since):
        return reason
    if since > queries.last_seq or (epoch is not None and epoch > queries.epoch):
        return f"the log ends at {queries.last_seq} of epoch {queries.epoch}"
    if since < queries.first_seq:
        return ""
    seen = queries.events(since - 1, 1)
    if not seen or seen[0]["seq"] != since or epoch not in (None, seen[0]["epoch"]):
        return f"event {since} did not survive a crash"
    return ""


def _cut_off(queries: Queries, since: int) -> str:
    return f"the log begins at {queries.first_seq}" if since < queries.first_seq - 1 else ""


class Piece(NamedTuple):
    """Some of the log.

    Attributes:
        last, number: its last event, and how many there are.
        passing: those that are wanted, as lines.
        fitting: how many that are as long as these make a piece.
    """

    last: int
    number: int
    passing: bytes
    fitting: int


class Feed:
    """The subscription of one connection; there is at most one."""

    def __init__(
        self,
        queries: Queries,
        lines: Lines,
        snapshots: Snapshots,
        outbox: Outbox,
        nursery: trio.Nursery,
        breath: Breath,
    ) -> None:
        self._queries = queries
        self._lines = lines
        self.snapshots = snapshots
        self._outbox = outbox
        self._nursery = nursery
        self._breath = breath
        self._scope: trio.CancelScope | None = None
        self._position = 0  # all up to this event is on its way to the peer, as far as it wants it
        self._moved = trio.Event()
        self._fences = 0  # that wait for the position
        self._pausing = trio.CancelScope()

    @property
    def is_active(self) -> bool:
        return self._scope is not None

    def stop(self) -> bool:
        """End the subscription at once; whether there was one. No line of it follows."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.cancel()
            self._tell_waiting()
        return scope is not None

    def prepare(self) -> trio.CancelScope:
        """Count as listening from now on, though nothing is fed before `start`; returns what ends it."""
        self.stop()
        self._scope = scope = trio.CancelScope()
        return scope

    def start(
        self, scope: trio.CancelScope, since: int | None, reason: str, wanted: Filter, *, progress: bool = False
    ) -> None:
        """Feed the events after `since`, or without one all that is there and then what comes after that.

        With a `reason` why events are missing, say that and no more. What was prepared and stopped since is not fed.
        """
        if self._scope is not scope:
            return
        self._position = since if since is not None else -1
        self._nursery.start_soon(self._follow, since, reason, wanted, scope)
        if progress and not reason:
            self._nursery.start_soon(self._tell_progress, scope)

    async def _tell_progress(self, subscription: trio.CancelScope) -> None:
        """How far the moves are that go on, as long as the subscription lasts."""
        said: dict[int, dict[str, Any]] = {}
        while self._scope is subscription:
            now = {move["number"]: move for move in self._queries.progress()}
            for number, move in now.items():
                counts = {name: move[name] for name in COUNTS}
                if said.get(number) != counts and self._outbox.offer(encode_progress_of_move(move)):
                    said[number] = counts
            said = {number: counts for number, counts in said.items() if number in now}
            await trio.sleep(PROGRESS_S)

    async def passed(self, seq: int) -> None:
        """Return once the subscription, if there is one, is past this event."""
        self._fences += 1
        self._pausing.cancel()
        try:
            while self._scope is not None and self._position < seq:
                await self._moved.wait()
        finally:
            self._fences -= 1

    async def _pause(self) -> None:
        """Leave the others some time, but keep no fence waiting."""
        if (pause_s := self._lines.pause_s) and not self._fences:
            with trio.move_on_after(pause_s) as self._pausing:
                await trio.sleep_forever()

    async def _follow(self, since: int | None, reason: str, wanted: Filter, scope: trio.CancelScope) -> None:
        with self._queries.listening(), self._lines.watched(), scope:
            if since is None:
                since, reason = await self._show(wanted)
            await self._breath.take()
            limit = BATCH // 8  # until it is known how long they are
            while not (reason := reason or _cut_off(self._queries, since)):
                piece = self._next(since, limit, wanted)
                since = piece.last
                if piece.passing:
                    await self._outbox.put(piece.passing)
                self._reach(since, scope)
                await trio.lowlevel.checkpoint()  # also from a log of which nothing is wanted
                if not piece.number:
                    await self._queries.changed(since)
                elif piece.number < limit:
                    await self._pause()
                else:
                    await self._breath.take()
                limit = piece.fitting
            await self._outbox.put(encode_stopped(reason, self._queries.last_seq, self._queries.epoch))
            self._scope = None
            self._tell_waiting()

    def _next(self, since: int, limit: int, wanted: Filter) -> Piece:
        """What comes after an event; whoever does not read holds no more than one of them."""
        lines = self._lines.after(since, limit)
        if not lines:
            return Piece(since, 0, b"", limit)
        passing = b"".join(line.encoded for line in lines if wanted.passes(line.event))
        longest = max(len(line.encoded) for line in lines)
        return Piece(lines[-1].seq, len(lines), passing, min(BATCH, 1 + PIECE_BYTES // longest))

    async def _show(self, wanted: Filter) -> tuple[int, str]:
        """All that is there; returns the event that it goes on from, and why it cannot."""
        try:
            spool = await self.snapshots.take(wanted)
            await self.pour(spool)
        except (OSError, FusestoreError) as error:
            return 0, f"what there is cannot be told: {error}"
        return spool.seq, ""

    async def pour(self, spool: Spool) -> None:
        """Feed what is in a spool, and close it."""
        try:
            while lines := await spool.next():
                await self._outbox.put(lines)
        finally:
            await spool.aclose()

    def _reach(self, seq: int, subscription: trio.CancelScope) -> None:
        if self._scope is subscription:
            self._position = seq
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        moved, self._moved = self._moved, trio.Event()
        moved.set()


def chosen(call: Call, wanted: Wanted) -> Filter:
    """The filter that a request asks for.

    Raises:
        ControlError: a path stands for no name, or there is no such root or kind.
    """
    if wanted.roots:
        known = [root["name"] for root in call.queries.roots()]
        for root in wanted.roots:
            if root not in known:
                raise ControlError("not_found", f"there is no root {root!r}", names(known), errno=errno.ENOENT)
    for kind in wanted.kinds or ():
        if kind not in KINDS:
            raise ControlError("bad_data", f"data: no event has the kind {kind!r}", names(KINDS), errno=errno.EINVAL)
    return Filter(
        paths=tuple(one_of(path, None) or "" for path in wanted.paths) if wanted.paths is not None else None,
        roots=frozenset(wanted.roots) if wanted.roots is not None else None,
        kinds=frozenset(wanted.kinds) if wanted.kinds is not None else None,
    )


def _ends(queries: Queries) -> dict[str, Any]:
    return {"first_seq": queries.first_seq, "last_seq": queries.last_seq, "epoch": queries.epoch}


def list_events(call: Call, wanted: Since) -> dict[str, Any]:
    """A page of the log, oldest first, with the log's ends."""
    asked = chosen(call, wanted)
    since = call.queries.first_seq - 1 if wanted.since is None else wanted.since
    if reason := why_lost(call.queries, since):
        hint = f"read on from {call.queries.first_seq - 1}, or leave `since` out"
        raise ControlError("lost", f"events after {since} are missing: {reason}", hint)
    events = call.queries.events(since, wanted.limit) if wanted.limit else []
    position = events[-1]["seq"] if events else since
    passing = [event for event in events if asked.passes(event)]
    return {"events": passing, "position": position, **_ends(call.queries)}


def listen(call: Call, cursor: Cursor) -> dict[str, Any]:
    """Broadcast every event after `since` that is wanted, each once: those in the log, then each as it happens.

    With `snapshot` first what there is, then every event after that.
    """
    asked = chosen(call, cursor)
    since, epoch = _begun(call.queries, cursor)
    scope = call.feed.prepare()
    reason = why_lost(call.queries, since, epoch) if since is not None else ""
    call.then = partial(call.feed.start, scope, since, reason, asked, progress=cursor.progress)
    return _ends(call.queries)


def _begun(queries: Queries, cursor: Cursor) -> tuple[int | None, int | None]:
    """After which event a watcher is fed, and its epoch; None behind what there is.

    Raises:
        ControlError: there are several ways to begin; NotFound: there is no such consumer.
    """
    if (cursor.consumer is not None) + (cursor.since is not None) + cursor.snapshot > 1:
        raise ControlError(
            "bad_data", "data: give one of consumer, since and snapshot", '{"since": 120}', errno=errno.EINVAL
        )
    if cursor.consumer is not None:
        known = queries.consumer(cursor.consumer)
        return known["seq"], known["epoch"]
    if cursor.snapshot:
        return None, None
    return queries.last_seq if cursor.since is None else cursor.since, cursor.epoch


def unlisten(call: Call, _: Arguments) -> dict[str, bool]:
    """End the broadcasts; says whether there were any."""
    return {"listening": call.feed.stop()}


async def fence(call: Call, _: Arguments) -> dict[str, int]:
    """The event that covers every call that had returned by now; its broadcasts come before this reply."""
    seq, epoch = call.queries.last_seq, call.queries.epoch
    await call.feed.passed(seq)
    return {"seq": seq, "epoch": epoch}


METHODS: Final = {
    "list": Method(list_events, Since),
    "listen": Method(listen, Cursor),
    "unlisten": Method(unlisten),
    "fence": Method(fence),
}
