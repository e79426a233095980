"""Broadcasts as lines: events, and what there is; only the daemon says them, and there are many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from fusestore.control.protocol import line_of
from fusestore.service.describing import id_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ENCODER: Final = msgspec.json.Encoder()


def encode_broadcast(event: Mapping[str, Any]) -> bytes:
    """One event, as every watcher gets it."""
    data = {key: value for key, value in event.items() if key not in ("operation", "seq", "epoch")}
    return _broadcast(event["operation"], data, event["seq"], event["epoch"])


def encode_present(data: Mapping[str, Any], seq: int, epoch: int, *, operation: str = "insert") -> bytes:
    """An object that is there after the event `seq`, in the form of a broadcast."""
    return _broadcast(operation, data, seq, epoch, snapshot=True)


def encode_gone(id: bytes, seq: int, epoch: int) -> bytes:
    """One that is not there any more after the event `seq`."""
    return _broadcast("remove", {"kind": "gone", "id": id_text(id)}, seq, epoch, snapshot=True)


def encode_whole(seq: int, epoch: int, total: int, partial: Iterable[str]) -> bytes:
    """All that is there after the event `seq` has been told, in `total` lines; what follows are the events after it."""
    data = {"kind": "whole", "total": total, "partial": sorted(partial)}
    return _broadcast("update", data, seq, epoch, snapshot=True)


def _broadcast(operation: str, data: Mapping[str, Any], seq: int, epoch: int, **marks: bool) -> bytes:
    collection = "events" if data["kind"] in ("epoch", "whole") else "files"
    message = {"operation": operation, "collectionName": collection, **marks, "data": data, "seq": seq, "epoch": epoch}
    try:
        line = _ENCODER.encode(message)  # a tenth of the time, and there are many of these
    except UnicodeEncodeError:  # a name that is not UTF-8
        return line_of(message)
    return line + b"\n" if line.isascii() else line_of(message)
