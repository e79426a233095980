"""The client for trio: several requests and the events at once on one connection.

There is no task of its own, so that what goes wrong is raised where it is waited for, never in a group: whoever waits
reads for all, until it has what it waits for; then another one of those who wait goes on.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self

import trio

from fusestore.client.blocking import reach
from fusestore.client.following import Following, Lost, place_of
from fusestore.client.wire import FENCE, OF_A_SYNC, PATIENCE_S, SILENT_S, Event, Progress, StreamLost, Wire, manifest
from fusestore.errors import ControlError, NoDaemon

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from fusestore.client.following import CursorStore

CANCEL_S = 1.0  # how long telling the daemon of a cancellation may hold it up
MSG_NOSIGNAL = trio.socket.MSG_NOSIGNAL


class AsyncClient:
    """One connection to a daemon, for any number of tasks: `async with AsyncClient(path) as client`.

    Events that nobody takes are kept while requests go on; a connection for them alone holds the daemon back instead.

    Raises:
        NoDaemon: when it is entered: nobody answers at `path`, or this user may not ask.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._wire = Wire()
        self._socket: trio.socket.SocketType
        self._sending = trio.Lock()
        self._waiting = trio.lowlevel.ParkingLot()
        self._is_reading = False
        self._end: str = "is not connected to: enter the client first"  # why nothing comes

    async def __aenter__(self) -> Self:
        self._socket = trio.socket.from_stdlib_socket(await trio.to_thread.run_sync(reach, self.path))
        self._end = ""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish("was left")
        self._socket.close()

    @property
    def is_read(self) -> bool:
        """Whether no event that has come waits to be read."""
        return self._wire.is_read

    async def call(
        self, method: str, data: object = None, *, progress: Progress | None = None, background: bool = False
    ) -> Any:
        """Call `method`, written "collection.name", and return what it answers, however long it takes.

        When it is cancelled, the daemon is told to cancel the request, too.

        Args:
            background: return the job at once, which goes on without this connection.

        Raises:
            ControlError: the daemon answered with an error.
            NoDaemon: the daemon went away, or answers nothing any more.
        """
        pending = self._wire.request(method, data, background=background)
        try:
            await self._send(pending.line)
            while not pending.is_answered:
                await self._hear(lambda: pending.is_answered or pending.has_said)
                pending.tell(progress)
        except trio.Cancelled:
            cancelling = self._wire.request("jobs.cancel", {"tid": pending.tid})
            self._wire.forget(cancelling)
            with trio.move_on_after(CANCEL_S, shield=True):
                await self._send(cancelling.line)
            raise
        finally:
            self._wire.forget(pending)
        return pending.result()

    async def events(
        self,
        since: int | None = None,
        epoch: int | None = None,
        *,
        consumer: str | None = None,
        paths: list[str] | None = None,
        roots: list[str] | None = None,
        kinds: list[str] | None = None,
        snapshot: bool = False,
        fences: bool = False,
    ) -> AsyncGenerator[Event, None]:
        """As `Client.events`; requests go on meanwhile. A connection has one such stream."""
        wanted = {"consumer": consumer, "paths": paths, "roots": roots, "kinds": kinds}
        await self.call("events.listen", {"since": since, "epoch": epoch, "snapshot": snapshot, **wanted})
        while True:
            while (event := self._wire.event()) is None:
                await self._hear(lambda: not self._wire.is_read)
            if fences or event["kind"] != FENCE:
                yield event

    async def sync(
        self,
        known: Mapping[str, int],
        epoch: int | None = None,
        *,
        paths: list[str] | None = None,
        roots: list[str] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """As `Client.sync`; leave it by `contextlib.aclosing`."""
        for page, has_more in manifest(known):
            asked = {"manifest": page, "more": has_more, "epoch": epoch, "paths": paths, "roots": roots}
            if has_more:
                await self.call("events.sync", asked)
        pending = self._wire.request("events.sync", asked)
        try:
            await self._send(pending.line)
            while not (pending.is_answered and self._wire.is_read):
                if (event := self._wire.event()) is None:
                    await self._hear(lambda: pending.is_answered or not self._wire.is_read)
                elif event["kind"] in OF_A_SYNC:
                    yield event
        finally:
            self._wire.forget(pending)
        yield {"kind": "whole", **pending.result()}

    @classmethod
    async def follow(
        cls,
        path: Path,
        cursor: CursorStore | str,
        *,
        paths: list[str] | None = None,
        roots: list[str] | None = None,
        kinds: list[str] | None = None,
        snapshot: bool = False,
    ) -> AsyncGenerator[Event | Lost, None]:
        """As `Client.follow`. Leave it by `contextlib.aclosing`, so that its connection ends at once."""
        state = Following({"paths": paths, "roots": roots, "kinds": kinds}, snapshot=snapshot)
        while True:
            try:
                async with cls(path) as client:
                    if not state.is_begun:
                        known = await client._load(cursor)
                        state.begin(known, await client.call("events.list", {"limit": 0}))
                    async with aclosing(client._go_on(state, cursor)) as items:
                        async for item in items:
                            yield item
            except NoDaemon:
                if not state.is_begun:
                    raise
            except ControlError as error:
                if error.code != "too_many" or not state.is_begun:
                    raise
            await trio.sleep(state.pause())

    async def _go_on(self, state: Following, cursor: CursorStore | str) -> AsyncGenerator[Event | Lost, None]:
        while True:
            if state.lost is not None:
                yield state.lost
                await self._save(state, cursor, state.looked())
            try:
                async with aclosing(self.events(**state.arguments(), fences=True)) as events:
                    async for event in events:
                        if event["kind"] != FENCE:
                            yield event
                        await self._save(state, cursor, state.handled(event, is_read=self.is_read))
            except StreamLost as stopped:
                state.lose(stopped)
                await trio.sleep(state.pause())

    async def _load(self, cursor: CursorStore | str) -> tuple[int, int] | None:
        if isinstance(cursor, str):
            return place_of(cursor, await self.call("events.consumers"))
        return cursor.load()

    async def _save(self, state: Following, cursor: CursorStore | str, at: tuple[int, int] | None) -> None:
        if at is None:
            return
        if not isinstance(cursor, str):
            cursor.save(*at)
            return
        try:
            for method, data in state.acknowledging(cursor, *at):
                await self.call(method, data)
        except ControlError as error:
            if state.refused(error):
                await self._save(state, cursor, at)

    async def _hear(self, is_there: Callable[[], bool]) -> None:
        """Return when what is waited for has come; reads for all who wait, if nobody does.

        Raises:
            NoDaemon: nothing more comes.
        """
        while not is_there():
            if self._end:
                raise NoDaemon(f"the daemon at {self.path} {self._end}")
            if self._is_reading:
                await self._waiting.park()
                continue
            self._is_reading = True
            try:
                await self._receive()
            finally:
                self._is_reading = False
                self._waiting.unpark_all()

    async def _receive(self) -> None:
        data = None
        with trio.move_on_after(SILENT_S):
            data = await self._read()
        if data is None:
            with trio.move_on_after(PATIENCE_S):
                await self._send(self._wire.sign_of_life())
                data = await self._read()
        if data is None:
            self._finish("does not answer any more")
        elif not data:
            self._finish("went away")
        else:
            self._wire.feed(data)

    async def _read(self) -> bytes:
        try:
            return await self._socket.recv(256 << 10)
        except (ConnectionResetError, trio.ClosedResourceError):
            return b""

    async def _send(self, line: bytes) -> None:
        """Send a line whole, or not at all; one that is cut off by cancelling ends the connection."""
        sent = 0
        async with self._sending:
            try:
                while sent < len(line) and not self._end:
                    sent += await self._socket.send(line[sent:], MSG_NOSIGNAL)
            except (BrokenPipeError, ConnectionResetError):
                pass  # what it said before it closed is read yet
            finally:
                if 0 < sent < len(line):
                    self._finish("was left in the middle of a request")

    def _finish(self, reason: str) -> None:
        self._end = self._end or reason
        self._waiting.unpark_all()
