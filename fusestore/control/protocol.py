"""The wire format, without any I/O: bytes in, requests or complaints out; replies and broadcasts to lines.

One JSON object a line, both ways (docs/control-protocol.md). The field names are those of Virtool's dispatcher, which
the clients already know; what is added is that every request is answered exactly once, also one that cannot be read.

Names are bytes and JSON is text: a name is decoded as UTF-8, and each byte 0xNN that is not UTF-8 becomes the lone
surrogate U+DCNN (Python's `surrogateescape`), written `\\udcNN`. Output is pure ASCII, so a line never holds a byte
that a strict reader refuses; input is read the same way, so that raw bytes in a line do no harm either.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Never

from fusestore.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROTOCOL: Final = 1  # raised only when an old client could misread a line; everything else is a capability
LINE_MAX: Final = 1 << 20  # bytes of one request; replies have no limit

TEXT_MAX: Final = 2000  # characters of an error, which may repeat what it is about
VALUES_MAX: Final = 10_000  # in one request
NAME_MAX: Final = 255  # characters of a tid, a collection and a method
_BLANK: Final = re.compile(rb"[ \t\r\n]*")

Tid = int | str | None


class Request(NamedTuple):
    """One well-formed request; `data` is still unchecked."""

    tid: Tid
    collection: str
    method: str
    data: Any
    background: bool = False  # answered at once with a job, which goes on without the connection

    @property
    def name(self) -> str:
        """The method's full name."""
        return f"{self.collection}.{self.method}"


class Unreadable(NamedTuple):
    """A line that is no request, and what to answer; `tid` is None when the line did not say it."""

    tid: Tid
    error: ControlError


class Decoder:
    """Cuts a byte stream into requests, holding at most `line_max` bytes of an unfinished line.

    A longer line is complained about as soon as it is known to be too long; the rest of it is thrown away as it comes,
    and reading goes on behind its newline.

    Attributes:
        length: of the line that came last, in bytes.
    """

    def __init__(self, line_max: int = LINE_MAX) -> None:
        self._line_max = line_max
        self._line = bytearray()
        self._skipping = False
        self.length = 0

    def feed(self, data: bytes) -> Iterator[Request | Unreadable]:
        """What `data` completes, in order. Exhaust the iterator before feeding again."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if self._skipping:
                self._skipping = False
            elif not self._line and (text := _BLANK.match(data, start).end()) > end:  # type: ignore[union-attr]
                start = text  # behind a run of blank lines
                continue
            elif len(self._line) + end - start > self._line_max:
                yield self._too_long()
            else:
                self._line += data[start:end]
                self.length = len(self._line)
                if self._line.strip():
                    yield decode_request(bytes(self._line))
            self._line.clear()
            start = end + 1
        if self._skipping:
            return
        if len(self._line) + len(data) - start > self._line_max:
            self._skipping = True
            self._line.clear()
            yield self._too_long()
        else:
            self._line += data[start:]

    def _too_long(self) -> Unreadable:
        return Unreadable(None, ControlError("line_too_long", f"the line is longer than {self._line_max} bytes"))


def decode_request(line: bytes) -> Request | Unreadable:
    """Read one line."""
    if _has_too_many(line):
        return Unreadable(None, ControlError("bad_request", f"the line has more than {VALUES_MAX} values"))
    try:
        message = json.loads(line.decode("utf-8", "surrogateescape"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return Unreadable(None, ControlError("bad_json", f"the line is not JSON: {error}", "one JSON object a line"))
    if not isinstance(message, dict):
        return Unreadable(None, ControlError("bad_request", "the line is JSON, but not an object", _SHAPE))
    tid = message.get("tid")
    if isinstance(tid, bool) or not isinstance(tid, int | str | None):
        return Unreadable(None, ControlError("bad_request", "tid must be a string or an integer", _SHAPE))
    if isinstance(tid, str) and len(tid) > NAME_MAX:
        return Unreadable(None, ControlError("bad_request", f"tid is longer than {NAME_MAX} characters"))
    collection, method = message.get("collectionName"), message.get("methodName")
    if not isinstance(collection, str) or not isinstance(method, str):
        return Unreadable(tid, ControlError("bad_request", "collectionName and methodName must be strings", _SHAPE))
    if max(len(collection), len(method)) > NAME_MAX:
        return Unreadable(tid, ControlError("bad_request", f"no method's name is longer than {NAME_MAX} characters"))
    background = message.get("background", False)
    if not isinstance(background, bool):
        return Unreadable(tid, ControlError("bad_request", "background must be true or false", _SHAPE))
    return Request(tid, collection, method, message.get("data"), background)


def _refuse(constant: str) -> Never:
    """Python's reader lets NaN and Infinity pass."""
    raise ValueError(f"{constant} is no number")


