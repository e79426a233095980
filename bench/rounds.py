"""Rounds over all peers in turn, so that a busy minute of the machine hits all alike; figures are medians."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from bench import tools
from bench.stores import ENVIRONMENT, PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.peers import Peer, Place
    from bench.sizes import Size

Runs = dict[str, dict[str, list[float]]]  # peer -> line -> one figure a round
PARTS: Final = ("names", "data", "tools", "parallel", "latency")
_LIMIT_S: Final = 900


def command(part: str, place: Place, size: Size) -> list[str | bytes]:
    return [sys.executable, "-m", "bench.worker", part, place.encoded(), msgspec.json.encode(size)]


def work(part: str, place: Place, size: Size, **environment: str) -> dict[str, float]:
    """Do a part's work in a process of its own; returns the figure of each line."""
    done = subprocess.run(
        command(part, place, size),
        env={**ENVIRONMENT, **environment},
        cwd=PROJECT,
        check=True,
        stdout=subprocess.PIPE,
        timeout=_LIMIT_S,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(peer: Peer, parts: Sequence[str], base: Path, size: Size, archive: Path | None) -> dict[str, float]:
    """Some parts in one mount over a new directory."""
    figures: dict[str, float] = {}
    with peer.mount(base) as place:
        for part in parts:
            figures |= work(part, place.work(part, archive), size)
    shutil.rmtree(base)
    os.sync()  # what one peer still owes the disk must not fall on the next
    return figures


def run(
    peers: Sequence[Peer],
    groups: Sequence[Sequence[str]],
    rounds: int,
    base: Path,
    size: Size,
    tell: Callable[[str], object],
) -> Runs:
    """Every group of parts for every peer in turn; each round begins with another peer."""
    runs: Runs = defaultdict(lambda: defaultdict(list))
    archive = tools.make_archive(base, size.tree) if any("tools" in group for group in groups) else None
    os.sync()
    for number in range(rounds):
        shift = number % len(peers)
        for group in groups:
            for peer in (*peers[shift:], *peers[:shift]):
                tell(f"round {number + 1} of {rounds}, {', '.join(group)}: {peer.name}")
                for line, figure in measure(peer, group, base / "peer", size, archive).items():
                    runs[peer.name][line].append(figure)
    return {peer.name: dict(runs[peer.name]) for peer in peers}


def medians(runs: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, float]]:
    return {peer: {line: statistics.median(r) for line, r in lines.items()} for peer, lines in runs.items()}
