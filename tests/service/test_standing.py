"""The line that says how a store does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fusestore.model import Absence
from fusestore.service.standing import line

if TYPE_CHECKING:
    from tests.support.opened import Opened

LAB = Path("/mnt/lab")


def test_the_line_names_what_is_away_and_counts_what_is_on_the_way(opened: Opened) -> None:
    store = opened.store
    assert line(store, LAB) == "serving /mnt/lab"
    roots = {root.name: number for number, root in store.roots.items()}
    store.absent.update({roots["cold"]: Absence(1, "gone"), roots["hot"]: Absence(1, "empty", is_doubted=True)})
    assert line(store, LAB) == "serving /mnt/lab; offline: cold; doubted: hot"
    store.absent.clear()
    opened.write("resources/hot/f", b"x")
    opened.settle()
    opened.rename("resources/hot/f", "resources/cold/f")
    move = store.index.moves(open_only=True)[0]
    store.running[move.number] = move
    assert line(store, LAB) == "serving /mnt/lab; 1 move on the way"
    store.running.clear()
