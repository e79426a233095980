"""Removing what is on its way, and so may lie on two disks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fusestore.core.moves import PASSING
from fusestore.errors import NotEmpty

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"


def on_its_way(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"x")
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    while not (opened.disks["cold"] / "d").exists():
        opened.step()
    opened.unlink(f"{COLD}/d/a")


def test_a_directory_on_its_way_that_cannot_be_removed_from_one_disk_still_arrives(opened: Opened) -> None:
    on_its_way(opened)
    (opened.disks["hot"] / "d" / "theirs").touch()
    with pytest.raises(NotEmpty):
        opened.rmdir(f"{COLD}/d")
    opened.write(f"{COLD}/d/b", b"y")
    (opened.disks["hot"] / "d" / "theirs").unlink()
    opened.rest()
    opened.assert_at_home()
    assert opened.read(f"{COLD}/d/b") == b"y"


def test_what_a_stranger_put_into_the_new_place_of_a_directory_is_not_taken_for_nothing(opened: Opened) -> None:
    on_its_way(opened)
    (opened.disks["cold"] / "d" / "theirs").touch()
    with pytest.raises(NotEmpty):
        opened.rmdir(f"{COLD}/d")
    assert (opened.disks["cold"] / "d" / "theirs").exists()
    (opened.disks["cold"] / "d" / "theirs").unlink()
    opened.rmdir(f"{COLD}/d")
    opened.rest()


LEAVING = ("gone", "elsewhere", "back")


@pytest.mark.parametrize("written", [False, True], ids=["at rest", "written"])
@pytest.mark.parametrize("steps", range(60))
def test_what_left_a_tree_on_its_way_does_not_hold_it_up(opened: Opened, steps: int, written: bool) -> None:
    opened.mkdir(f"{HOT}/d")
    for name in (*LEAVING, "stays"):
        opened.write(f"{HOT}/d/{name}", b"x")
    opened.settle()
    writers = [opened.open_file(f"{HOT}/d/{name}", write=True) for name in LEAVING if written]
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    for _ in range(steps):
        opened.step()
        for writer in writers:
            opened.write_at(writer, b"y")
    opened.unlink(f"{COLD}/d/gone")
    opened.rename(f"{COLD}/d/elsewhere", f"{WARM}/elsewhere")
    opened.rename(f"{COLD}/d/back", f"{HOT}/back")
    opened.step(steps)
    for writer in writers:
        opened.release(writer)
    opened.rest()
    opened.assert_at_home()
    assert {move.held_up for move in opened.store.index.moves(open_only=False)} <= {"", *PASSING}
