"""Room that is promised to moves on their way, and what is left of it for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fusestore.core.ports import Space
from fusestore.errors import NoRoom

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"
SIZE = 1 << 20


def free(opened: Opened, root: str, size: int) -> None:
    """Let a root say that it has so many bytes free."""
    driver = opened.store.home_root(opened.find(root))
    driver.space = lambda: Space(1 << 30, size, size, 1000, 1000)  # type: ignore[method-assign]


def test_what_is_promised_to_a_move_is_not_promised_again(opened: Opened) -> None:
    opened.write(f"{HOT}/a", bytes(SIZE))
    opened.write(f"{HOT}/b", bytes(SIZE))
    free(opened, COLD, SIZE + 100)
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    with pytest.raises(NoRoom):
        opened.rename(f"{HOT}/b", f"{COLD}/b")


def test_what_a_move_has_copied_is_not_counted_twice(opened: Opened) -> None:
    opened.write(f"{HOT}/a", bytes(SIZE))
    opened.write(f"{HOT}/b", bytes(100))
    free(opened, COLD, SIZE + 100)
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    while not any((opened.disks["cold"] / ".fusestore" / "incoming").iterdir()):
        opened.step()
    free(opened, COLD, 100)
    opened.rename(f"{HOT}/b", f"{COLD}/b")
    opened.rest()
