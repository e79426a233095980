"""Shows a run again: `python -m bench.report [FILE] [--publish]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from bench import figures, page, plot, sheets
from bench.stores import PROJECT

if TYPE_CHECKING:
    from bench.figures import Figures

LATEST: Final = PROJECT / "bench" / "results" / "latest.json"
_WIDTH: Final = 200


def show(found: Figures, file: Path, console: Console, *, publish: bool) -> None:
    """Print the tables, draw the plot beside `file`, and with `publish` put both into docs/performance.md."""
    for sheet in sheets.sheets(found):
        console.print(f"\n{sheet.title}", style="bold")
        console.print(sheet.rich())
    picture = file.with_suffix(".png")
    if found.lines:
        drawn = plot.draw(found, picture)
        console.print(f"plot in {picture}" if drawn else "no plot: it needs native figures, and matplotlib")
    if publish:
        if found.lines:
            plot.draw(found, page.PLOT)
        page.publish(found)
        console.print(f"written to {page.PAGE}")


def console() -> Console:
    return Console(width=_WIDTH)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=LATEST, help="figures of a run")
    parser.add_argument("--publish", action="store_true", help="write them into docs/performance.md")
    options = parser.parse_args()
    show(figures.load(options.file), options.file, console(), publish=options.publish)


if __name__ == "__main__":
    main()
