"""The goals, as a table, and whether a run met them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench import feed, following, lines, peers
from bench.latency import KINDS, STALL
from bench.scale import NATIVELY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BETTER: Final = "the better of bindfs and mergerfs"
CHANGES: Final = (
    "create", "open + write 4 KiB", "chmod", "rename", "unlink", "mkdir", "rmdir", "untar", "cp -a", "rm -r",
)  # fmt: skip
CACHED: Final = ("stat", "ls -l", "find", "open + read 4 KiB", "grep -r", "read, warm")
NO_REQUEST: Final = ("stat", "read, warm")  # the kernel answers alone
COPIED: Final = {following.BIG: 1.3, following.SMALL: 1.5}  # how many times as long our verified move may take
WAITS_MS: Final = {following.RENAME: 10, following.MOVING: 20}  # 99 of 100 at most
FED_AT_MOST: Final = {
    f"{feed.HEARD}, p50, ms": 1.0,
    f"{feed.HEARD}, p99, ms": 5.0,
    feed.SLOWER: 1.25,
    feed.SEARCHED: 20.0,
    feed.IDLE: 50.0,
}
FED_AT_LEAST: Final = {feed.CLIENT: 20_000.0, feed.LINES: 100_000.0, feed.ASKED: 5000.0}
NO_SLOWER: Final = 0.9  # what is left for the noise of the machine
_ALL: Final = ("writers", "none", "writeback", "uploads")


class Goal(NamedTuple):
    line: str
    peers: tuple[str, ...]
    stick: str  # a peer, or `BETTER`
    least: float  # how many times the stick


GOALS: Final = (
    *(Goal(line, _ALL, stick, 0.9) for line in CHANGES for stick in (peers.FLOOR, peers.FLOOR_LOOKING)),
    *(Goal(line, _ALL, BETTER, 1.0) for line in CHANGES),
    *(Goal(line, ("none",), BETTER, 3.0) for line in CACHED),
    *(Goal(line, ("none",), peers.NATIVE, 0.8) for line in NO_REQUEST),
    *(Goal(line, ("writers",), BETTER, 1.0) for line in CACHED),
    Goal("write 1 MiB + fsync", _ALL, peers.NATIVE, 0.9),
    Goal("read, cold", _ALL, BETTER, 0.9),
    Goal("write + fsync", _ALL, peers.NATIVE, 0.7),
)


class Verdict(NamedTuple):
    """One figure held against one goal."""

    what: str
    wanted: str
    whose: str
    found: str
    met: bool


def stick_figure(medians: Mapping[str, Mapping[str, float]], stick: str, line: str) -> float | None:
    """The figure of a peer, or of the better of the two others; None if it was not measured."""
    if stick != BETTER:
        return medians.get(stick, {}).get(line)
    found = [medians[name][line] for name in peers.OTHERS if line in medians.get(name, {})]
    return lines.better(lines.BY_NAME[line], *found) if found else None


def of_lines(medians: Mapping[str, Mapping[str, float]]) -> Iterator[Verdict]:
    """The goals that compare with other peers."""
    for goal in GOALS:
        theirs = stick_figure(medians, goal.stick, goal.line)
        for peer in goal.peers:
            ours = medians.get(peer, {}).get(goal.line)
            if ours is not None and theirs is not None:
                times = lines.ratio(lines.BY_NAME[goal.line], ours, theirs)
                yield Verdict(goal.line, f"{goal.least} × {goal.stick}", peer, f"{times:.2f}", times >= goal.least)


def of_moves(moved: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[Verdict]:
    """What a move may do to others."""
    for who, told in moved.items():
        for kind in KINDS:
            idle, during = told["idle"][f"{kind} p99"], told["during"][f"{kind} p99"]
            yield Verdict(f"{kind}, p99", "2 × idle at most", who, f"{during / idle:.1f} ×", during <= 2 * idle)
        stall = told["during"][STALL]
        yield Verdict(STALL, "50 ms at most", who, f"{stall:.1f} ms", stall <= 50)


def of_followed(followed: Mapping[str, Mapping[str, list[float]]]) -> Iterator[Verdict]:
    """How soon the bytes of a move are there; the best rounds are compared."""
    for what, ways in followed.items():
        for stick, most in COPIED.items():
            if ways.get(stick) and ways.get(following.OURS):
                times = min(ways[following.OURS]) / min(ways[stick])
                yield Verdict(what, f"{most} × {stick} at most", following.OURS, f"{times:.2f} ×", times <= most)


def of_waits(waits_ms: Mapping[str, list[float]]) -> Iterator[Verdict]:
    """How long a program may wait for a move."""
    for what, most in WAITS_MS.items():
        if what in waits_ms:
            found = p99(waits_ms[what])
            yield Verdict(f"{what}, p99", f"{most} ms at most", following.OURS, f"{found:.1f} ms", found <= most)


def of_feed(fed: Mapping[str, float]) -> Iterator[Verdict]:
    """What the control socket owes to those who listen and ask."""
    for what, most in FED_AT_MOST.items():
        yield Verdict(what, f"{most:g} at most", following.OURS, f"{fed[what]:.3g}", fed[what] <= most)
    for what, least in FED_AT_LEAST.items():
        yield Verdict(what, f"{least:,.0f} at least", following.OURS, f"{fed[what]:,.0f}", fed[what] >= least)


def p99(found: list[float]) -> float:
    return sorted(found)[len(found) * 99 // 100]


def of_scale(scale: Mapping[str, Mapping[str, float]]) -> Iterator[Verdict]:
    """What many files may cost."""
    few, many = (scale[number] for number in sorted(scale, key=int))
    whose = f"{int(max(scale, key=int)):,} files"
    for what, unit, most in (
        ("RssAnon after find", "MB", 250.0),
        ("index without events", "bytes a file", 600.0),
        ("mount command", "s", 1.0),
    ):
        found = many[f"{what}, {unit}"]
        yield Verdict(what, f"under {most:g} {unit}", whose, f"{found:.4g}", found < most)
    for name, rate in many.items():
        if (disk := f"{name}{NATIVELY}") in many:
            times, natively = rate / few[name], many[disk] / few[disk]
            found_times = f"{times:.2f} × (natively {natively:.2f} ×)"
            yield Verdict(name, "as fast as with few", whose, found_times, times >= NO_SLOWER * min(1, natively))
