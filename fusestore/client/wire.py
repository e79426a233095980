"""The client's side of the protocol without any I/O: requests to lines, lines to who waits for them.

    request ─► line ─► daemon ─► line ─► feed ─┬─► the request with its tid: progress, then one reply
                                               └─► the stream: events, and why it stopped

An answer without a tid is about the connection, since a line that the daemon could not read is never sent: it answers
all requests. What nobody waits for any more is dropped.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from fusestore.control.protocol import LINE_MAX, Request, encode_request
from fusestore.errors import ControlError

QUICK_S: Final = 30.0  # what a healthy daemon answers well within
SILENT_S: Final = 10.0  # after that, who waits without a limit asks whether the daemon is there
PATIENCE_S: Final = 60.0  # a disk that hangs may hold up even that answer for a while

PING: Final = encode_request(Request("alive", "dispatcher", "ping", None))
FACTS: Final = ("code", "text", "hint", "errno", "path")  # of an error; a newer daemon may tell more
FENCE: Final = "fence"  # the kind of what is no event: none up to its seq is still to come

OF_A_SYNC: Final = ("present", "gone")  # kinds
MANIFEST_MAX: Final = 1000  # entries in one request

Event = dict[str, Any]  # the broadcast's data with its operation, seq and epoch
Progress = Callable[[int, int, str], None]  # done, total, unit


def manifest(known: Mapping[str, int]) -> Iterator[tuple[dict[str, int], bool]]:
    """What a watcher knows, as it is sent: in the order of ids, each page with whether more follow."""
    entries = sorted(known.items())
    for start in range(0, max(len(entries), 1), MANIFEST_MAX):
        yield dict(entries[start : start + MANIFEST_MAX]), start + MANIFEST_MAX < len(entries)


class StreamLost(ControlError):
    """The event stream ended because events are missing; look at the tree, then listen from `snapshot_seq`."""

    def __init__(self, reason: str, snapshot_seq: int, epoch: int) -> None:
        super().__init__("lost", f"the event stream stopped: {reason}", f"go on from {snapshot_seq}")
        self.reason, self.snapshot_seq, self.epoch = reason, snapshot_seq, epoch


class Pending:
    """A request that was sent."""

    def __init__(self, tid: int, line: bytes) -> None:
        self.tid = tid
        self.line = line
        self.is_answered = False
        self._said: deque[tuple[int, int, str]] = deque()
        self._data: Any = None
        self._error: ControlError | None = None

    @property
    def has_said(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._said)

    def tell(self, progress: Progress | None) -> None:
        """Pass on how far it is, as often as the daemon said it."""
        while self._said:
            said = self._said.popleft()
            if progress is not None:
                progress(*said)

    def result(self) -> Any:
        """What it was answered.

        Raises:
            ControlError: that was an error.
        """
        if self._error is not None:
            raise self._error
        return self._data

    def take(self, message: dict[str, Any]) -> None:
        """One line that is about it."""
        if "progress" in message:
            said = message["progress"]
            self._said.append((said["done"], said["total"], said["unit"]))
        elif "success" in message:
            self.is_answered = True
            self._data = message.get("data")
            self._error = None if message["success"] else _error(message["error"])


def _error(said: dict[str, Any]) -> ControlError:
    return ControlError(**{name: said[name] for name in FACTS if name in said})


def _message(line: bytearray) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise ControlError("bad_json", "what answers at the socket is no fusestore daemon")
    return message


class Wire:
    """The requests and the stream of one connection."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._tid = 0
        self._pending: dict[int, Pending] = {}
        self._stream: deque[Event | StreamLost] = deque()
        self._listen: Pending | None = None  # what came before its reply is of the stream before it
        self._is_listening = False
        self._fence: Pending | None = None

    @property
    def is_read(self) -> bool:
        """Whether no event waits to be taken."""
        return not self._stream

    def request(self, method: str, data: object = None, *, background: bool = False) -> Pending:
        """A request for `method`, written "collection.name", whose line is to be sent.

        Raises:
            ControlError: it is longer than the daemon reads.
        """
        collection, _, name = method.partition(".")
        self._tid += 1
        line = encode_request(Request(self._tid, collection, name, data, background))
        if len(line) > LINE_MAX:
            raise ControlError("line_too_long", f"the request is longer than {LINE_MAX} bytes")
        pending = self._pending[self._tid] = Pending(self._tid, line)
        if method == "events.listen":
            self._listen = pending
        elif method in ("events.unlisten", "events.sync"):
            self._stop_listening()
        return pending

    def sign_of_life(self) -> bytes:
        """What to ask a daemon that is silent: whether it is there, and how far the stream has come."""
        if not self._is_listening or self._fence is not None:
            return PING
        self._fence = self.request("events.fence")
        return PING + self._fence.line

    def forget(self, pending: Pending) -> None:
        """Nobody waits for it any more."""
        self._pending.pop(pending.tid, None)

    def feed(self, data: bytes) -> None:
        """Hand out what `data` completes."""
        searched = len(self._received)
        self._received += data
        begin = 0
        while (end := self._received.find(b"\n", max(begin, searched))) >= 0:
            self._take(_message(self._received[begin:end]))
            begin = end + 1
        del self._received[:begin]

    def event(self) -> Event | None:
        """The next event, if one has come.

        Raises:
            StreamLost: the stream has ended here.
        """
        if not self._stream:
            return None
        found = self._stream.popleft()
        if isinstance(found, StreamLost):
            raise found
        return found

    def _take(self, message: dict[str, Any]) -> None:
        if "stopped" in message:
            self._stop_listening()
            stopped = message["stopped"]
            self._stream.append(StreamLost(stopped["reason"], stopped["snapshotSeq"], stopped["epoch"]))
        elif "operation" in message:
            envelope = {key: message[key] for key in ("seq", "epoch", "operation") if key in message}
            self._stream.append(envelope | message["data"])
        elif message.get("tid") in self._pending:
            pending = self._pending[message["tid"]]
            pending.take(message)
            if pending is self._listen and message.get("success"):
                self._stop_listening()
                self._stream.clear()
                self._is_listening = True
            elif pending is self._fence and pending.is_answered:
                self._take_fence(pending)
        elif message.get("tid") is None:
            for pending in self._pending.values():
                pending.take(message)

    def _take_fence(self, fence: Pending) -> None:
        """Put the answer to a fence behind the events that came before it."""
        with contextlib.suppress(ControlError):
            self._stream.append({"kind": FENCE, **fence.result()})
        self.forget(fence)
        self._fence = None

    def _stop_listening(self) -> None:
        self._is_listening = False
        if self._fence is not None:
            self.forget(self._fence)
            self._fence = None
