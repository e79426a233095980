"""Removing a directory that lies on two disks, because it is on its way between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fusestore.errors import NotEmpty

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"


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
