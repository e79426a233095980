"""One peer's conversation, from accept to close.

    read ─► decode ─► plain method: answered here, in order ──────────► outbox ─► write
                 ├──► long method: a task of its own, at most LONG_MAX ──► ▲
                 │    events.listen: the feed, a cursor into the log ──────┤
                 └──► in the background: answered with its job at once ────┘

Everything a peer causes lives in this connection's nursery and ends with it, but for jobs in the background. A peer
that does not read is not read from either once its outbox is full. A peer that only shut down its sending side is still
answered and fed until it hangs up.
"""

from __future__ import annotations

import select
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from msgspec.structs import replace

from fusestore.control.crowd import LISTENING
from fusestore.control.events import Feed
from fusestore.control.jobs import BOUND, Job
from fusestore.control.known import Known
from fusestore.control.methods import Call, answer, arguments_of, lookup
from fusestore.control.outbox import Outbox
from fusestore.control.protocol import Decoder, Unreadable, encode_error, encode_progress, encode_reply
from fusestore.control.pulse import Pulse
from fusestore.control.table import COLLECTIONS
from fusestore.errors import ControlError
from fusestore.service.breath import Breath

if TYPE_CHECKING:
    from fusestore.control.methods import Arguments, Method, Queries, Report, Role
    from fusestore.control.protocol import Request, Tid
    from fusestore.control.roles import Roles
    from fusestore.control.server import Connections
    from fusestore.model import Owner

READ_BYTES: Final = 64 << 10
LONG_MAX: Final = 32  # long requests of one connection at a time
HELD_MAX: Final = 4 << 20  # bytes of their lines, but for a single one
PROGRESS_S: Final = 0.3
HANGUP_S: Final = 0.2  # how often a half-closed peer is looked at
FLUSH_S: Final = 1.0
TID_MAX: Final = 64  # bytes of a tid that events repeat, as MessagePack
LISTEN: Final = COLLECTIONS["events"]["listen"]
PING: Final = COLLECTIONS["dispatcher"]["ping"]  # says that somebody is there, and asks for nothing


