"""The lines of the tables: what each counts, and which way is better."""

from __future__ import annotations

from typing import Final, NamedTuple

from bench.latency import KINDS, STALL
from bench.parallel import PROCESSES


class Line(NamedTuple):
    name: str
    part: str
    unit: str
    rises: bool = True  # more is better


def _of(part: str, unit: str, *names: str) -> tuple[Line, ...]:
    return tuple(Line(name, part, unit) for name in names)


LINES: Final = (
    *_of(
        "names", "1/s", "create", "open + write 4 KiB", "write + fsync", "stat, forgotten", "stat", "open + read 4 KiB"
    ),
    *_of("names", "entries/s", "ls -l"),
    *_of("names", "1/s", "chmod", "rename", "unlink", "mkdir", "rmdir"),
    *_of("data", "MB/s", "write 1 MiB + fsync", "read, cold", "read, warm"),
    *_of("data", "1/s", "random read 4 KiB, cold", "random read 4 KiB, warm", "random write 4 KiB"),
    *_of("tools", "files/s", "untar", "find", "grep -r", "git status", "cp -a", "rm -r"),
    *(
        Line(f"{name} × {PROCESSES}", "parallel", "1/s")
        for name in ("create", "open + write 4 KiB", "stat", "open + read 4 KiB", "rename", "unlink")
    ),
    *(Line(f"{name} × {PROCESSES}", "parallel", "MB/s") for name in ("write 1 MiB + fsync", "read, warm")),
    *(Line(f"{kind} {share}", "latency", "µs", rises=False) for kind in KINDS for share in ("p50", "p99")),
    *(Line(f"{kind} longest", "latency", "ms", rises=False) for kind in KINDS),
    Line(STALL, "latency", "ms", rises=False),
)
BY_NAME: Final = {line.name: line for line in LINES}


def ratio(line: Line, ours: float, theirs: float) -> float:
    """How many times better than `theirs`: above 1 is better, whatever the line counts."""
    return ours / theirs if line.rises else theirs / ours


def better(line: Line, *figures: float) -> float:
    return max(figures) if line.rises else min(figures)
