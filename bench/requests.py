"""Which requests each operation sends to each file system, and what each request costs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from bench import peers, rounds, tools, tracing
from bench.clock import MARKER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.figures import Request
    from bench.peers import Peer
    from bench.sizes import Size

PARTS: Final = ("names", "data", "tools")


def measure(
    chosen: Sequence[Peer], base: Path, size: Size, tell: Callable[[str], object]
) -> dict[str, dict[str, dict[str, Request]]]:
    """For each peer that is a mount, each line's requests by kind."""
    archive = tools.make_archive(base, size.tree)
    told: dict[str, dict[str, dict[str, Request]]] = {}
    for peer in chosen:
        if peer.name == peers.NATIVE:
            continue
        tell(f"requests: {peer.name}")
        with peer.mount(base / "peer") as place, tracing.traced(place.directory) as trace:
            for part in PARTS:
                rounds.work(part, place.work(part, archive), size, **{MARKER: str(trace / "trace_marker")})
            with open(trace / "trace", encoding="utf-8", errors="replace") as entries:
                told[peer.name] = tracing.requests(entries)
        shutil.rmtree(base / "peer")
    return told
