"""A run's figures as tables: for people at a terminal, and as Markdown for the page."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.table import Table

from bench import goals, peers
from bench.lines import LINES, ratio
from bench.rounds import medians
from bench.scale import NATIVELY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.figures import Figures, Request

_STICKS: Final = (peers.FLOOR, peers.FLOOR_LOOKING, goals.BETTER, peers.NATIVE)
_NOTHING: Final = "–"


class Sheet(NamedTuple):
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        table = Table()
        for number, column in enumerate(self.header):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", _row(self.header), _row(["---", *["--:"] * (len(self.header) - 1)])]
        return "\n".join([*lines, *(_row(row) for row in self.rows)])


def _row(cells: object) -> str:
    assert isinstance(cells, list | tuple)
    return f"| {' | '.join(cells)} |"


def sheets(figures: Figures) -> Iterator[Sheet]:
    """All that the run has something to say about."""
    found = medians(figures.lines)
    if found:
        yield _values(found, figures.rounds)
        if any(name in found for name in peers.OURS):
            yield _ratios(found)
            yield _goals(list(goals.of_lines(found)))
    if figures.moved:
        yield _moved(figures)
        yield _goals(list(goals.of_moves(figures.moved)))
    if figures.followed:
        yield _followed(figures)
        yield _goals(list(goals.of_followed(figures.followed)))
    if figures.waits_ms:
        yield _waits(figures)
        yield _goals(list(goals.of_waits(figures.waits_ms)))
    if figures.scale:
        yield _scale(figures.scale)
        yield _goals(list(goals.of_scale(figures.scale)))
    if figures.feed:
        rows = tuple((what, number(figure)) for what, figure in figures.feed.items())
        yield Sheet(f"The control socket, {figures.size.events:,} events in the log", ("what", "figure"), rows)
        yield _goals(list(goals.of_feed(figures.feed)))
    if figures.requests:
        yield _requests(figures.requests)
        yield from _costs(figures, found)


def number(value: float | None) -> str:
    """Three digits and no more than are worth reading."""
    if value is None:
        return _NOTHING
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def _values(found: Mapping[str, Mapping[str, float]], rounds: int) -> Sheet:
    rows = [
        (line.name, line.unit, *(number(found[peer].get(line.name)) for peer in found))
        for line in LINES
        if any(line.name in values for values in found.values())
    ]
    how = "one round" if rounds == 1 else f"medians of {rounds} rounds"
    return Sheet(f"Figures, {how}", ("line", "unit", *found), tuple(rows))


def _ratios(found: Mapping[str, Mapping[str, float]]) -> Sheet:
    ours = [name for name in peers.OURS if name in found]
    rows = []
    for line in LINES:
        cells = []
        for peer in ours:
            figure = found[peer].get(line.name)
            sticks = [goals.stick_figure(found, stick, line.name) for stick in _STICKS]
            times = [ratio(line, figure, stick) if figure and stick else None for stick in sticks]
            cells.append(" · ".join(_NOTHING if t is None else f"{t:.2f}" for t in times))
        if any(cell.strip(f"{_NOTHING}· ") for cell in cells):
            rows.append((line.name, *cells))
    title = f"How many times better fusestore is than: {' · '.join(_STICKS)}"
    return Sheet(title, ("line", *ours), tuple(rows))


def _moved(figures: Figures) -> Sheet:
    rows = []
    for line in LINES:
        told = [(who["idle"].get(line.name), who["during"].get(line.name)) for who in figures.moved.values()]
        if any(idle is not None for idle, _ in told):
            rows.append((line.name, line.unit, *(f"{number(idle)} → {number(during)}" for idle, during in told)))
    facts = "; ".join(f"{what}: {number(value)}" for what, value in figures.move.items())
    title = f"Single requests, idle → while {figures.size.moved} MiB go from disk to disk ({facts})"
    return Sheet(title, ("line", "unit", *figures.moved), tuple(rows))


def _followed(figures: Figures) -> Sheet:
    rows = [
        (what, how, number(min(times)), number(statistics.median(times)))
        for what, ways in figures.followed.items()
        for how, times in ways.items()
    ]
    return Sheet("From disk to disk, until the bytes are there, s", ("what", "how", "best", "median"), tuple(rows))


def _waits(figures: Figures) -> Sheet:
    rows = [
        (
            what,
            str(len(found)),
            *(number(figure) for figure in (statistics.median(found), goals.p99(found), max(found))),
        )
        for what, found in figures.waits_ms.items()
    ]
    return Sheet("How long a program waits for a move, ms", ("what", "times", "median", "p99", "longest"), tuple(rows))


def _scale(scale: Mapping[str, Mapping[str, float]]) -> Sheet:
    counts = sorted(scale, key=int)
    few, many = scale[counts[0]], scale[counts[-1]]
    rows = []
    for name in many:
        if name.endswith(NATIVELY):
            continue
        shown = f"{name}, 1/s" if f"{name}{NATIVELY}" in many else name
        rows.append(
            (shown, number(few[name]), number(many[name]), _times(few, many, name), _times(few, many, name + NATIVELY))
        )
    header = ("what, outside = none", *(f"{int(count):,} files" for count in counts), "times", "times natively")
    return Sheet("With few and with many files", header, tuple(rows))


def _times(few: Mapping[str, float], many: Mapping[str, float], name: str) -> str:
    return f"{many[name] / few[name]:.2f}" if few.get(name) and name in many else _NOTHING


def _requests(requests: Mapping[str, Mapping[str, Mapping[str, Request]]]) -> Sheet:
    names = [line for line in LINES if any(line.name in told for told in requests.values())]
    rows = [(line.name, *(_kinds(told.get(line.name, {})) for told in requests.values())) for line in names]
    title = "Requests that the kernel sends for each operation, entry or file, or for each MB of data"
    return Sheet(title, ("line", *requests), tuple(rows))


def _kinds(kinds: Mapping[str, Request]) -> str:
    """Those that come more often than once in fifty operations, as `LOOKUP 2 CREATE`."""
    told = [
        kind if 0.95 < request.count < 1.05 else f"{kind} {request.count:.2g}"
        for kind, request in kinds.items()
        if request.count >= 0.02
    ]
    return ", ".join(told) or "none"


def _costs(figures: Figures, found: Mapping[str, Mapping[str, float]]) -> Iterator[Sheet]:
    """Where the time of one operation goes: in requests, and outside of them."""
    for peer in (peers.FLOOR_LOOKING, "none", "writers"):
        rows = []
        for name, kinds in figures.requests.get(peer, {}).items():
            rate = found.get(peer, {}).get(name)
            inside = sum(request.count * request.median_us for request in kinds.values())
            parts = ", ".join(
                f"{kind} {request.count:.2g} × {request.median_us:.0f}"
                for kind, request in kinds.items()
                if request.count >= 0.02
            )
            rows.append((name, number(1e6 / rate) if rate else _NOTHING, number(inside), parts or "none"))
        if rows:
            yield Sheet(
                f"Where the time goes, {peer}: µs for each operation, file or MB",
                ("line", "all", "in requests", "requests × median"),
                tuple(rows),
            )


def _goals(verdicts: list[goals.Verdict]) -> Sheet:
    """A row for each goal, a column for each of those it was held against; what is met is ticked."""
    whose = tuple(dict.fromkeys(verdict.whose for verdict in verdicts))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for verdict in verdicts:
        row = cells.setdefault((verdict.what, verdict.wanted), {})
        row[verdict.whose] = f"{verdict.found} {'✓' if verdict.met else '✗'}"
    met = sum(verdict.met for verdict in verdicts)
    return Sheet(
        f"Goals: {met} of {len(verdicts)} met (✓)",
        ("what", "wanted", *whose),
        tuple((*goal, *(row.get(name, _NOTHING) for name in whose)) for goal, row in cells.items()),
    )
