"""Another file system mounted inside a root: nothing of it is adopted, and nothing that it hides is taken for gone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fusestore.errors import Covered, NotFound
from tests.support.disks import run, unmount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusestore.model import Event, InodeNo
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"


class Hiding:
    """A directory of the root `hot` that can be hidden under a mount."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.disk: Path = opened.disks["hot"] / "d"
        self.directory: InodeNo = opened.mkdir(f"{HOT}/d")
        self.file: InodeNo = opened.write(f"{HOT}/d/a", b"hidden")
        opened.settle()
        self.events: list[Event] = []
        opened.store.index.on_events = self.events.extend

    def hide(self) -> None:
        run("mount", "-t", "tmpfs", "none", os.fspath(self.disk))
        (self.disk / "foreign").write_bytes(b"x")
        self.opened.store.places.close()  # as if nobody had been there lately

    def show(self) -> None:
        unmount(self.disk)


@pytest.fixture
def hiding(shared: Opened) -> Iterator[Hiding]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    hiding = Hiding(shared)
    try:
        yield hiding
    finally:
        hiding.show()


def test_what_a_mount_hides_stays_in_the_tree_and_is_back_when_the_mount_is_gone(hiding: Hiding) -> None:
    opened = hiding.opened
    hiding.hide()
    assert opened.names(HOT) == ["d"]
    assert opened.names(f"{HOT}/d") == ["a"]
    assert (opened.find(f"{HOT}/d"), opened.find(f"{HOT}/d/a")) == (hiding.directory, hiding.file)
    assert opened.stat(f"{HOT}/d/a").size == 6
    hiding.show()
    assert opened.names(f"{HOT}/d") == ["a"]
    assert (opened.find(f"{HOT}/d"), opened.find(f"{HOT}/d/a")) == (hiding.directory, hiding.file)
    assert opened.read(f"{HOT}/d/a") == b"hidden"
    assert hiding.events == []


def test_nothing_of_what_is_mounted_is_adopted_read_or_changed(hiding: Hiding) -> None:
    opened = hiding.opened
    hiding.hide()
    (hiding.disk / "a").write_bytes(b"foreign")
    with pytest.raises(NotFound):
        opened.find(f"{HOT}/d/foreign")
    for change in (
        lambda: opened.read(f"{HOT}/d/a"),
        lambda: opened.unlink(f"{HOT}/d/a"),
        lambda: opened.mkdir(f"{HOT}/d/new"),
        lambda: opened.set(f"{HOT}/d", mode=0o700),
    ):
        with pytest.raises(Covered):
            change()
    assert sorted(os.listdir(hiding.disk)) == ["a", "foreign"]
    assert (hiding.disk / "a").read_bytes() == b"foreign"


def test_an_empty_directory_under_a_mount_can_be_neither_removed_nor_renamed(hiding: Hiding) -> None:
    opened = hiding.opened
    opened.unlink(f"{HOT}/d/a")
    hiding.hide()
    with pytest.raises(OSError, match="busy"):
        opened.rmdir(f"{HOT}/d")
    with pytest.raises(OSError, match="busy"):
        opened.rename(f"{HOT}/d", f"{HOT}/e")
    assert opened.names(HOT) == ["d"]
    assert opened.find(f"{HOT}/d") == hiding.directory


def test_a_hard_link_under_a_mount_is_not_taken_for_renamed(hiding: Hiding) -> None:
    opened = hiding.opened
    opened.link(f"{HOT}/d/a", f"{HOT}/b")
    hiding.hide()
    os.rename(opened.disks["hot"] / "b", opened.disks["hot"] / "c")
    assert opened.names(HOT) == ["c", "d"]
    assert opened.find(f"{HOT}/c") == hiding.file
    assert opened.names(f"{HOT}/d") == ["a"]


def test_a_file_under_a_mount_is_there_and_cannot_be_read(hiding: Hiding, tmp_path: Path) -> None:
    opened = hiding.opened
    other = tmp_path / "other"
    other.write_bytes(b"somebody's")
    covered = hiding.disk / "a"
    run("mount", "--bind", os.fspath(other), os.fspath(covered))
    try:
        assert opened.names(f"{HOT}/d") == ["a"]
        assert opened.stat(f"{HOT}/d/a").size == 6
        with pytest.raises(Covered):
            opened.read(f"{HOT}/d/a")
    finally:
        unmount(covered)
    assert opened.read(f"{HOT}/d/a") == b"hidden"
    assert hiding.events == []


def test_what_goes_to_another_root_waits_until_the_mount_is_gone(hiding: Hiding) -> None:
    opened = hiding.opened
    hiding.hide()
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    opened.step(50)
    (move,) = opened.store.index.moves(open_only=True)
    assert "mounted over it" in move.reason
    assert opened.names(f"{COLD}/d") == ["a"]
    hiding.show()
    opened.rest()
    opened.assert_at_home()
    assert opened.read(f"{COLD}/d/a") == b"hidden"
