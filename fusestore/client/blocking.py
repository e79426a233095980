"""The client that blocks, for the command line and for scripts."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Self

from fusestore.client.following import Following, Lost, place_of
from fusestore.client.wire import (
    FENCE,
    OF_A_SYNC,
    PATIENCE_S,
    QUICK_S,
    SILENT_S,
    Event,
    Progress,
    StreamLost,
    Wire,
    manifest,
)
from fusestore.control.address import connect
from fusestore.errors import ControlError, NoDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from fusestore.client.following import CursorStore


class Client:
    """One connection to a daemon, and one request at a time.

    Events that come while a request is under way are kept for whoever goes on with `events`.

    Raises:
        NoDaemon: nobody answers at `path`, or this user may not ask.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = reach(path)
        self._wire = Wire()
        self._end = ""  # why it is closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and all that it has begun but for jobs in the background."""
        self._finish("this client is closed")

    @property
    def is_read(self) -> bool:
        """Whether no event that has come waits to be read."""
        return self._wire.is_read

    def call(
        self,
        method: str,
        data: object = None,
        *,
        progress: Progress | None = None,
        timeout_s: float | None = QUICK_S,
        background: bool = False,
    ) -> Any:
        """Call `method`, written "collection.name", and return what it answers.

        Args:
            background: return the job at once, which goes on without this connection.

        Raises:
            ControlError: the daemon answered with an error.
            TimeoutError: no answer within `timeout_s`; if only a part of the request was sent, the client is closed.
            NoDaemon: the daemon went away, or answers nothing any more.
        """
        within = self._patience() if timeout_s is None else contextlib.nullcontext(time.monotonic() + timeout_s)
        pending = self._wire.request(method, data, background=background)
        try:
            with within as limit:
                self._send(pending.line, limit)
            while not pending.is_answered:
                self._receive(limit) if timeout_s is not None else self._hear()
                pending.tell(progress)
        finally:
            self._wire.forget(pending)
        return pending.result()

    def events(
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
    ) -> Iterator[Event]:
        """Every event after `since`, for ever; without it, those from now on.

        Args:
            consumer: go on behind what this one has acknowledged; instead of `since`.
            paths, roots, kinds: only events of these; None for all.
            snapshot: first what there is, of the kind `present`, and once it is complete one of the kind `whole`;
                then what comes after that.
            fences: when nothing has come for 10 s, also one of the kind `fence`: its seq and epoch are a cursor past
                all that is left out.

        Raises:
            StreamLost: events are missing.
            NoDaemon: the daemon went away, or answers no more; go on with the last seq and epoch once it is back.
        """
        wanted = {"consumer": consumer, "paths": paths, "roots": roots, "kinds": kinds}
        self.call("events.listen", {"since": since, "epoch": epoch, "snapshot": snapshot, **wanted})
        while True:
            while (event := self._wire.event()) is None:
                self._hear()
            if fences or event["kind"] != FENCE:
                yield event

    def sync(
        self,
        known: Mapping[str, int],
        epoch: int | None = None,
        *,
        paths: list[str] | None = None,
        roots: list[str] | None = None,
    ) -> Iterator[Event]:
        """What differs now from what a watcher knows, an object an item, and last one of the kind `whole`.

        Args:
            known: ids, each with the seq of what was last told of it, in the epoch `epoch`.
            paths, roots: only what is there; None for all.

        Raises:
            ControlError: it cannot be told. NoDaemon: the daemon went away, or answers no more.
        """
        for page, has_more in manifest(known):
            asked = {"manifest": page, "more": has_more, "epoch": epoch, "paths": paths, "roots": roots}
            if has_more:
                self.call("events.sync", asked)
        pending = self._wire.request("events.sync", asked)
        try:
            self._send(pending.line, time.monotonic() + QUICK_S)
            while not (pending.is_answered and self._wire.is_read):
                if (event := self._wire.event()) is None:
                    self._hear()
                elif event["kind"] in OF_A_SYNC:
                    yield event
        finally:
            self._wire.forget(pending)
        yield {"kind": "whole", **pending.result()}

    @classmethod
    def follow(
        cls,
        path: Path,
        cursor: CursorStore | str,
        *,
        paths: list[str] | None = None,
        roots: list[str] | None = None,
        kinds: list[str] | None = None,
        snapshot: bool = False,
    ) -> Iterator[Event | Lost]:
        """Every event behind a cursor, for ever, through restarts of the daemon; `Lost` when some are missing.

        Each loss is told once, and what cannot be had is asked for again, ever more seldom.

        An event counts as handled once the next one is asked for, and comes at least once. The first item without a
        cursor is `Lost`, too: nothing is known yet.

        Args:
            cursor: what keeps it, or the name of a consumer, which the daemon keeps it for (an operator's); one that
                was forgotten is registered again.
            paths, roots, kinds: only events of these; None for all.
            snapshot: after `Lost` comes what there is, as by `events`.

        Raises:
            NoDaemon: there is none at the beginning; later it is waited for.
            ControlError: the daemon refuses.
        """
        state = Following({"paths": paths, "roots": roots, "kinds": kinds}, snapshot=snapshot)
        while True:
            try:
                with cls(path) as client:
                    if not state.is_begun:
                        state.begin(client._load(cursor), client.call("events.list", {"limit": 0}))
                    yield from client._go_on(state, cursor)
            except (NoDaemon, TimeoutError):
                if not state.is_begun:
                    raise
            except ControlError as error:
                if error.code != "too_many" or not state.is_begun:
                    raise
            time.sleep(state.pause())

    def _go_on(self, state: Following, cursor: CursorStore | str) -> Iterator[Event | Lost]:
        while True:
            if state.lost is not None:
                yield state.lost
                self._save(state, cursor, state.looked())
            try:
                for event in self.events(**state.arguments(), fences=True):
                    if event["kind"] != FENCE:
                        yield event
                    self._save(state, cursor, state.handled(event, is_read=self.is_read))
            except StreamLost as stopped:
                state.lose(stopped)
                time.sleep(state.pause())

    def _load(self, cursor: CursorStore | str) -> tuple[int, int] | None:
        if isinstance(cursor, str):
            return place_of(cursor, self.call("events.consumers"))
        return cursor.load()

    def _save(self, state: Following, cursor: CursorStore | str, at: tuple[int, int] | None) -> None:
        if at is None:
            return
        if not isinstance(cursor, str):
            cursor.save(*at)
            return
        try:
            for method, data in state.acknowledging(cursor, *at):
                self.call(method, data)
        except ControlError as error:
            if state.refused(error):
                self._save(state, cursor, at)

    def _hear(self) -> None:
        """Receive something, however long it takes, from a daemon that answers."""
        with contextlib.suppress(TimeoutError):
            self._receive(time.monotonic() + SILENT_S)
            return
        with self._patience() as limit:
            self._send(self._wire.sign_of_life(), limit)
            self._receive(limit)

    @contextlib.contextmanager
    def _patience(self) -> Iterator[float]:
        """The limit of who waits without one.

        Raises:
            NoDaemon: it is over.
        """
        try:
            yield time.monotonic() + PATIENCE_S
        except TimeoutError:
            raise NoDaemon(f"the daemon at {self.path} does not answer any more") from None

    def _send(self, line: bytes, limit: float) -> None:
        """Send a line whole, or not at all; one that is cut off closes the client, as the next would be read with it.

        Raises:
            TimeoutError: the daemon has not taken it until then.
        """
        sent = 0
        try:
            while sent < len(line):
                self._set_limit(limit)
                sent += self._socket.send(line[sent:], socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what it said before it closed is read yet
        except BaseException:
            if sent:
                self._finish("this client is closed: a request was cut off in the middle")
            raise

    def _receive(self, limit: float) -> None:
        self._set_limit(limit)
        try:
            data = self._socket.recv(256 << 10)
        except ConnectionResetError:
            data = b""
        if not data:
            raise NoDaemon(f"the daemon at {self.path} went away")
        self._wire.feed(data)

    def _set_limit(self, limit: float) -> None:
        """Until when the next call on the socket may wait.

        Raises:
            NoDaemon: the client is closed.
        """
        if self._end:
            raise NoDaemon(self._end)
        self._socket.settimeout(max(limit - time.monotonic(), 0.001))

    def _finish(self, reason: str) -> None:
        self._end = self._end or reason
        self._socket.close()


def reach(path: Path) -> socket.socket:
    """A connection to the daemon at `path`.

    Raises:
        NoDaemon: nobody answers there, or this user may not ask.
    """
    try:
        return connect(path, QUICK_S)
    except PermissionError:
        hint = "control.mode in the store's fusestore.toml, and the rights of the directories above, say who may"
        raise NoDaemon(f"this user may not use the daemon's socket {path}; {hint}") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "it does not answer"
        raise NoDaemon(f"no daemon answers at {path} ({reason}); is the store mounted?") from None
