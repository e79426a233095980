"""Files that are replaced or removed between the kernel's look at their name and its next request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fusestore.errors import AlreadyExists, Gone
from fusestore.service import renaming, writing
from tests.support.byhand import finish

if TYPE_CHECKING:
    from pathlib import Path

    from fusestore.model import InodeNo
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"


def look_up(opened: Opened, path: str) -> InodeNo:
    """As the kernel does when a program is about to open something."""
    number = opened.find(path)
    opened.store.lookups[number] += 1
    return number


def forget(opened: Opened, number: InodeNo) -> None:
    del opened.store.lookups[number]
    opened.store.let_go(number)


@pytest.mark.parametrize("area", [HOT, "uploads"])
def test_a_file_just_looked_up_can_still_be_opened_when_it_has_been_replaced(opened: Opened, area: str) -> None:
    opened.write(f"{area}/a", b"old")
    opened.write(f"{area}/b", b"new")
    number = look_up(opened, f"{area}/a")
    opened.rename(f"{area}/b", f"{area}/a")
    handle = writing.open_file(opened.store, number, write=False, truncate=False)
    assert finish(writing.read(opened.store, handle, 10, 0)) == b"old"
    writing.release(opened.store, handle)
    forget(opened, number)
    with pytest.raises(Gone):
        writing.open_file(opened.store, number, write=False, truncate=False)
    assert number not in opened.store.files
    assert number not in opened.store.orphans
    assert opened.read(f"{area}/a") == b"new"


def test_what_was_kept_for_a_replacement_that_failed_is_closed(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"old")
    opened.write(f"{HOT}/b", b"new")
    number = look_up(opened, f"{HOT}/a")
    driver = opened.store.home_root(opened.find(HOT))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    driver.rename = refuse  # type: ignore[method-assign]
    with pytest.raises(PermissionError):
        opened.rename(f"{HOT}/b", f"{HOT}/a")
    del driver.rename
    assert number not in opened.store.files
    forget(opened, number)
    with pytest.raises(AlreadyExists):
        opened.rename(f"{HOT}/b", f"{HOT}/a", flags=renaming.NOREPLACE)
    assert opened.read(f"{HOT}/a") == b"old"


def test_a_file_that_others_replaced_on_its_new_disk_is_not_removed_under_the_old_id(shared: Opened) -> None:
    """Its directory is on its way from another root."""
    shared.mkdir(f"{HOT}/d")
    shared.write(f"{HOT}/d/f", b"ours")
    shared.write(f"{HOT}/d/g", b"ours")
    shared.rename(f"{HOT}/d", f"{COLD}/d")
    arrived: Path = shared.disks["cold"] / "d" / "f"
    while not arrived.exists():
        shared.step()
    old = shared.stat(f"{COLD}/d/f").id
    arrived.rename(arrived.with_name("kept"))
    arrived.write_bytes(b"theirs")
    with pytest.raises(Gone):  # the kernel looks the name up once more
        shared.rename(f"{COLD}/d/f", f"{COLD}/d/h")
    shared.rename(f"{COLD}/d/f", f"{COLD}/d/h")
    assert shared.stat(f"{COLD}/d/h").id != old
    shared.rest()


def test_the_event_of_a_rename_right_after_the_close_says_the_size(opened: Opened) -> None:
    opened.write("uploads/a.part", b"12345")
    opened.rename("uploads/a.part", "uploads/a")
    last = opened.store.index.events(opened.store.index.last_seq - 1, 1)[-1]
    assert (last.kind, last.size) == ("renamed", 5)


def put_directory_in_its_place(opened: Opened) -> None:
    """The file hot/data becomes cold/old, a ghost where it lies, and a new directory gets its name."""
    opened.mkdir(f"{COLD}/new")
    opened.rename(f"{HOT}/data", f"{COLD}/old")
    opened.rename(f"{COLD}/new", f"{HOT}/data")


def test_a_ghost_comes_back_into_the_directory_that_has_taken_its_name(opened: Opened) -> None:
    """The directory's place on the disk is the ghost's: making it sends the very object aside that is to be renamed."""
    opened.write(f"{HOT}/data", b"bytes")
    put_directory_in_its_place(opened)
    opened.rename(f"{COLD}/old", f"{HOT}/data/old")
    assert opened.read(f"{HOT}/data/old") == b"bytes"
    opened.rest()
    assert opened.read(f"{HOT}/data/old") == b"bytes"


def test_a_ghost_that_steps_aside_and_is_replaced_by_one_name_does_not_seem_changed_outside(shared: Opened) -> None:
    shared.write(f"{HOT}/data", b"bytes")
    shared.write(f"{HOT}/b", b"other")
    shared.settle()
    put_directory_in_its_place(shared)
    shared.link(f"{COLD}/old", f"{COLD}/old2")
    shared.rename(f"{COLD}/old2", f"{HOT}/data/x")
    shared.rename(f"{HOT}/b", f"{HOT}/data/x")
    assert shared.read(f"{COLD}/old") == b"bytes"
    assert shared.store.suspects == set()
    shared.rest()
    assert shared.read(f"{HOT}/data/x") == b"other"


def test_a_file_with_a_ghost_gets_a_further_name_in_the_directory_that_has_taken_its_place(opened: Opened) -> None:
    opened.write(f"{HOT}/data", b"bytes")
    opened.link(f"{HOT}/data", f"{HOT}/x")
    put_directory_in_its_place(opened)
    opened.link(f"{HOT}/x", f"{HOT}/data/z")
    opened.rest()
    for name in (f"{HOT}/x", f"{HOT}/data/z", f"{COLD}/old"):
        assert opened.read(name) == b"bytes"


@pytest.mark.parametrize("outside", ["opened", "shared"])
def test_a_link_that_was_replaced_from_another_disk_counts_no_more_at_once(
    request: pytest.FixtureRequest, outside: str
) -> None:
    opened: Opened = request.getfixturevalue(outside)
    opened.write(f"{COLD}/a", b"old")
    opened.link(f"{COLD}/a", f"{COLD}/b")
    opened.write("uploads/new", b"new")
    opened.settle()
    opened.rename("uploads/new", f"{COLD}/b")
    assert opened.stat(f"{COLD}/a").nlink == 1
    opened.rest()
    assert opened.stat(f"{COLD}/a").nlink == 1
    opened.assert_at_home()
