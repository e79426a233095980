"""Bytes that no name leads to any more: where they lie, for how long, who gets their room, and how they come back."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest

from fusestore.errors import AlreadyExists, InvalidRequest, NoRoom, NotFound, RootDrained
from fusestore.roots import identity
from fusestore.service import retrieving, space, trash
from fusestore.service.syncing import sync
from tests.support.byhand import finish
from tests.support.calls import ME

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import Trashed
    from tests.support.opened import Opened

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"
MIB = 1 << 20
HOUR_NS = 3600 * 10**9


def root(opened: Opened, name: str) -> Driver:
    return next(root for root in opened.store.roots.values() if root.name == name)


def kept(opened: Opened, name: str) -> list[Trashed]:
    return trash.entries(opened.store, root(opened, name))


def moved(opened: Opened, content: bytes = b"content") -> str:
    """A file that has moved from hot to cold and left its bytes; returns its id."""
    opened.write(f"{HOT}/a", content)
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.rest()
    return opened.stat(f"{COLD}/a").id.hex()


def restore(opened: Opened, what: str, path: str) -> dict[str, str]:
    above, _, name = path.rpartition("/")
    found = retrieving.find(opened.store, what)
    return finish(retrieving.restore(opened.store, found, opened.find(above), name.encode(), ME))


def test_what_a_move_leaves_behind_lies_in_the_trash_of_its_root_and_is_no_copy(keeping: Opened) -> None:
    id = moved(keeping)
    (found,) = kept(keeping, "hot")
    assert (found.id.hex(), found.path, found.why, found.size) == (id, f"{COLD}/a".encode(), "moved", 7)
    assert found.until_ns - found.removed_ns == HOUR_NS
    lies = keeping.disks["hot"] / ".fusestore" / "trash" / os.fsdecode(found.name)
    assert lies.read_bytes() == b"content"
    label = identity.read(root(keeping, "hot"), root(keeping, "hot").trash(), found.name)
    assert label is not None
    assert label.id.hex() == id
    assert len(keeping.store.placement.spots(keeping.find(f"{COLD}/a"))) == 1
    keeping.assert_at_home()


def test_what_is_removed_lies_there_only_with_its_last_name_and_where_the_config_says_so(keeping: Opened) -> None:
    keeping.write(f"{HOT}/a", b"content")
    keeping.link(f"{HOT}/a", f"{HOT}/b")
    keeping.unlink(f"{HOT}/a")
    assert kept(keeping, "hot") == []
    keeping.unlink(f"{HOT}/b")
    (found,) = kept(keeping, "hot")
    assert (found.path, found.why) == (f"{HOT}/b".encode(), "removed")
    keeping.write("uploads/c", b"content")
    keeping.unlink("uploads/c")
    assert kept(keeping, "uploads") == []


def test_hard_links_that_move_leave_one_file_behind(keeping: Opened) -> None:
    keeping.mkdir(f"{HOT}/d")
    keeping.write(f"{HOT}/d/a", b"content")
    keeping.link(f"{HOT}/d/a", f"{HOT}/d/b")
    keeping.rename(f"{HOT}/d", f"{COLD}/d")
    keeping.rest()
    assert len(kept(keeping, "hot")) == 1
    keeping.assert_at_home()


def test_without_a_trash_nothing_is_kept(opened: Opened) -> None:
    moved(opened)
    opened.unlink(f"{COLD}/a")
    assert not any(kept(opened, name) for name in opened.disks)


def test_it_is_destroyed_when_its_time_is_over_and_survives_a_restart_until_then(keeping: Opened) -> None:
    moved(keeping)
    before = kept(keeping, "hot")
    keeping.crash()
    keeping.open()
    assert kept(keeping, "hot") == before
    keeping.rest()
    keeping.close()
    keeping.open()
    assert kept(keeping, "hot") == before
    held = keeping.store.trashed[root(keeping, "hot").number]
    assert held == before[0].held_bytes > 0
    finish(trash.empty_due(keeping.store, time.time_ns()))
    assert kept(keeping, "hot") == before
    finish(trash.empty_due(keeping.store, time.time_ns() + 2 * HOUR_NS))
    assert kept(keeping, "hot") == []
    assert keeping.store.trashed[root(keeping, "hot").number] == 0
    keeping.assert_at_home()


def test_a_stranger_under_its_name_in_the_trash_is_never_destroyed(keeping: Opened) -> None:
    moved(keeping)
    (found,) = kept(keeping, "hot")
    lies = keeping.disks["hot"] / ".fusestore" / "trash" / os.fsdecode(found.name)
    lies.rename(lies.with_name("elsewhere"))
    lies.write_bytes(b"a stranger's")
    trash.empty(keeping.store, root(keeping, "hot"))
    assert lies.read_bytes() == b"a stranger's"
    lies.unlink()
    lies.with_name("elsewhere").unlink()


def fill(opened: Opened, left: int) -> None:
    """Leave so many bytes on the disk of cold."""
    free = root(opened, "cold").space().available
    (opened.disks["cold"].parent / "ballast").write_bytes(bytes(free - left))


@pytest.fixture
def crowded(keeping: Opened) -> Opened:
    """Cold is full but for its trash, which holds three files of 8 MiB."""
    for name in "abc":
        keeping.write(f"{COLD}/{name}", name.encode() * 8 * MIB)
        keeping.settle()
        keeping.unlink(f"{COLD}/{name}")
    fill(keeping, 64 * 1024)
    return keeping


@pytest.fixture(autouse=True)
def no_ballast(devices: tuple[object, object]) -> object:
    yield
    for folder in devices:
        (folder / "ballast").unlink(missing_ok=True)  # type: ignore[operator]


def test_a_write_that_finds_the_disk_full_gets_the_room_of_the_trash(crowded: Opened) -> None:
    crowded.write(f"{COLD}/new", bytes(6 * MIB))
    assert crowded.stat(f"{COLD}/new").size == 6 * MIB
    assert len(kept(crowded, "cold")) < 3


def test_a_move_that_finds_the_disk_full_gets_the_room_of_the_trash(crowded: Opened) -> None:
    crowded.write(f"{HOT}/new", bytes(6 * MIB))
    crowded.settle()
    crowded.rename(f"{HOT}/new", f"{COLD}/new")
    crowded.rest()
    assert crowded.root_of(f"{COLD}/new") == "cold"
    assert kept(crowded, "cold") == []  # at least 64 MiB go, if there are as many


def test_what_does_not_fit_with_all_of_the_trash_is_refused_and_the_trash_stays(crowded: Opened) -> None:
    crowded.write(f"{HOT}/new", bytes(40 * MIB))
    crowded.settle()
    with pytest.raises(NoRoom):
        crowded.rename(f"{HOT}/new", f"{COLD}/new")
    assert len(kept(crowded, "cold")) == 3


def test_its_room_counts_as_free_for_df(crowded: Opened) -> None:
    cold = root(crowded, "cold")
    usable, free = space.usable(crowded.store, cold), space.room(cold)
    assert usable is not None
    assert free is not None
    assert usable.available - free.available == crowded.store.trashed[cold.number] >= 24 * MIB


def test_what_the_full_disk_cannot_keep_is_removed_all_the_same(
    keeping: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.write(f"{HOT}/a", b"content")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(root(keeping, "hot"), "rename", full)
    keeping.unlink(f"{HOT}/a")
    assert not (keeping.disks["hot"] / "a").exists()
    assert kept(keeping, "hot") == []


def test_a_file_is_restored_as_a_new_one_and_both_histories_say_so(keeping: Opened) -> None:
    keeping.write(f"{HOT}/a", b"content")
    keeping.settle()
    old = keeping.stat(f"{HOT}/a").id
    keeping.unlink(f"{HOT}/a")
    made = restore(keeping, old.hex()[:30], f"{HOT}/a")
    keeping.settle()
    inode = keeping.stat(f"{HOT}/a")
    assert keeping.read(f"{HOT}/a") == b"content"
    assert inode.id != old
    assert inode.current_hash
    assert (made["old_path"], made["path"]) == (f"{HOT}/a", f"{HOT}/a")
    assert keeping.store.index.journal(inode.id)[-1].command == "restore"
    assert keeping.store.index.journal(old)[-1].command == "restore"
    keeping.assert_at_home()
    with pytest.raises(NotFound):
        retrieving.find(keeping.store, old.hex())


def test_a_restored_file_is_safe_from_the_release_that_had_brought_it_there(keeping: Opened) -> None:
    id = moved(keeping)
    restore(keeping, id, f"{HOT}/a")
    keeping.crash()
    keeping.open()
    assert keeping.read(f"{HOT}/a") == b"content"
    assert kept(keeping, "hot") == []


def test_nothing_is_restored_over_something_or_to_another_disk(keeping: Opened) -> None:
    id = moved(keeping)
    keeping.write(f"{HOT}/a", b"another")
    with pytest.raises(AlreadyExists):
        restore(keeping, id, f"{HOT}/a")
    with pytest.raises(InvalidRequest):
        restore(keeping, id, f"{COLD}/b")
    (keeping.disks["hot"] / "theirs").write_bytes(b"a stranger's")
    with pytest.raises(AlreadyExists):
        restore(keeping, id, f"{HOT}/theirs")
    assert (keeping.disks["hot"] / "theirs").read_bytes() == b"a stranger's"
    assert keeping.read(f"{HOT}/a") == b"another"
    assert len(kept(keeping, "hot")) == 1


def test_nothing_is_restored_to_a_root_that_is_to_be_empty(keeping: Opened) -> None:
    id = moved(keeping)
    keeping.drain("hot")
    keeping.rest()
    with pytest.raises(RootDrained):
        restore(keeping, id, f"{HOT}/a")
    assert len(kept(keeping, "hot")) == 1


def test_several_of_one_id_need_the_name_of_one(keeping: Opened) -> None:
    id = moved(keeping)
    keeping.rename(f"{COLD}/a", f"{HOT}/a")
    keeping.rest()
    with pytest.raises(InvalidRequest):
        retrieving.find(keeping.store, id)
    for name in ("hot", "cold"):
        (found,) = kept(keeping, name)
        assert retrieving.find(keeping.store, os.fsdecode(found.name)) == found


def test_what_lies_there_without_a_row_waits_its_time_again(keeping: Opened) -> None:
    moved(keeping)
    finish(sync(keeping.store, root(keeping, "hot")))
    (found,) = kept(keeping, "hot")
    batch = keeping.store.batch()
    trash.forget(keeping.store, batch, found)
    keeping.store.index.apply(batch)
    keeping.crash()
    keeping.open()
    (again,) = kept(keeping, "hot")
    assert (again.name, again.id, again.why) == (found.name, found.id, "found")
    assert again.until_ns > found.until_ns


def test_what_lies_there_and_is_a_file_of_the_tree_after_all_goes_back_to_its_place(keeping: Opened) -> None:
    keeping.write(f"{HOT}/a", b"content")
    keeping.settle()
    lies = keeping.disks["hot"] / ".fusestore" / "trash" / "x"
    lies.parent.mkdir(exist_ok=True)
    (keeping.disks["hot"] / "a").rename(lies)  # the log went back to before the removal, the disk did not
    keeping.crash()
    keeping.open()
    assert keeping.read(f"{HOT}/a") == b"content"
    assert kept(keeping, "hot") == []
