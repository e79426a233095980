"""`python -m bench [--short] [--json FILE]`: rounds over all peers in turn, medians, ratios; then what may not grow.

Needs root for the two loop disks between which moves are timed; without it that part is left out and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import scale
from bench.peers import ENVIRONMENT, PROJECT, Peer, peers
from tests.support.pair import two_disks

Rates = dict[str, float]
FIGURES = PROJECT / "bench" / "results" / "latest.json"


def measure(peer: Peer, base: Path, count: int, megabytes: int) -> Rates:
    with peer.mount(base) as directory:
        command = [sys.executable, "-m", "bench.workload", str(directory / "work"), str(count), str(megabytes)]
        done = subprocess.run(command, env=ENVIRONMENT, cwd=PROJECT, check=True, capture_output=True, timeout=900)
    shutil.rmtree(base)
    rates: Rates = json.loads(done.stdout)
    return rates


def compare(base: Path, rounds: int, count: int, megabytes: int, console: Console) -> dict[str, Rates]:
    """Medians of each operation for each peer; rounds are interleaved, so that a busy minute hits all alike."""
    seen: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for turn in range(rounds):
        for peer in peers():
            console.print(f"round {turn + 1} of {rounds}: {peer.name}", style="dim")
            for operation, rate in measure(
                peer, base / f"{turn}-{peer.name.replace(' ', '-')}", count, megabytes
            ).items():
                seen[peer.name][operation].append(rate)
    return {name: {o: statistics.median(r) for o, r in rates.items()} for name, rates in seen.items()}


def show(results: dict[str, Rates], console: Console) -> None:
    stick = next(iter(results))
    table = Table(title=f"operations a second (ratio to the bare pyfuse3 {stick})")
    table.add_column("operation")
    for name in results:
        table.add_column(name, justify="right")
    for operation, base in results[stick].items():
        cells = [f"{rates[operation]:,.0f} ({rates[operation] / base:.2f})" for rates in results.values()]
        table.add_row(operation, *cells)
    console.print(table)


def show_facts(facts: Rates, console: Console) -> None:
    table = Table(title="what must not grow")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in facts.items():
        table.add_row(name, f"{value:,.2f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="one small round, to see that everything runs")
    parser.add_argument("--json", type=Path, default=FIGURES, metavar="FILE", help="where the figures go")
    parser.add_argument("--where", type=Path, default=None, metavar="DIR", help="a directory on the disk to measure")
    parser.add_argument("--only", choices=["peers", "scale"], help="one of the two parts")
    options = parser.parse_args()
    rounds, count, megabytes, files = (1, 500, 64, 5000) if options.short else (3, 5000, 512, 100_000)
    console = Console(width=160)
    results: dict[str, Rates] = {}
    facts: Rates = {}
    base = Path(tempfile.mkdtemp(prefix="fusestore-bench-", dir=options.where))
    try:
        if options.only != "scale":
            results = compare(base, rounds, count, megabytes, console)
        if options.only != "peers":
            facts |= scale.walk(base / "walk", files=files)
            if os.geteuid() == 0:
                size = 64 if options.short else 1024
                with two_disks(4000) as disks:
                    hot, cold = disks.hot / "root", disks.cold / "root"
                    facts |= scale.moves(base / "moves", hot, cold, megabytes=size, files=files)
            else:
                console.print("moves between two disks were not timed: loop disks need root")
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if results:
        show(results, console)
    if facts:
        show_facts(facts, console)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"peers": results, "scale": facts}, indent=2))
    console.print(f"figures in {options.json}")


if __name__ == "__main__":
    main()
