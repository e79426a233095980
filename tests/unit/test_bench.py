"""What the bench makes of its measurements; the measuring itself is `make bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import figures, following, goals, page, sheets, tracing
from bench.lines import BY_NAME, LINES, ratio
from bench.rounds import medians
from bench.sizes import SHORT

if TYPE_CHECKING:
    from pathlib import Path

TRACE = """\
# tracer: nop
        python3-7  [000] .....  10.000000: tracing_mark_write: begin 2 stat
        python3-7  [000] .....  10.000010: fuse_request_send: connection 5 req 8 opcode 3 (FUSE_GETATTR) len 56
        python3-9  [001] .....  10.000050: fuse_request_end: connection 5 req 8 len 120 error 0
        python3-7  [000] .....  10.000060: fuse_request_send: connection 5 req 10 opcode 18 (FUSE_RELEASE) len 64
        python3-7  [000] .....  10.000090: tracing_mark_write: end
        python3-9  [001] .....  10.000095: fuse_request_end: connection 5 req 10 len 16 error 0
        python3-7  [000] .....  10.000099: fuse_request_send: connection 5 req 12 opcode 1 (FUSE_LOOKUP) len 56
        python3-9  [001] .....  10.000110: fuse_request_end: connection 5 req 12 len 160 error 0
"""


@pytest.fixture
def run() -> figures.Figures:
    """A run in which `none` creates half as fast as bindfs and stats four times as fast as mergerfs."""
    return figures.Figures(
        when="2026-01-01 00:00",
        machine={"kernel": "6.18"},
        size=SHORT,
        rounds=3,
        lines={
            "native": {"create": [9000, 10000, 90000], "getattr p99": [5.0]},
            "floor": {"create": [4000, 4000, 4000]},
            "bindfs": {"create": [5000, 6000, 7000], "getattr p99": [10.0]},
            "mergerfs": {"create": [5000, 5000, 5000], "stat": [100.0]},
            "none": {"create": [3000, 3000, 2000], "stat": [400.0], "getattr p99": [20.0]},
        },
    )


def test_requests_are_counted_and_timed_within_the_line_that_sent_them() -> None:
    told = tracing.requests(TRACE.splitlines())
    assert told == {"stat": {"GETATTR": figures.Request(count=0.5, median_us=40.0)}}


def test_more_is_better_for_rates_and_less_for_times() -> None:
    assert ratio(BY_NAME["create"], 200, 100) == 2
    assert ratio(BY_NAME["getattr p99"], 200, 100) == 0.5


def test_every_goal_is_about_a_line_that_is_measured() -> None:
    assert {goal.line for goal in goals.GOALS} <= {line.name for line in LINES}


def test_a_goal_is_held_against_the_better_of_the_two_others_by_medians(run: figures.Figures) -> None:
    found = {(v.what, v.wanted): (v.found, v.met) for v in goals.of_lines(medians(run.lines)) if v.whose == "none"}
    assert found["create", f"1.0 × {goals.BETTER}"] == ("0.50", False)
    assert found["create", "0.9 × floor"] == ("0.75", False)
    assert found["stat", f"3.0 × {goals.BETTER}"] == ("4.00", True)


def test_a_move_is_held_against_a_copy_that_is_compared_by_their_best_rounds() -> None:
    followed = {
        "1 MiB": {following.BIG: [1.0, 9.0], following.MV: [0.5], following.OURS: [9.0, 1.25]},
        "10 files": {following.SMALL: [1.0], following.OURS: [1.6]},
    }
    found = [(v.what, v.found, v.met) for v in goals.of_followed(followed)]
    assert found == [("1 MiB", "1.25 ×", True), ("10 files", "1.60 ×", False)]


def test_one_wait_of_a_hundred_at_a_move_may_be_longer() -> None:
    waits_ms = {following.RENAME: [1.0] * 99 + [20.0], following.MOVING: [1.0] * 199 + [30.0]}
    found = [(v.found, v.met) for v in goals.of_waits(waits_ms)]
    assert found == [("20.0 ms", False), ("1.0 ms", True)]


def test_the_feed_is_held_against_times_at_most_and_rates_at_least() -> None:
    fed = {**goals.FED_AT_MOST, **goals.FED_AT_LEAST}
    assert all(verdict.met for verdict in goals.of_feed(fed))
    missed = {what: 1.01 * most for what, most in goals.FED_AT_MOST.items()}
    missed |= {what: 0.99 * least for what, least in goals.FED_AT_LEAST.items()}
    assert not any(verdict.met for verdict in goals.of_feed(missed))


def test_tables_leave_out_what_was_not_measured(run: figures.Figures) -> None:
    values, ratios, judged = sheets.sheets(run)
    assert [row[0] for row in values.rows] == ["create", "stat", "getattr p99"]
    assert [row[0] for row in ratios.rows] == ["create", "stat", "getattr p99"]
    assert "| create | 1/s | 10,000 | 4,000 | 6,000 | 5,000 | 3,000 |" in values.markdown()
    assert judged.title.startswith("Goals: ")


def test_publishing_replaces_what_is_between_the_markers_and_nothing_else(run: figures.Figures, tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"# By hand\n\n{page.BEGIN}\nold figures\n{page.END}\n\nalso by hand\n", encoding="utf-8")
    page.publish(run, file)
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# By hand\n")
    assert text.endswith(f"{page.END}\n\nalso by hand\n")
    assert "old figures" not in text
    assert "kernel 6.18" in text


def test_figures_are_the_same_after_saving(run: figures.Figures, tmp_path: Path) -> None:
    run.save(tmp_path / "new" / "run.json")
    assert figures.load(tmp_path / "new" / "run.json") == run
