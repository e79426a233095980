"""The kernel's own record of the requests that it sent to one mount: what was asked, and how long the reply took.

The trace points of fuse (kernels from 6.12 on) cost a fraction of a microsecond, need root, and know every file system
alike. Requests that nobody waits for (FORGET) have no end and are not counted.
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TRACING: Final = Path("/sys/kernel/tracing")
_BUFFER_KB: Final = 32768
_ENTRY: Final = re.compile(r"\s(\d+\.\d+): (\w+): (.*)")
_SENT: Final = re.compile(r"connection \d+ req (\d+) opcode \d+ \(FUSE_(\w+)\)")
_ENDED: Final = re.compile(r"connection \d+ req (\d+) ")
_BEGAN: Final = re.compile(r"begin (\S+) (.*)")


def is_possible() -> bool:
    return os.access(_TRACING / "events" / "fuse" / "enable", os.W_OK)


@contextlib.contextmanager
def traced(mountpoint: Path) -> Iterator[Path]:
    """Record the mount's requests; yields the folder of the trace, with its `trace` and `trace_marker`."""
    own = _TRACING / "instances" / f"fusestore-bench-{os.getpid()}"
    own.mkdir()
    try:
        (own / "buffer_size_kb").write_text(str(_BUFFER_KB))
        (own / "trace_clock").write_text("mono")
        connection = os.minor(mountpoint.stat().st_dev)
        (own / "events" / "fuse" / "filter").write_text(f"connection == {connection}")
        (own / "events" / "fuse" / "enable").write_text("1")
        yield own
    finally:
        (own / "events" / "fuse" / "enable").write_text("0")
        own.rmdir()


def requests(trace: Iterable[str]) -> dict[str, dict[str, Request]]:
    """The requests of each line, by kind, from a trace in which `clock.Clock` has marked the lines.

    >>> requests([
    ...     "python-7 [000] ..... 10.000000: tracing_mark_write: begin 2 stat",
    ...     "python-7 [000] ..... 10.000010: fuse_request_send: connection 5 req 8 opcode 3 (FUSE_GETATTR) len 56",
    ...     "python-9 [001] ..... 10.000050: fuse_request_end: connection 5 req 8 len 120 error 0",
    ...     "python-7 [000] ..... 10.000090: tracing_mark_write: end",
    ... ])
    {'stat': {'GETATTR': Request(count=0.5, median_us=40.0)}}
    """
    took: dict[str, list[float]] = {}
    told: dict[str, dict[str, Request]] = {}
    sent: dict[str, tuple[str, float]] = {}
    line, amount = "", 0.0
    for entry in trace:
        if (found := _ENTRY.search(entry)) is None:
            continue
        at, event, text = float(found[1]), found[2], found[3]
        if event == "tracing_mark_write":
            if (begun := _BEGAN.match(text)) is not None:
                line, amount, took, sent = begun[2].strip(), float(begun[1]), defaultdict(list), {}
            elif line:
                told[line] = {
                    kind: Request(round(len(times) / amount, 3), round(statistics.median(times), 1))
                    for kind, times in took.items()
                }
                line = ""
        elif line and event == "fuse_request_send" and (asked := _SENT.match(text)) is not None:
            sent[asked[1]] = asked[2], at
        elif event == "fuse_request_end" and (ended := _ENDED.match(text)) is not None and ended[1] in sent:
            kind, began = sent.pop(ended[1])
            took[kind].append((at - began) * 1e6)
    return told
