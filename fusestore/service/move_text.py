"""A move as text: the file `.fusestore/moves/NUMBER` in the mount, and the attribute `user.fusestore.move`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fusestore.core.moves import eta_s

if TYPE_CHECKING:
    from fusestore.model import Move

STAMP = "%Y-%m-%d %H:%M:%S"  # local time


def line(move: Move) -> bytes:
    """Number, state, how far, from where to where."""
    return f"{move.number} {move.state} {_percent(move)}% {move.source} -> {move.target}".encode()


def page(move: Move, held_path: bytes | None = None) -> bytes:
    """One fact a line; those that there are."""
    left_s = eta_s(move, time.time_ns())
    facts = [
        ("move", b"%d" % move.number),
        ("state", move.state.encode()),
        ("reason", move.reason.encode("utf-8", "surrogateescape")),
        ("held by", _readable(held_path) if held_path else b""),
        ("path", _readable(move.path)),
        ("from", move.source.encode() + b": " + _readable(move.old_path)),
        ("to", move.target.encode()),
        ("files", b"%d of %d" % (move.files_done, move.files_total)),
        ("bytes", b"%d of %d (%d%%)" % (move.bytes_done, move.bytes_total, _percent(move))),
        ("left", b"%d s" % round(left_s) if left_s is not None else b""),
        ("begun", _moment(move.created_ns) + (b" by uid %d, pid %d" % (move.uid, move.pid) if move.uid >= 0 else b"")),
        ("ended", _moment(move.finished_ns) if move.finished_ns else b""),
    ]
    return b"".join(b"%-8s%s\n" % (name.encode(), value) for name, value in facts if value)


def _percent(move: Move) -> int:
    done, total = (move.bytes_done, move.bytes_total) if move.bytes_total else (move.files_done, move.files_total)
    return min(100 * done // total, 100) if total else 0


def _moment(time_ns: int) -> bytes:
    return time.strftime(STAMP, time.localtime(time_ns // 1_000_000_000)).encode()


def _readable(path: bytes) -> bytes:
    """A path on one line."""
    return path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
