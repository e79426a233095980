"""docs/moves.md shows the table as it is, and names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

from fusestore.core import moves
from fusestore.model import MoveState

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "moves.md").read_text()


def test_the_diagram_is_drawn_from_the_table() -> None:
    assert re.findall(r"```mermaid\n(.*?)\n```", PAGE, re.DOTALL) == [moves.diagram()]


def test_every_state_and_every_reason_that_has_a_name_is_explained() -> None:
    for state in MoveState:
        assert f"\n| `{state}` |" in PAGE
    for reason in (*moves.PASSING, moves.NO_ROOM, moves.NO_INODES):
        assert f"`{reason}`" in PAGE


def test_every_test_that_it_names_exists() -> None:
    sources = {path: path.read_text() for path in (PROJECT / "tests").rglob("test_*.py")}
    for name in re.findall(r"`(test_\w+)`", PAGE):
        assert any(f"def {name}(" in source for source in sources.values()), name
    for name in re.findall(r"`(tests/\S+\.py)`", PAGE):
        assert PROJECT / name in sources
