"""A client without an event loop, for the command line and for scripts.

One request at a time: `call` sends and waits for its reply. A connection that listens is used for its events alone. No
reconnecting here: what a lost connection means is the caller's to decide.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Self

from fusestore.control.address import connect
from fusestore.control.protocol import Request, encode_request
from fusestore.errors import ControlError, NoDaemon

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

QUICK_S: Final = 30.0  # what a healthy daemon answers well within
SILENT_S: Final = 10.0  # after that, who waits without a limit asks whether the daemon is there
PATIENCE_S: Final = 60.0  # a disk that hangs may hold up even that answer for a while

Progress = Callable[[int, int, str], None]  # done, total, unit


class StreamLost(ControlError):
    """The event stream ended because events are missing; look at the tree, then listen from `snapshot_seq`."""

    def __init__(self, reason: str, snapshot_seq: int) -> None:
        super().__init__("lost", f"the event stream stopped: {reason}", f"go on from {snapshot_seq}")
        self.snapshot_seq = snapshot_seq


class Client:
    """One connection to a daemon.

    Raises:
        NoDaemon: nobody answers at `path`, or this user may not ask.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._socket = connect(path, QUICK_S)
        except PermissionError:
            hint = "control.mode in the store's fusestore.toml, and the rights of the directories above, say who may"
            raise NoDaemon(f"this user may not use the daemon's socket {path}; {hint}") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "it does not answer"
            raise NoDaemon(f"no daemon answers at {path} ({reason}); is the store mounted?") from None
        self._received = bytearray()
        self._tid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def is_read(self) -> bool:
        """Whether nothing that it has received waits to be read."""
        return b"\n" not in self._received

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
            TimeoutError: no answer within `timeout_s`; the connection is of no use after that.
            NoDaemon: the daemon went away, or answers nothing any more.
        """
        self._tid += 1
        collection, _, name = method.partition(".")
        limit = None if timeout_s is None else time.monotonic() + timeout_s
        self._send(encode_request(Request(self._tid, collection, name, data, background)))
        while True:
            message = self._receive(limit) if limit is not None else self._heard()
            if message.get("tid") not in (self._tid, None):
                continue
            if "progress" in message:
                if progress is not None:
                    said = message["progress"]
                    progress(said["done"], said["total"], said["unit"])
            elif message.get("success"):
                return message["data"]
            elif "error" in message:
                raise ControlError(**message["error"])

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
    ) -> Iterator[dict[str, Any]]:
        """Every event after `since`, for ever; without it, those from now on.

        Each is the broadcast's data with its operation, seq and epoch.

        Args:
            consumer: go on behind what this one has acknowledged; instead of `since`.
            paths, roots, kinds: only events of these; None for all.
            snapshot: first what there is, of the kind `present`, and once it is complete one of the kind `whole`;
                then what comes after that.

        Raises:
            StreamLost: events are missing.
            NoDaemon: the daemon went away, or answers no more; go on with the last seq and epoch once it is back.
        """
        wanted = {"consumer": consumer, "paths": paths, "roots": roots, "kinds": kinds}
        self.call("events.listen", {"since": since, "epoch": epoch, "snapshot": snapshot, **wanted})
        while True:
            message = self._heard()
            if "stopped" in message:
                raise StreamLost(message["stopped"]["reason"], message["stopped"]["snapshotSeq"])
            if "operation" in message:
                envelope = {key: message[key] for key in ("seq", "epoch", "operation")}
                yield envelope | message["data"]

    def _heard(self) -> dict[str, Any]:
        """The next message, however long it takes, from a daemon that answers."""
        with contextlib.suppress(TimeoutError):
            return self._receive(time.monotonic() + SILENT_S)
        self._send(encode_request(Request("alive", "dispatcher", "ping", None)))
        with contextlib.suppress(TimeoutError):
            return self._receive(time.monotonic() + PATIENCE_S)
        raise NoDaemon(f"the daemon at {self.path} does not answer any more")

    def _send(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # what it said before it closed is read yet
            self._socket.sendall(line, socket.MSG_NOSIGNAL)

    def _receive(self, limit: float) -> dict[str, Any]:
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            self._socket.settimeout(max(limit - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(256 << 10)
            except ConnectionResetError:
                data = b""
            if not data:
                raise NoDaemon(f"the daemon at {self.path} went away")
            self._received += data
        message: dict[str, Any] = json.loads(self._received[:end])
        del self._received[: end + 1]
        return message
