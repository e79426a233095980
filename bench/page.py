"""The generated part of docs/performance.md: the tables of one run, between two markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench import peers, sheets
from bench.stores import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from bench.figures import Figures

PAGE: Final = PROJECT / "docs" / "performance.md"
PLOT: Final = PROJECT / "docs" / "performance.png"
BEGIN: Final = "<!-- figures of the last run, written by `python -m bench.report --publish` -->"
END: Final = "<!-- end of the figures -->"


def publish(figures: Figures, page: Path = PAGE) -> None:
    """Replace what is between the markers; the rest of the page is written by hand."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{generated(figures)}\n\n{END}{after}", encoding="utf-8")


def generated(figures: Figures) -> str:
    machine = ", ".join(f"{what} {value}" for what, value in figures.machine.items())
    size = figures.size
    amounts = (
        f"{size.files:,} small files, {size.megabytes} MiB of data, {size.tree:,} source files,"
        f" {size.moved:,} MiB moved, {size.many:,} files at the most"
    )
    blocks = [f"Run of {figures.when} UTC: {machine}. Amounts: {amounts}."]
    if figures.lines:
        blocks.append("![each file system beside native](performance.png)")
        blocks.append("\n".join(f"* *{name}*: {peers.about(name)}" for name in figures.lines))
    return "\n\n".join([*blocks, *(sheet.markdown() for sheet in sheets.sheets(figures))])
