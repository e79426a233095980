"""A directory that others remove from a disk, being empty there, stays as long as the tree has something in it."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from fusestore.roots.local import LocalRoot

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"


def events(opened: Opened, since: int) -> list[tuple[str, str]]:
    return [(event.kind, event.path.decode()) for event in opened.store.index.events(since, 1000)]


def look(opened: Opened, path: str) -> None:
    """As whoever comes by in the mount does."""
    opened.exists(path)
    opened.names(path.rpartition("/")[0])


@pytest.mark.parametrize("how", ["by its name", "by a listing"])
def test_what_is_on_its_way_into_it_arrives(shared: Opened, how: str) -> None:
    shared.mkdir(f"{COLD}/d")
    shared.write(f"{HOT}/file", b"content")
    shared.settle()
    id = shared.stat(f"{HOT}/file").id
    shared.rename(f"{HOT}/file", f"{COLD}/d/file")
    (shared.disks["cold"] / "d").rmdir()
    if how == "by a listing":
        assert "d" in shared.names(COLD)
    assert shared.exists(f"{COLD}/d")
    assert shared.read(f"{COLD}/d/file") == b"content"
    shared.rest()
    assert (shared.disks["cold"] / "d" / "file").read_bytes() == b"content"
    assert shared.stat(f"{COLD}/d/file").id == id


def test_so_does_a_directory_with_all_that_is_in_it(shared: Opened) -> None:
    shared.mkdir(f"{COLD}/d")
    shared.mkdir(f"{HOT}/e")
    shared.write(f"{HOT}/e/file", b"content")
    shared.settle()
    shared.rename(f"{HOT}/e", f"{COLD}/d/e")
    shutil.rmtree(shared.disks["cold"] / "d")
    assert shared.read(f"{COLD}/d/e/file") == b"content"
    shared.rest()
    assert (shared.disks["cold"] / "d" / "e" / "file").read_bytes() == b"content"


def test_what_was_dropped_there_stays(shared: Opened) -> None:
    shared.mkdir(f"{COLD}/d")
    shared.mkdir(f"{COLD}/d/e")
    shared.write(f"{COLD}/d/e/file", b"content")
    shared.write(f"{COLD}/d/here", b"x")
    shared.settle()
    shared.replicate(f"{COLD}/d/e/file", "warm")
    shared.rest()
    shared.drop(f"{COLD}/d/e/file", "cold")
    since = shared.store.index.last_seq
    shutil.rmtree(shared.disks["cold"] / "d")
    assert shared.read(f"{COLD}/d/e/file") == b"content"
    assert shared.names(f"{COLD}/d") == ["e"]
    assert ("vanished", f"{COLD}/d/here") in events(shared, since)
    assert ("vanished", f"{COLD}/d/e/file") not in events(shared, since)


@pytest.mark.parametrize("is_open", [True, False])
def test_one_that_they_have_renamed_takes_all_along(shared: Opened, is_open: bool) -> None:
    shared.mkdir(f"{COLD}/d")
    shared.write(f"{COLD}/d/file", b"content")
    shared.settle()
    shared.replicate(f"{COLD}/d/file", "warm")
    shared.rest()
    shared.drop(f"{COLD}/d/file", "cold")
    number = shared.find(f"{COLD}/d")
    if not is_open:
        shared.store.places.forget(number)
    disk = shared.disks["cold"]
    (disk / "d").rename(disk / "e")
    assert not shared.exists(f"{COLD}/d")
    assert shared.read(f"{COLD}/e/file") == b"content"
    assert shared.find(f"{COLD}/e") == number


def test_it_stays_also_when_there_is_no_room_to_make_it_again(shared: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.mkdir(f"{COLD}/d")
    shared.write(f"{COLD}/e", b"x")
    shared.write(f"{HOT}/file", b"content")
    shared.settle()
    shared.rename(f"{HOT}/file", f"{COLD}/d/file")
    (shared.disks["cold"] / "d").rmdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(LocalRoot, "mkdir", full)
        assert shared.names(COLD) == ["d", "e"]
        with pytest.raises(OSError, match="No space"):
            shared.find(f"{COLD}/d")
    assert shared.read(f"{COLD}/d/file") == b"content"
    shared.rest()


def test_a_file_keeps_its_further_name_there(shared: Opened) -> None:
    shared.mkdir(f"{COLD}/d")
    shared.write(f"{HOT}/a", b"content")
    shared.link(f"{HOT}/a", f"{HOT}/b")
    shared.settle()
    shared.rename(f"{HOT}/a", f"{COLD}/d/a")
    shared.rest()
    (shared.disks["cold"] / "d").rmdir()
    assert shared.read(f"{COLD}/d/a") == b"content"
    shared.unlink(f"{HOT}/b")
    shared.rest()
    assert (shared.disks["cold"] / "d" / "a").read_bytes() == b"content"


@pytest.mark.parametrize("what", ["directory", "file"])
def test_something_else_may_have_its_name_by_then(shared: Opened, what: str) -> None:
    shared.mkdir(f"{COLD}/d")
    shared.write(f"{HOT}/file", b"content")
    shared.settle()
    id = shared.stat(f"{HOT}/file").id
    shared.rename(f"{HOT}/file", f"{COLD}/d/file")
    there = shared.disks["cold"] / "d"
    there.rmdir()
    if what == "directory":
        there.mkdir()
        (there / "other").write_bytes(b"other")
    else:
        there.write_bytes(b"other")
    other = f"{COLD}/d/other" if what == "directory" else f"{COLD}/d"
    assert shared.read(other) == b"other"
    shared.rest()
    number = shared.store.index.by_id(id)
    assert number is not None
    path = (shared.store.path(number) or b"").decode()
    assert path.startswith(f"{COLD}/d")
    assert shared.read(path) == b"content"


def test_what_was_on_its_way_out_of_it_is_gone_with_it_and_that_is_told(shared: Opened) -> None:
    shared.mkdir(f"{COLD}/d")
    shared.write(f"{COLD}/d/file", b"content")
    shared.settle()
    shared.rename(f"{COLD}/d/file", f"{HOT}/file")
    since = shared.store.index.last_seq
    shutil.rmtree(shared.disks["cold"] / "d")
    look(shared, f"{COLD}/d")
    look(shared, f"{HOT}/file")
    assert not shared.exists(f"{HOT}/file")
    assert {("vanished", f"{COLD}/d"), ("vanished", f"{HOT}/file")} <= set(events(shared, since))
    shared.rest()
    assert "file" not in shared.names(HOT)
