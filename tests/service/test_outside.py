"""What others do on a root's disk, seen at the next look; and what our own doings must not be taken for."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from fusestore.errors import Gone, IndexFull, NotFound
from fusestore.model import Outside, State
from fusestore.roots.local import LocalRoot
from fusestore.service import looking, verifying
from tests.support.byhand import by_hand, finish
from tests.support.disks import can_loop, loop_disk
from tests.support.opened import Opened, two_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusestore.index.batch import Batch
    from fusestore.model import Event

HOT, COLD = "resources/hot", "resources/cold"


@pytest.fixture
def disk(shared: Opened) -> Path:
    return shared.disks["hot"]


@pytest.fixture
def events(shared: Opened) -> list[Event]:
    events: list[Event] = []
    shared.store.index.on_events = events.extend
    return events


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events if event.cause in {"outside", "adopt"}]


def test_what_was_planted_is_adopted_with_an_id_for_life(shared: Opened, disk: Path) -> None:
    (disk / "d").mkdir()
    (disk / "d" / "a").write_bytes(b"planted")
    os.symlink("d", disk / "s")
    assert shared.names(HOT) == ["d", "s"]
    assert shared.names(f"{HOT}/d") == ["a"]
    assert shared.read(f"{HOT}/d/a") == b"planted"
    assert shared.readlink(f"{HOT}/s") == "d"
    number, id = shared.find(f"{HOT}/d/a"), shared.stat(f"{HOT}/d/a").id
    shared.close()
    shared.open()
    assert (shared.find(f"{HOT}/d/a"), shared.stat(f"{HOT}/d/a").id) == (number, id)


def test_a_name_is_found_before_its_directory_was_ever_listed(shared: Opened, disk: Path) -> None:
    (disk / "a").write_bytes(b"planted")
    assert shared.read(f"{HOT}/a") == b"planted"


@pytest.mark.parametrize("how", ["append", "truncate", "rewrite"])
def test_a_change_of_content_is_a_new_version_of_the_same_inode(
    shared: Opened, disk: Path, events: list[Event], how: str
) -> None:
    number = shared.write(f"{HOT}/a", b"content")
    shared.settle()
    version = shared.stat(f"{HOT}/a").version
    if how == "append":
        with (disk / "a").open("ab") as file:
            file.write(b" more")
    elif how == "truncate":
        os.truncate(disk / "a", 3)
    else:
        with (disk / "a").open("r+b") as file:
            file.write(b"CONTENT")
    inode = shared.stat(f"{HOT}/a")
    assert (inode.number, inode.version) == (number, version + 1)
    shared.settle()
    assert shared.stat(f"{HOT}/a").current_hash == blake3((disk / "a").read_bytes()).digest()
    assert kinds(events) == ["changed"]


def test_a_change_that_puts_the_mtime_back_is_noticed(shared: Opened, disk: Path, events: list[Event]) -> None:
    """rsync and tar restore mtimes; the ctime shows that something happened, and the bytes say what."""
    shared.write(f"{HOT}/a", b"content")
    shared.settle()
    before = shared.stat(f"{HOT}/a")
    with (disk / "a").open("r+b") as file:
        file.write(b"CONTENT")
    os.utime(disk / "a", ns=(before.atime_ns, before.mtime_ns))
    shared.stat(f"{HOT}/a")
    shared.settle()
    after = shared.stat(f"{HOT}/a")
    assert after.version == before.version + 1
    assert after.current_hash == blake3(b"CONTENT").digest()
    assert [event.kind for event in events if event.version == after.version] == ["hashed"]


def test_a_ctime_that_moved_for_nothing_changes_nothing(shared: Opened, disk: Path, events: list[Event]) -> None:
    shared.write(f"{HOT}/a", b"content")
    shared.settle()
    before = shared.stat(f"{HOT}/a")
    events.clear()
    os.utime(disk / "a", ns=(before.atime_ns, before.mtime_ns))
    shared.stat(f"{HOT}/a")
    shared.settle()
    assert shared.stat(f"{HOT}/a").version == before.version
    assert events == []


def test_a_change_of_mode_is_an_attribute_event(shared: Opened, disk: Path, events: list[Event]) -> None:
    shared.write(f"{HOT}/a", b"content")
    shared.settle()
    version = shared.stat(f"{HOT}/a").version
    os.chmod(disk / "a", 0o600)
    inode = shared.stat(f"{HOT}/a")
    assert (inode.mode & 0o777, inode.version) == (0o600, version)
    assert kinds(events) == ["attributes"]


def test_another_object_under_the_name_is_another_inode(shared: Opened, disk: Path, events: list[Event]) -> None:
    number = shared.write(f"{HOT}/a", b"old")
    shared.settle()
    (disk / "new").write_bytes(b"new")
    os.replace(disk / "new", disk / "a")
    assert shared.find(f"{HOT}/a") != number
    assert shared.read(f"{HOT}/a") == b"new"
    assert kinds(events) == ["vanished", "adopted"]


def test_a_rename_outside_keeps_the_id(shared: Opened, disk: Path, events: list[Event]) -> None:
    number = shared.write(f"{HOT}/a", b"mine")
    shared.mkdir(f"{HOT}/d")
    shared.settle()
    os.rename(disk / "a", disk / "d" / "b")
    assert shared.names(f"{HOT}/d") == ["b"]
    assert shared.names(HOT) == ["d"]
    assert shared.find(f"{HOT}/d/b") == number
    (event,) = [event for event in events if event.cause == "outside"]
    assert (event.kind, event.old_path, event.path) == ("renamed", b"resources/hot/a", b"resources/hot/d/b")


def test_a_directory_renamed_outside_keeps_its_id_and_its_files(shared: Opened, disk: Path) -> None:
    number = shared.mkdir(f"{HOT}/d")
    file = shared.write(f"{HOT}/d/a", b"x")
    os.rename(disk / "d", disk / "e")
    assert shared.names(HOT) == ["e"]
    assert (shared.find(f"{HOT}/e"), shared.find(f"{HOT}/e/a")) == (number, file)
    assert shared.read(f"{HOT}/e/a") == b"x"


def test_what_vanished_first_and_turns_up_later_is_known_again(shared: Opened, disk: Path) -> None:
    number = shared.write(f"{HOT}/a", b"x")
    shared.settle()
    away = disk.parent / "away"
    os.rename(disk / "a", away)
    assert shared.names(HOT) == []
    os.rename(away, disk / "b")
    assert shared.names(HOT) == ["b"]
    assert shared.find(f"{HOT}/b") == number


def test_what_is_deleted_outside_is_gone(shared: Opened, disk: Path, events: list[Event]) -> None:
    shared.mkdir(f"{HOT}/d")
    shared.write(f"{HOT}/d/a", b"x")
    shared.write(f"{HOT}/b", b"x")
    shared.settle()
    shutil.rmtree(disk / "d")
    os.unlink(disk / "b")
    with pytest.raises(NotFound):
        shared.find(f"{HOT}/b")
    assert shared.names(HOT) == []
    assert sorted(kinds(events)) == ["vanished", "vanished"]


def test_a_hard_link_made_outside_is_a_name_of_the_same_inode(shared: Opened, disk: Path, events: list[Event]) -> None:
    number = shared.write(f"{HOT}/a", b"x")
    shared.settle()
    os.link(disk / "a", disk / "b")
    assert shared.names(HOT) == ["a", "b"]
    assert shared.find(f"{HOT}/b") == number
    assert shared.stat(f"{HOT}/a").nlink == 2
    assert "linked" in kinds(events)


def test_a_copy_that_brought_the_label_along_is_somebody_new(shared: Opened, disk: Path) -> None:
    number = shared.write(f"{HOT}/a", b"x")
    shared.settle()
    shutil.copy2(disk / "a", disk / "b")
    assert os.getxattr(disk / "b", "user.fusestore") == os.getxattr(disk / "a", "user.fusestore")
    assert shared.find(f"{HOT}/b") != number
    assert shared.stat(f"{HOT}/b").id != shared.stat(f"{HOT}/a").id


def test_what_a_stranger_put_into_a_directory_keeps_it(shared: Opened, disk: Path) -> None:
    shared.mkdir(f"{HOT}/d")
    (disk / "d" / "theirs").write_bytes(b"")
    with pytest.raises(Exception, match="not empty"):
        shared.rmdir(f"{HOT}/d")
    assert shared.names(f"{HOT}/d") == ["theirs"]


def test_our_own_doings_are_never_an_outside_change(shared: Opened, events: list[Event]) -> None:
    """Every rename, link and unlink moves the ctime of a hard link, also of one that is on its way."""
    shared.write(f"{HOT}/a", b"x")
    shared.settle()
    shared.link(f"{HOT}/a", f"{HOT}/b")
    shared.rename(f"{HOT}/a", "uploads/a")
    assert shared.stat(f"{HOT}/b").nlink == 2
    shared.unlink("uploads/a")
    assert shared.stat(f"{HOT}/b").nlink == 1
    shared.rest()
    assert shared.stat(f"{HOT}/b").nlink == 1
    shared.rename(f"{HOT}/b", f"{COLD}/b")
    shared.stat(f"{COLD}/b")
    shared.rest()
    shared.stat(f"{COLD}/b")
    assert kinds(events) == []
    assert shared.stat(f"{COLD}/b").version == 1


def test_a_file_that_only_changed_its_root_is_not_read_again(shared: Opened) -> None:
    shared.write(f"{HOT}/a", b"x")
    shared.settle()
    shared.rename(f"{HOT}/a", f"{COLD}/a")
    shared.stat(f"{COLD}/a")
    assert shared.store.suspects == set()


def test_the_old_bytes_of_a_file_that_arrived_do_not_come_back(shared: Opened) -> None:
    """Between the switch and the release they lie where no row speaks of them."""
    shared.write(f"{HOT}/a", b"old")
    shared.settle()
    shared.rename(f"{HOT}/a", f"{COLD}/a")
    until_condemned(shared, "hot")
    shared.unlink(f"{COLD}/a")
    assert shared.names(HOT) == []
    shared.write(f"{HOT}/a", b"new")  # its place is free at once
    assert shared.read(f"{HOT}/a") == b"new"
    shared.rest()
    assert shared.read(f"{HOT}/a") == b"new"
    shared.assert_at_home()


def until_condemned(opened: Opened, root: str) -> None:
    """Let moves go on until the bytes that were read from `root` are only waiting to be destroyed."""
    for _ in range(1000):
        roots = {opened.root_of(path) for path, _ in opened.walk() if not opened.stat(path).is_dir}
        if root not in roots:
            assert opened.on_disk(root) != {}
            return
        opened.step()
    raise AssertionError("nothing arrived")


def test_a_file_that_others_write_is_read_as_it_is_now(shared: Opened, disk: Path) -> None:
    shared.write(f"{HOT}/a", b"one")
    shared.settle()
    (disk / "a").write_bytes(b"longer now")
    assert shared.read(f"{HOT}/a") == b"longer now"
    assert looking.getattr(shared.store, shared.find(f"{HOT}/a")).inode.state is State.READY


def test_a_full_index_still_lists_what_it_knows(shared: Opened) -> None:
    shared.write(f"{HOT}/a", b"x")
    apply = shared.store.index.apply

    def short(batch: Batch) -> None:
        if batch.grows:
            raise IndexFull
        apply(batch)

    shared.store.index.apply = short  # type: ignore[method-assign]
    assert shared.names(HOT) == ["a"]
    shared.store.index.apply = apply  # type: ignore[method-assign]


def test_a_directory_that_was_replaced_is_not_taken_for_the_old_one_by_whoever_knows_its_number(shared: Opened) -> None:
    """So the kernel learns of it, however long it remembers the name."""
    number = shared.mkdir("resources/hot/d")
    disk = shared.disks["hot"]
    (disk / "d").rename(disk / "e")
    (disk / "d").mkdir()
    (disk / "d" / "x").touch()
    with pytest.raises(Gone):
        looking.getattr(shared.store, number)
    assert shared.find("resources/hot/d") != number
    assert shared.stat("resources/hot/d/x").size == 0
    assert shared.find("resources/hot/e") == number


def test_an_inode_that_vanished_is_gone_for_everybody_who_asks(shared: Opened) -> None:
    shared.write("resources/hot/a", b"x")
    number = shared.find("resources/hot/a")
    (shared.disks["hot"] / "a").unlink()
    with pytest.raises(NotFound):
        shared.stat("resources/hot/a")
    with pytest.raises(Gone):
        looking.getattr(shared.store, number)


def test_one_of_two_hard_links_that_was_removed_takes_only_its_own_name_along(shared: Opened) -> None:
    shared.mkdir("resources/hot/x")
    shared.mkdir("resources/hot/y")
    shared.write("resources/hot/x/a", b"x")
    shared.link("resources/hot/x/a", "resources/hot/y/b")
    number = shared.find("resources/hot/x/a")
    (shared.disks["hot"] / "x" / "a").unlink()
    with pytest.raises(Gone):
        looking.getattr(shared.store, number)
    assert looking.getattr(shared.store, number).inode.nlink == 1
    assert shared.names("resources/hot/y") == ["b"]


def test_what_took_the_old_place_of_something_on_its_way_does_not_take_its_new_name(shared: Opened) -> None:
    shared.mkdir("resources/hot/d")
    number = shared.mkdir("resources/hot/d/inner")
    shared.rename("resources/hot/d", "resources/cold/e")
    shared.mkdir("resources/cold/d")
    shared.write("resources/cold/d/ours", b"x")
    disk = shared.disks["hot"]
    (disk / "d").rename(disk / "away")
    (disk / "d").mkdir()
    (disk / "d" / "theirs").touch()
    old = shared.store.index.parents(number)[0][0]
    with pytest.raises(Gone):
        looking.getattr(shared.store, old)
    assert shared.names("resources/cold/d") == ["ours"]
    assert sorted(shared.names("resources/hot")) == ["away", "d"]
    assert shared.names("resources/hot/d") == ["theirs"]
    assert shared.names("resources/hot/away") == ["inner"]


def test_a_file_that_was_renamed_and_made_again_is_listed_under_both_names(shared: Opened) -> None:
    shared.write("resources/hot/log", b"old")
    disk = shared.disks["hot"]
    (disk / "log").rename(disk / "log.1")
    (disk / "log").touch()
    assert sorted(shared.names("resources/hot")) == ["log", "log.1"]


def test_what_replaced_the_target_of_a_rename_is_not_overwritten_unseen(shared: Opened) -> None:
    shared.mkdir("resources/hot/d")
    shared.write("resources/hot/d/f", b"ours")
    shared.write("resources/hot/d/g", b"ours")
    shared.write("resources/cold/x", b"x")
    shared.rename("resources/hot/d", "resources/cold/d")
    arrived = shared.disks["cold"] / "d" / "f"
    while not arrived.exists():
        shared.step()
    arrived.rename(arrived.with_name("kept"))
    arrived.write_bytes(b"theirs")
    with pytest.raises(Gone):
        shared.rename("resources/cold/x", "resources/cold/d/f")
    assert shared.read("resources/cold/d/f") == b"theirs"


def test_a_directory_that_vanished_is_gone_for_everybody_who_asks(shared: Opened) -> None:
    number = shared.mkdir("resources/hot/d")
    (shared.disks["hot"] / "d").rmdir()
    for _ in range(2):
        with pytest.raises(Gone):
            looking.getattr(shared.store, number)


def test_a_file_that_is_removed_while_it_is_written_is_gone_and_its_writer_goes_on(shared: Opened, disk: Path) -> None:
    fh = shared.create(f"{HOT}/a")
    shared.write_at(fh, b"x")
    (disk / "a").unlink()
    assert shared.names(HOT) == []
    with pytest.raises(NotFound):
        shared.find(f"{HOT}/a")
    shared.write_at(fh, b"y", 1)
    assert shared.read_at(fh) == b"xy"
    shared.release(fh)
    shared.settle()
    shared.write(f"{HOT}/a", b"another")
    assert shared.names(HOT) == ["a"]


def test_a_file_that_is_replaced_while_it_is_written_is_another_at_once(shared: Opened, disk: Path) -> None:
    fh = shared.create(f"{HOT}/a")
    shared.write_at(fh, b"x")
    number = shared.find(f"{HOT}/a")
    (disk / "new").write_bytes(b"theirs")
    os.replace(disk / "new", disk / "a")
    assert shared.find(f"{HOT}/a") != number
    assert shared.read(f"{HOT}/a") == b"theirs"
    shared.release(fh)
    shared.settle()
    assert shared.names(HOT) == ["a"]
    assert shared.read(f"{HOT}/a") == b"theirs"


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_got_the_inode_number_of_something_removed_is_another_object(ext4: Opened, what: str) -> None:
    """ext4 gives numbers out again at once; the daemon did not run, so nothing of it was open."""
    disk = ext4.disks["cold"]
    before = ext4.mkdir(f"{COLD}/a") if what == "directory" else ext4.write(f"{COLD}/a", b"ours")
    id, st_ino = ext4.stat(f"{COLD}/a").id, (disk / "a").stat().st_ino
    ext4.crash()
    for _ in range(100):
        if what == "directory":
            (disk / "a").rmdir()
            (disk / "a").mkdir()
        else:
            (disk / "a").unlink()
            (disk / "a").write_bytes(b"them")
        if (disk / "a").stat().st_ino == st_ino:
            break
    assert (disk / "a").stat().st_ino == st_ino
    ext4.open()
    ext4.settle()
    ext4.names(COLD)
    assert ext4.find(f"{COLD}/a") != before
    assert ext4.stat(f"{COLD}/a").id != id


@pytest.fixture
def ext4() -> Iterator[Opened]:
    """The root cold is on an ext4 disk."""
    if not can_loop("ext4"):
        pytest.skip("loop disks need root")
    with by_hand(), two_devices() as (near, _), loop_disk("ext4", 16) as far:
        opened = Opened(near, far, outside=Outside.WRITERS)
        try:
            yield opened
            opened.check()
            opened.close()
        finally:
            opened.remove()


def test_a_hard_link_with_a_name_on_another_root_that_is_rotated_outside_is_not_confused(
    shared: Opened, disk: Path
) -> None:
    """The name on the other root has no disk object: it shares the one here."""
    number = shared.write(f"{HOT}/a", b"old")
    shared.link(f"{HOT}/a", f"{HOT}/b")
    shared.settle()
    shared.rename(f"{HOT}/b", f"{COLD}/b")
    shared.rest()
    (disk / "a").rename(disk / "c")
    (disk / "a").write_bytes(b"new")
    assert shared.names(HOT) == ["a", "c"]
    assert shared.read(f"{HOT}/a") == b"new"
    assert shared.find(f"{HOT}/c") == shared.find(f"{COLD}/b") == number
    assert shared.read(f"{COLD}/b") == b"old"


def test_a_name_on_another_root_is_gone_with_the_only_disk_object(shared: Opened, disk: Path) -> None:
    shared.write(f"{HOT}/a", b"old")
    shared.link(f"{HOT}/a", f"{HOT}/b")
    shared.settle()
    shared.rename(f"{HOT}/b", f"{COLD}/b")
    shared.rest()
    (disk / "a").unlink()
    (disk / "a").write_bytes(b"new")
    with pytest.raises(Gone):  # the kernel looks the name up again
        shared.find(f"{HOT}/a")
    assert shared.names(HOT) == ["a"]
    assert shared.read(f"{HOT}/a") == b"new"
    assert not shared.exists(f"{COLD}/b")


def test_verify_does_not_call_what_others_have_written_or_replaced_trouble(shared: Opened, disk: Path) -> None:
    for name in ("same", "written", "replaced", "removed", "secret", "rotten"):
        shared.write(f"{HOT}/{name}", name.encode())
    shared.settle()
    (disk / "written").write_bytes(b"by others")
    (disk / "new").write_bytes(b"by others")
    (disk / "new").rename(disk / "replaced")
    (disk / "removed").unlink()
    times = (disk / "secret").stat()
    (disk / "secret").write_bytes(b"SECRET")
    os.utime(disk / "secret", ns=(times.st_atime_ns, times.st_mtime_ns))
    result = finish(verifying.verify(shared.store, shared.find(HOT), None, lambda *_: None))
    # Bytes that changed under an unchanged size and time are what a disk does by itself, whoever did it.
    assert ([line["path"] for line in result["bad"]], result["ok"]) == ([f"{HOT}/secret"], 2)


@pytest.mark.parametrize("clean", [True, False])
def test_a_start_looks_at_no_file_and_lists_no_directory(
    shared: Opened, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    """However many there are: what others did meanwhile is found when somebody looks."""
    for number in range(20):
        shared.mkdir(f"{HOT}/{number}")
        shared.write(f"{HOT}/{number}/a", b"x")
    shared.settle()
    if clean:
        shared.close()
    else:
        shared.crash()
    looks: list[str] = []
    for name in ("stat", "backing", "open", "open_dir"):
        method = getattr(LocalRoot, name)

        def look(
            *arguments: object, name: str = name, method: Callable[..., object] = method, **named: object
        ) -> object:
            looks.append(name)
            return method(*arguments, **named)

        monkeypatch.setattr(LocalRoot, name, look)
    shared.open()
    assert looks == []
