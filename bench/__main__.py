"""`make bench`: the same work on native and on each file system, in turn; tables, a JSON file and a plot.

    python -m bench [--short] [--only PART,…] [--peers NAME,…] [--rounds N] [--where DIR] [--json FILE] [--publish]

Needs root for cold caches, for the two loop disks between which a file is moved, and for the trace of requests; what
cannot be measured without is left out, and said.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from bench import feed, figures, following, moving, peers, report, requests, rounds, scale, tracing
from bench.sizes import FULL, SHORT

if TYPE_CHECKING:
    from rich.console import Console

    from bench.figures import Figures

PARTS: Final = (*rounds.PARTS, "move", "requests", "scale", "feed")
_ROUNDS: Final = 5
_TRACED: Final = {"files": 300, "synced": 20, "megabytes": 16, "random": 300, "tree": 200}


def main() -> None:
    options = _parser().parse_args()
    console = report.console()
    try:
        chosen = peers.installed(options.peers)
    except ValueError as error:
        raise SystemExit(f"bench: {error}") from None
    base = Path(tempfile.mkdtemp(prefix="fusestore-bench-", dir=options.where))
    try:
        found = measure(options, chosen, base, console)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    found.save(options.json)
    report.show(found, options.json, console, publish=options.publish)
    console.print(f"figures in {options.json}")


def measure(options: argparse.Namespace, chosen: list[peers.Peer], base: Path, console: Console) -> Figures:
    """All parts that are asked for and possible."""
    size = SHORT if options.short else FULL
    count = options.rounds or (1 if options.short else _ROUNDS)
    found = figures.new(size, count, base)

    began = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"{time.monotonic() - began:6.0f} s  {text}", style="dim")

    if parts := [part for part in rounds.PARTS if part in options.only]:
        # Parts that take their turns apart are nearer to those of the other peers; mounting takes a second or two.
        groups = [parts] if options.short else [[part] for part in parts]
        found.lines = rounds.run(chosen, groups, count, base, size, tell)
    if "move" in options.only:
        if os.geteuid() == 0:
            found.moved, found.move = moving.measure(base / "move", size, tell)
            found.followed, found.waits_ms = following.measure(base / "follow", size, count, tell)
        else:
            tell("no move between two disks: loop disks need root")
    if "requests" in options.only:
        if tracing.is_possible():
            traced = size if options.short else msgspec.structs.replace(size, **_TRACED)
            (base / "requests").mkdir()
            found.requests = requests.measure(chosen, base / "requests", traced, tell)
        else:
            tell("no count of requests: needs root, tracefs, and a kernel with trace points in fuse")
    if "scale" in options.only:
        found.scale = scale.measure(base / "scale", size, tell)
    if "feed" in options.only:
        found.feed = feed.measure(base / "feed", size, tell)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="everything once and small, to see that it runs")
    parser.add_argument(
        "--only", type=_parts, default=PARTS, metavar="PART,…", help=f"some of {', '.join(PARTS)}; all by default"
    )
    parser.add_argument(
        "--peers", type=lambda text: text.split(","), metavar="NAME,…", help="some of the file systems, by name"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help=f"how often; {_ROUNDS} by default")
    parser.add_argument("--where", type=Path, metavar="DIR", help="a directory on the disk to measure")
    parser.add_argument("--json", type=Path, default=report.LATEST, metavar="FILE", help="where the figures go")
    parser.add_argument("--publish", action="store_true", help="write the result into docs/performance.md")
    return parser


def _parts(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := [part for part in chosen if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part is called {unknown[0]!r}")
    return chosen


if __name__ == "__main__":
    main()