def _has_too_many(line: bytes) -> bool:
    """Whether a line has more values than a request can need; to read them would take long."""
    if line.count(b",") <= VALUES_MAX:
        return False
    bare = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 4 * VALUES_MAX:
        return True
    return sum(part.count(b",") for part in bare.split(b'"')[::2]) > VALUES_MAX


_SHAPE: Final = '{"tid": 1, "collectionName": "dispatcher", "methodName": "hello", "data": {}}'


def encode_request(request: Request) -> bytes:
    """A request as it travels: in UTF-8, which is shorter than escapes, but for names that are none."""
    message = {
        "tid": request.tid,
        "collectionName": request.collection,
        "methodName": request.method,
        "data": request.data,
        "background": request.background,
    }
    try:
        return line_of(message, ascii_only=False)
    except UnicodeEncodeError:
        return line_of(message)


def encode_reply(tid: Tid, data: Any) -> bytes:
    """The answer to a request that succeeded; `data` may be 0, [], "" or null and arrives as that.

    Raises:
        TypeError, ValueError: `data` cannot be said in JSON.
    """
    return line_of({"tid": tid, "success": True, "data": data})


def encode_error(tid: Tid, error: ControlError) -> bytes:
    """The answer to a request that failed."""
    facts = {
        "code": error.code,
        "errno": error.errno,
        "path": error.path,
        "text": _short(error.text),
        "hint": _short(error.hint),
    }
    return line_of({"tid": tid, "success": False, "error": facts})


def _short(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"


def encode_progress(tid: Tid, done: int, total: int, unit: str) -> bytes:
    """A sign of life of a request that takes long; the reply follows."""
    return line_of({"tid": tid, "progress": {"done": done, "total": total, "unit": unit}})


def encode_progress_of_move(move: Mapping[str, Any]) -> bytes:
    """How far a move is: no event, so without a place in the log."""
    return line_of({"operation": "update", "collectionName": "moves", "data": {"kind": "move-progress", **move}})


def encode_ping() -> bytes:
    """A question whether the peer is still there; whatever it sends is an answer."""
    return line_of({"collectionName": "dispatcher", "ping": True})


def encode_stopped(reason: str, snapshot_seq: int, epoch: int) -> bytes:
    """The stream ends here because events are missing: look at the tree, then listen again from `snapshot_seq`."""
    stopped = {"lost": True, "reason": reason, "snapshotSeq": snapshot_seq, "epoch": epoch}
    return line_of({"collectionName": "events", "stopped": stopped})


def readable_name(name: bytes) -> str:
    """A name or path as it travels in JSON."""
    return name.decode("utf-8", "surrogateescape")


def line_of(message: Mapping[str, Any], *, ascii_only: bool = True) -> bytes:
    """Any message as it travels.

    Raises:
        TypeError, ValueError: it cannot be said in JSON; UnicodeEncodeError: nor in UTF-8.
    """
    text = json.dumps(message, separators=(",", ":"), allow_nan=False, default=_plain, ensure_ascii=ascii_only)
    return text.encode() + b"\n"


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return readable_name(value)
    raise TypeError(f"{type(value).__name__} cannot be said in JSON")
