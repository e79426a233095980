"""The picture of a run: each line a row, each file system a dot, native speed at 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench import goals, peers
from bench.lines import LINES, ratio
from bench.rounds import medians

if TYPE_CHECKING:
    from pathlib import Path

    from bench.figures import Figures

_LOOKS: Final = {
    peers.FLOOR: ("#9aa0a6", "|"),
    peers.FLOOR_LOOKING: ("#5f6368", "|"),
    "bindfs": ("#1f77b4", "s"),
    "mergerfs": ("#17becf", "D"),
    "writers": ("#ff7f0e", "o"),
    "none": ("#d62728", "o"),
    "writeback": ("#9467bd", "^"),
    "uploads": ("#8c564b", "v"),
}


def draw(figures: Figures, file: Path) -> bool:
    """Write the picture; False if matplotlib is not installed (`scripts/setup.sh bench` brings it)."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  # not needed for anything else
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # chooses its backend when imported

    found = medians(figures.lines)
    native = found.get(peers.NATIVE)
    if native is None:
        return False
    rows = [line for line in LINES if line.name in native]
    figure, axes = plt.subplots(figsize=(12, 1.8 + 0.27 * len(rows)), layout="constrained")
    for at, line in enumerate(rows):
        theirs = goals.stick_figure(found, goals.BETTER, line.name)
        if theirs is not None:
            axes.barh(at, ratio(line, theirs, native[line.name]), height=0.8, color="#dbe7fb", zorder=1)
        if at and line.part != rows[at - 1].part:
            axes.axhline(at - 0.5, color="#bbbbbb", linewidth=0.8)
    slowest = 1.0
    for name, (colour, mark) in _LOOKS.items():
        told = found.get(name, {})
        times = [ratio(line, told[line.name], native[line.name]) for line in rows if line.name in told]
        heights = [at for at, line in enumerate(rows) if line.name in told]
        slowest = min([slowest, *times])
        axes.scatter(times, heights, color=colour, marker=mark, s=46, label=name, zorder=3, linewidths=1.5)
    axes.axvline(1, color="black", linewidth=1, zorder=2)
    axes.set_xscale("log")
    axes.set_xlim(left=slowest * 0.7)
    axes.set_yticks(range(len(rows)), [line.name for line in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", which="both", color="#eeeeee", zorder=0)
    axes.set_xlabel(
        "times native speed, right is faster (of latencies the inverse); bars: the better of bindfs and mergerfs"
    )
    figure.suptitle(f"fusestore beside its peers on one disk, {figures.when}")
    figure.legend(ncols=len(_LOOKS), loc="outside lower center", frameon=False, fontsize=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return True
