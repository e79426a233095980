"""Names: making, linking, renaming and removing them, and what is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fusestore.errors import (
    AlreadyExists,
    BadName,
    CrossesRoots,
    InvalidRequest,
    IsADirectory,
    NameTooLong,
    NotADirectory,
    NotEmpty,
    NotFound,
    Protected,
)
from fusestore.service.renaming import EXCHANGE, NOREPLACE

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT = "resources/hot"
ROOTS = pytest.mark.parametrize("top", ["uploads", HOT])


@ROOTS
def test_a_taken_name_cannot_be_made_again(opened: Opened, top: str) -> None:
    opened.write(f"{top}/a", b"mine")
    for make in (opened.create, opened.mkdir):
        with pytest.raises(AlreadyExists):
            make(f"{top}/a")
    with pytest.raises(AlreadyExists):
        opened.symlink(f"{top}/a", "b")
    assert opened.read(f"{top}/a") == b"mine"


@pytest.mark.parametrize("directory", ["", "resources"])
def test_no_name_can_be_made_outside_the_roots(opened: Opened, directory: str) -> None:
    path = f"{directory}/a" if directory else "a"
    for make in (opened.create, opened.mkdir):
        with pytest.raises(Protected):
            make(path)


@pytest.mark.parametrize("path", ["uploads", "downloads", "resources", "resources/hot"])
def test_the_skeleton_stays(opened: Opened, path: str) -> None:
    opened.mkdir(f"{HOT}/d")
    with pytest.raises(Protected):
        opened.rmdir(path)
    with pytest.raises(Protected):
        opened.rename(path, f"{HOT}/d/e")
    with pytest.raises((Protected, NotEmpty, IsADirectory)):
        opened.rename(f"{HOT}/d", path)


def test_a_root_keeps_its_marker_to_itself(opened: Opened) -> None:
    with pytest.raises(Protected):
        opened.mkdir(f"{HOT}/.fusestore")
    opened.mkdir(f"{HOT}/d")
    opened.mkdir(f"{HOT}/d/.fusestore")
    assert ".fusestore" not in opened.names(HOT)


@ROOTS
def test_names_have_255_bytes_at_most(opened: Opened, top: str) -> None:
    opened.write(f"{top}/{'n' * 255}", b"long")
    assert opened.read(f"{top}/{'n' * 255}") == b"long"
    with pytest.raises(NameTooLong):
        opened.create(f"{top}/{'n' * 256}")
    with pytest.raises(BadName):
        opened.mkdir(f"{top}/..")


@ROOTS
def test_a_file_has_as_many_links_as_names(opened: Opened, top: str) -> None:
    opened.write(f"{top}/a", b"x")
    opened.mkdir(f"{top}/d")
    opened.link(f"{top}/a", f"{top}/d/b")
    assert opened.stat(f"{top}/a").nlink == opened.stat(f"{top}/d/b").nlink == 2
    assert opened.find(f"{top}/a") == opened.find(f"{top}/d/b")
    opened.unlink(f"{top}/a")
    assert opened.stat(f"{top}/d/b").nlink == 1
    assert opened.read(f"{top}/d/b") == b"x"


def test_a_hard_link_cannot_join_two_roots(opened: Opened) -> None:
    opened.write("uploads/a", b"x")
    with pytest.raises(CrossesRoots):
        opened.link("uploads/a", f"{HOT}/a")
    assert not opened.exists(f"{HOT}/a")


@ROOTS
def test_directories_count_their_directories(opened: Opened, top: str) -> None:
    opened.mkdir(f"{top}/d")
    opened.mkdir(f"{top}/d/e")
    opened.write(f"{top}/d/f", b"")
    assert opened.stat(f"{top}/d").nlink == 3
    opened.rename(f"{top}/d/e", f"{top}/e")
    assert opened.stat(f"{top}/d").nlink == 2


@ROOTS
def test_only_what_is_empty_and_a_directory_is_removed_as_one(opened: Opened, top: str) -> None:
    opened.mkdir(f"{top}/d")
    opened.write(f"{top}/d/a", b"")
    with pytest.raises(NotEmpty):
        opened.rmdir(f"{top}/d")
    with pytest.raises(NotADirectory):
        opened.rmdir(f"{top}/d/a")
    with pytest.raises(IsADirectory):
        opened.unlink(f"{top}/d")
    opened.unlink(f"{top}/d/a")
    opened.rmdir(f"{top}/d")
    with pytest.raises((NotFound, FileNotFoundError)):
        opened.find(f"{top}/d")
    opened.assert_at_home()


@ROOTS
def test_a_rename_replaces_what_it_may(opened: Opened, top: str) -> None:
    number = opened.write(f"{top}/a", b"new")
    opened.write(f"{top}/b", b"old")
    opened.rename(f"{top}/a", f"{top}/b")
    assert opened.names(top) == ["b"]
    assert (opened.find(f"{top}/b"), opened.read(f"{top}/b")) == (number, b"new")
    opened.settle()
    opened.assert_at_home()


@ROOTS
def test_a_rename_refuses_what_rename_2_refuses(opened: Opened, top: str) -> None:
    for name in ("d", "full"):
        opened.mkdir(f"{top}/{name}")
    opened.write(f"{top}/full/x", b"")
    opened.write(f"{top}/a", b"a")
    opened.write(f"{top}/b", b"b")
    refusals = [
        ("a", "d", 0, IsADirectory),
        ("d", "a", 0, NotADirectory),
        ("d", "full", 0, NotEmpty),
        ("a", "b", NOREPLACE, AlreadyExists),
    ]
    for old, new, flags, refusal in [*refusals, ("a", "b", 8, InvalidRequest), ("a", "none", EXCHANGE, NotFound)]:
        with pytest.raises(refusal):
            opened.rename(f"{top}/{old}", f"{top}/{new}", flags)
    with pytest.raises((NotFound, FileNotFoundError)):
        opened.rename(f"{top}/none", f"{top}/c")
    assert (opened.read(f"{top}/a"), opened.read(f"{top}/b")) == (b"a", b"b")


@ROOTS
def test_renaming_one_name_of_a_file_to_another_of_it_does_nothing(opened: Opened, top: str) -> None:
    opened.write(f"{top}/a", b"x")
    opened.link(f"{top}/a", f"{top}/b")
    opened.rename(f"{top}/a", f"{top}/b")
    opened.rename(f"{top}/a", f"{top}/a")
    assert opened.names(top) == ["a", "b"]


@ROOTS
def test_two_names_are_exchanged_with_all_below_them(opened: Opened, top: str) -> None:
    opened.mkdir(f"{top}/d")
    opened.write(f"{top}/d/x", b"in it")
    file = opened.write(f"{top}/a", b"alone")
    directory = opened.find(f"{top}/d")
    opened.rename(f"{top}/a", f"{top}/d", EXCHANGE)
    assert (opened.find(f"{top}/d"), opened.find(f"{top}/a")) == (file, directory)
    assert opened.read(f"{top}/a/x") == b"in it"
    opened.settle()
    opened.assert_at_home()


def test_names_on_two_roots_cannot_be_exchanged(opened: Opened) -> None:
    opened.write("uploads/a", b"")
    opened.write(f"{HOT}/a", b"")
    with pytest.raises(InvalidRequest):
        opened.rename("uploads/a", f"{HOT}/a", EXCHANGE)


def test_a_directory_is_not_exchanged_while_its_files_are_on_their_way(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"x")
    opened.mkdir("resources/cold/other")
    opened.rename(f"{HOT}/d", "resources/cold/d")
    with pytest.raises(InvalidRequest):
        opened.rename("resources/cold/d", "resources/cold/other", EXCHANGE)
    opened.rest()
    opened.rename("resources/cold/d", "resources/cold/other", EXCHANGE)
    assert opened.read("resources/cold/other/a") == b"x"


def test_a_replaced_upload_leaves_no_bytes_behind(opened: Opened) -> None:
    """The bytes of two uploads lie in the same id area, which must not be taken for the same place."""
    opened.write("uploads/old", b"old")
    opened.write(f"{HOT}/new", b"new")
    opened.rename(f"{HOT}/new", "uploads/old")
    opened.rest()
    opened.assert_at_home()
    assert list(opened.on_disk("uploads").values()) == [b"new"]


def test_modes_are_the_disks_own(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"")
    opened.set(f"{HOT}/a", mode=0o640)
    assert os.stat(opened.disks["hot"] / "a").st_mode & 0o7777 == opened.stat(f"{HOT}/a").mode & 0o7777 == 0o640


def test_a_set_gid_directory_gives_its_group_and_the_bit(opened: Opened) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a directory to a group it is not in")
    for top in ("uploads", HOT):
        opened.mkdir(f"{top}/d")
        opened.set(f"{top}/d", gid=4321)
        opened.set(f"{top}/d", mode=0o2775)
        opened.mkdir(f"{top}/d/e")
        opened.write(f"{top}/d/a", b"")
        assert opened.stat(f"{top}/d/e").gid == opened.stat(f"{top}/d/a").gid == 4321
        assert opened.stat(f"{top}/d/e").mode & 0o2000