class Connection:
    """One accepted peer."""

    def __init__(
        self,
        stream: trio.SocketStream,
        peer: Owner,
        groups: frozenset[int],
        queries: Queries,
        connections: Connections,
    ) -> None:
        self._stream = stream
        self._peer = peer
        self._groups = groups
        self.role: Role = connections.roles.of(peer, groups)
        self._queries = queries
        self._connections = connections
        self._outbox = Outbox(stream)
        self._known = Known(queries)
        self._breath = Breath(peer.uid)
        self._long = self._held = 0  # long requests, and bytes of their lines
        self._much = trio.Lock()
        self._asked_at = trio.current_time()
        self._feed: Feed
        self._pulse: Pulse
        self._scope: trio.CancelScope

    @property
    def is_watching(self) -> bool:
        return self._feed.is_active

    @property
    def uid(self) -> int:
        return self._peer.uid

    @property
    def idle_since(self) -> float | None:
        """Since when it has asked for nothing; None if it listens, or something is under way or reserved."""
        is_busy = (
            self._feed.is_active or self._long > 0 or not self._outbox.is_empty or self._queries.has_reserved(self)
        )
        return None if is_busy else self._asked_at

    def make_room(self) -> None:
        """End soon, for somebody else."""
        error = ControlError("too_many", "this connection was idle and has made room for another", "connect again")
        self._outbox.offer(encode_error(None, error))
        self._scope.deadline = trio.current_time() + FLUSH_S

    def take_role(self, roles: Roles) -> None:
        """Go by these roles from now on; a conversation that would have to be another with a lower one ends soon."""
        before, self.role = self.role, roles.of(self._peer, self._groups)
        if self.role < before:
            self._feed.stop()
            self._scope.deadline = trio.current_time() + FLUSH_S  # who took its own role away has the reply to that

    async def run(self) -> None:
        """Converse until the peer is gone."""
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                await self._converse(nursery)
        finally:
            self._known.forget()
            self._queries.unreserve_all(self)

    async def _converse(self, nursery: trio.Nursery) -> None:
        shared = self._connections
        self._feed = Feed(self._queries, shared.lines, shared.snapshots, self._outbox, nursery, self._breath)
        self._pulse = Pulse(self._outbox, nursery, nursery.cancel_scope.cancel)
        nursery.start_soon(self._write, nursery.cancel_scope)
        try:
            await self._read(nursery)
            await self._finish()
        except trio.BrokenResourceError:
            pass  # the peer is gone; nobody is left to be told
        nursery.cancel_scope.cancel()

    async def _write(self, conversation: trio.CancelScope) -> None:
        try:
            await self._outbox.run()
        except trio.BrokenResourceError:
            conversation.cancel()

    async def _read(self, nursery: trio.Nursery) -> None:
        decoder = Decoder()
        while data := await self._stream.receive_some(READ_BYTES):
            self._pulse.heard()
            for item in decoder.feed(data):
                await self._breath.take()
                if isinstance(item, Unreadable):
                    await self._outbox.put(encode_error(item.tid, item.error))
                else:
                    await self._take(item, decoder.length, nursery)

    async def _take(self, request: Request, length: int, nursery: trio.Nursery) -> None:
        try:
            method = lookup(COLLECTIONS, request, self.role)
            arguments = arguments_of(request, method)
            if request.background:
                await self._outbox.put(self._in_background(method, request, arguments))
                return
            if method.is_long and self._long >= LONG_MAX:
                raise ControlError("too_many", f"{LONG_MAX} long requests of this connection are running already")
            if method.is_long and self._long and self._held + length > HELD_MAX:
                raise ControlError("too_many", f"requests of more than {HELD_MAX} bytes are running already")
            if method is LISTEN and not self._feed.is_active and self._connections.watchers() >= LISTENING:
                raise ControlError("too_many", f"{LISTENING} connections are listening already")
        except ControlError as error:
            await self._outbox.put(encode_error(request.tid, error))
            return
        if method is not PING:
            self._asked_at = trio.current_time()
        if method.is_long:
            self._long += 1
            self._held += length
            job = Job(request, arguments, self._peer, self)
            self._connections.jobs.add(job)
            nursery.start_soon(self._answer_long, method, request, arguments, length, job)
        else:
            await self._answer(method, request, arguments)

    def _in_background(self, method: Method, request: Request, arguments: Arguments) -> bytes:
        """Begin a job that goes on without this connection; returns the reply that names it."""
        if not method.is_long:
            raise ControlError("bad_request", f"{request.name} is answered at once and never a job")
        if request.collection in BOUND:
            raise ControlError("bad_request", f"{request.name} needs its connection")
        job = Job(request, arguments, self._peer, None)
        work = partial(answer, method, request, arguments, self._call(request.tid, job.report))
        self._connections.jobs.start(job, work)
        return encode_reply(request.tid, {"job": job.id})

    async def _answer_long(self, method: Method, request: Request, arguments: Arguments, length: int, job: Job) -> None:
        tell = self._reporter(request.tid)

        def report(done: int, total: int, unit: str) -> None:
            job.report(done, total, unit)
            tell(done, total, unit)

        async def turn() -> None:
            await holding.enter_async_context(self._much)

        call = self._call(request.tid, report)
        call.turn = turn
        try:
            async with AsyncExitStack() as holding:
                work = partial(answer, method, request, arguments, call)
                await self._outbox.put(await job.run(work))
        finally:
            self._connections.jobs.forget(job)
            self._long -= 1
            self._held -= length

    async def _answer(self, method: Method, request: Request, arguments: Arguments) -> None:
        call = self._call(request.tid, lambda done, total, unit: None)
        reply = await answer(method, request, arguments, call)
        try:
            await self._outbox.put(reply)
            if call.then is not None:
                with trio.move_on_after(FLUSH_S):
                    await self._outbox.flushed()
        finally:  # also when the peer has hung up
            if call.then is not None:
                call.then()

    def _call(self, tid: Tid, report: Report) -> Call:
        return Call(
            queries=self._queries,
            table=COLLECTIONS,
            peer=replace(self._peer, tid=_recorded(tid)),
            groups=self._groups,
            role=self.role,
            connection=self,
            feed=self._feed,
            keep_alive=self._pulse.start,
            known=self._known,
            jobs=self._connections.jobs,
            watchers=self._connections.watchers,
            report=report,
        )

    def _reporter(self, tid: Tid) -> Report:
        """Progress of one request: the newest figures now and then, left out while the peer is behind."""
        due = 0.0

        def report(done: int, total: int, unit: str) -> None:
            nonlocal due
            now = time.monotonic()
            if now >= due and not self._outbox.is_full and self._outbox.offer(encode_progress(tid, done, total, unit)):
                due = now + PROGRESS_S

        return report

    async def _finish(self) -> None:
        """The peer sends no more: go on until it has everything it asked for, or hung up."""
        self._pulse.stop()
        while (self._long or self._feed.is_active or not self._outbox.is_empty) and not self._hung_up():
            if self._outbox.is_empty:
                await trio.sleep(HANGUP_S)
            else:
                with trio.move_on_after(HANGUP_S):
                    await self._outbox.flushed()

    def _hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self._stream.socket.fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def _recorded(tid: Tid) -> Tid:
    """A tid as events repeat it; None where it is too long for them, or their records cannot hold it."""
    try:
        return tid if len(msgspec.msgpack.encode(tid)) <= TID_MAX else None
    except (OverflowError, UnicodeEncodeError):
        return None
