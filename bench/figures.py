"""What a run found out, as it is kept: one JSON file."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import msgspec
from msgspec import Struct, field

from bench.sizes import Size  # noqa: TC001  # msgspec reads annotations at run time
from bench.stores import PROJECT


class Request(Struct, frozen=True):
    """One kind of request that an operation sends."""

    count: float  # for each operation
    median_us: float  # from its sending to its reply


class Figures(Struct):
    """All of them; what was not measured is empty."""

    when: str
    machine: dict[str, str]
    size: Size
    rounds: int
    lines: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # peer -> line -> one figure a round
    moved: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)  # who -> idle, during -> line
    move: dict[str, float] = field(default_factory=dict)
    followed: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # what was brought over -> how -> seconds
    waits_ms: dict[str, list[float]] = field(default_factory=dict)  # what a program waits for at a move -> each wait
    scale: dict[str, dict[str, float]] = field(default_factory=dict)  # number of files -> what -> figure
    feed: dict[str, float] = field(default_factory=dict)  # what -> figure
    requests: dict[str, dict[str, dict[str, Request]]] = field(default_factory=dict)  # peer -> line -> kind

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def load(file: Path) -> Figures:
    """Read what `save` wrote.

    Raises:
        msgspec.ValidationError: it is something else.
    """
    return msgspec.json.decode(file.read_bytes(), type=Figures)


def new(size: Size, rounds: int, where: Path) -> Figures:
    return Figures(time.strftime("%Y-%m-%d %H:%M", time.gmtime()), machine(where), size, rounds)


def machine(where: Path) -> dict[str, str]:
    """What the figures depend on."""
    commit = said("git", "-C", str(PROJECT), "describe", "--always", "--dirty")
    return {
        "CPUs": f"{len(os.sched_getaffinity(0))} × {_processor()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB",
        "disk": said("findmnt", "-no", "FSTYPE", "--target", str(where)),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "fusestore": commit,
        "bindfs": said("bindfs", "--version").removeprefix("bindfs "),
        "mergerfs": said("mergerfs", "--version").splitlines()[:1][0].removeprefix("mergerfs version: "),
    }


def said(*command: str) -> str:
    """What a program prints, or that it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return "none"
    return (done.stdout.strip() or done.stderr.strip()) or "none"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()
