"""Moves: what a rename across roots begins, what may happen to it on the way, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import os
from itertools import pairwise
from typing import TYPE_CHECKING, Never

import pytest

from fusestore.errors import Conflict, NoRoom
from fusestore.model import MoveNo, MoveState
from fusestore.roots import copy
from fusestore.service import absence, discarding, looking, replicating
from tests.support.byhand import finish
from tests.support.opened import Opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusestore.core.ports import Driver
    from fusestore.index.store import Index
    from fusestore.model import Event, Move

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"
ROADS = pytest.mark.parametrize(
    ("old", "new"), [("uploads", HOT), ("uploads", COLD), (HOT, COLD), (COLD, "uploads"), (HOT, WARM), (HOT, "uploads")]
)


def root(opened: Opened, name: str) -> Driver:
    return next(each for each in opened.store.roots.values() if each.name == name)


@contextlib.contextmanager
def failing(disk: Driver | Index, name: str, number: int) -> Iterator[None]:
    """Have one kind of call to a disk fail."""

    def fail(*args: object, **named: object) -> Never:
        raise OSError(number, os.strerror(number))

    whole = getattr(disk, name)
    setattr(disk, name, fail)
    try:
        yield
    finally:
        setattr(disk, name, whole)


def last_move(opened: Opened) -> Move:
    return opened.store.index.moves(open_only=False)[-1]


def plant_tree(opened: Opened, top: str) -> None:
    """A directory with two levels, a hard link across them, and a symlink."""
    opened.mkdir(f"{top}/t")
    opened.mkdir(f"{top}/t/u")
    opened.write(f"{top}/t/a", b"aaa")
    opened.link(f"{top}/t/a", f"{top}/t/u/b")
    opened.symlink(f"{top}/t/u/s", "a")
    opened.write(f"{top}/t/u/c", b"ccc")
    opened.settle()


def arrived(opened: Opened, path: str) -> bool:
    """Step until the bytes of `path` are on the root that its name says."""
    for _ in range(1000):
        if opened.store.placement.is_home(opened.find(path)):
            return True
        opened.step()
    return False


@ROADS
def test_a_tree_goes_home_with_its_links_and_ids(opened: Opened, old: str, new: str) -> None:
    plant_tree(opened, old)
    before = {path[len(old) :]: what for path, what in opened.snapshot().items()}
    opened.rename(f"{old}/t", f"{new}/t")
    assert {path[len(new) :]: what for path, what in opened.snapshot().items()} == before
    opened.rest()
    opened.assert_at_home()
    assert {path[len(new) :]: what for path, what in opened.snapshot().items()} == before
    assert last_move(opened).state is MoveState.DONE


@ROADS
def test_a_tree_is_readable_at_every_step_of_its_way(opened: Opened, old: str, new: str) -> None:
    plant_tree(opened, old)
    opened.rename(f"{old}/t", f"{new}/t")
    want = opened.snapshot()
    while opened.store.index.has_open_moves():
        opened.step()
        assert opened.snapshot() == want
        opened.check()
    opened.assert_at_home()


@ROADS
def test_directories_keep_their_times_at_every_step(opened: Opened, old: str, new: str) -> None:
    """However they are looked at: by a path, or by an inode that is known already."""
    plant_tree(opened, old)
    for path in ("t/u", "t"):
        opened.set(f"{old}/{path}", atime_ns=1_000_000_000, mtime_ns=2_000_000_000)
    opened.rename(f"{old}/t", f"{new}/t")
    for _ in range(500):
        for path in ("t", "t/u"):
            assert opened.stat(f"{new}/{path}").mtime_ns == 2_000_000_000
            parent, name = opened.at(f"{new}/{path}")
            assert looking.lookup(opened.store, parent, name).inode.mtime_ns == 2_000_000_000
        opened.step()
    opened.assert_at_home()


@pytest.mark.parametrize("steps", range(0, 60, 3))
@pytest.mark.parametrize(
    "places", [(HOT, COLD), (HOT, COLD, HOT), (HOT, COLD, WARM, HOT), ("uploads", COLD, HOT, COLD), (HOT, "uploads")]
)
def test_directories_keep_their_times_when_they_are_renamed_on_and_back(
    opened: Opened, places: tuple[str, ...], steps: int
) -> None:
    start = f"{places[0]}/t"
    for path in ("", "/a", "/a/b", "/a/b/empty", "/c", "/d"):
        opened.mkdir(f"{start}{path}")
    for path in ("/f", "/a/b/f", "/c/f", "/c/g", "/d/f"):
        opened.write(f"{start}{path}", b"content")
    opened.settle()
    expected = dict.fromkeys(("/a/b/empty", "/a/b", "/a", "/c", "/d", ""), 2_000_000_000)
    for path, time_ns in expected.items():
        opened.set(f"{start}{path}", atime_ns=1_000_000_000, mtime_ns=time_ns)

    def times(top: str) -> dict[str, int]:
        return {path: opened.stat(f"{top}{path}").mtime_ns for path in expected}

    for old, new in pairwise(places):
        opened.rename(f"{old}/t", f"{new}/t")
        for step in range(steps):
            assert times(f"{new}/t") == expected
            opened.step()
            if step == steps // 2:
                name = new.replace("/", " ")
                opened.write(f"{new}/t/a/{name}", b"new")
                opened.unlink(f"{new}/t/a/{name}")
                opened.rename(f"{new}/t/c/f", f"{new}/t/d/{name}")
                opened.rename(f"{new}/t/d/{name}", f"{new}/t/c/f")
                expected |= {path: opened.stat(f"{new}/t{path}").mtime_ns for path in ("/a", "/c", "/d")}
    opened.rest()
    assert times(f"{places[-1]}/t") == expected
    opened.assert_at_home()


def test_hard_links_are_carried_once(opened: Opened) -> None:
    plant_tree(opened, HOT)
    events: list[Event] = []
    opened.store.index.on_events = events.extend
    opened.rename(f"{HOT}/t", f"{COLD}/t")
    opened.rest()
    assert "move-waiting" not in [event.kind for event in events]
    assert os.stat(opened.disks["cold"] / "t/a").st_nlink == 2


@pytest.mark.parametrize("steps", range(0, 40, 3))
def test_a_move_that_is_turned_back_ends_where_it_began(opened: Opened, steps: int) -> None:
    plant_tree(opened, HOT)
    before = opened.snapshot()
    opened.rename(f"{HOT}/t", f"{COLD}/t")
    opened.step(steps)
    opened.rename(f"{COLD}/t", f"{HOT}/t")
    assert opened.snapshot() == before
    opened.rest()
    opened.assert_at_home()
    assert opened.snapshot() == before


@pytest.mark.parametrize("steps", range(0, 40, 3))
def test_a_directory_taken_out_of_a_tree_on_its_way_comes_home_too(opened: Opened, steps: int) -> None:
    """The tree's own move does not come by any more, and some of it has arrived where it was going before."""
    plant_tree(opened, HOT)
    opened.rename(f"{HOT}/t", f"{COLD}/t")
    opened.step(steps)
    opened.rename(f"{COLD}/t/u", f"{HOT}/u")
    opened.rest()
    opened.assert_at_home()
    assert opened.read(f"{HOT}/u/c") == b"ccc"


def test_a_directory_inside_a_tree_that_comes_back_to_its_root_comes_home(opened: Opened) -> None:
    """Its bytes never left that root; only its place there is not where its name says any more."""
    opened.mkdir(f"{COLD}/k")
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"x")
    opened.rename(f"{HOT}/d", f"{COLD}/k/d")
    opened.rename(f"{COLD}/k", f"{HOT}/k")
    opened.rest()
    opened.assert_at_home()
    assert opened.on_disk("hot") == {"k": "directory", "k/d": "directory", "k/d/a": b"x"}


def test_a_ghost_gets_its_own_name_back(opened: Opened) -> None:
    opened.symlink(f"{COLD}/s", "x")
    opened.rename(f"{COLD}/s", "uploads/s")
    opened.rename("uploads/s", f"{COLD}/s")
    opened.rest()
    opened.assert_at_home()
    assert opened.on_disk("cold") == {"s": "-> x"}


def test_a_ghost_steps_aside_for_a_new_file_of_its_old_name(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"ghost")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.write(f"{HOT}/a", b"new")
    assert (opened.read(f"{HOT}/a"), opened.read(f"{COLD}/a")) == (b"new", b"ghost")
    opened.rest()
    opened.assert_at_home()


@pytest.mark.parametrize("steps", range(12))
def test_the_old_place_of_a_directory_is_free_at_every_step(opened: Opened, steps: int) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    opened.step(steps)
    opened.mkdir(f"{HOT}/d")
    opened.rest()
    opened.assert_at_home()


def test_ghosts_step_aside_when_their_directory_is_removed(opened: Opened) -> None:
    plant_tree(opened, HOT)
    opened.mkdir(f"{COLD}/kept")
    for name in ("a", "u"):
        opened.rename(f"{HOT}/t/{name}", f"{COLD}/kept/{name}")
    opened.rmdir(f"{HOT}/t")
    assert opened.read(f"{COLD}/kept/u/c") == b"ccc"
    opened.rest()
    opened.assert_at_home()


def test_a_ghost_replaces_the_directory_it_lies_in(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.mkdir(f"{HOT}/d/e")
    opened.write(f"{HOT}/d/e/a", b"x")
    opened.rename(f"{HOT}/d/e", f"{COLD}/e")
    opened.rename(f"{COLD}/e", f"{HOT}/d")
    assert opened.read(f"{HOT}/d/a") == b"x"
    opened.rest()
    opened.assert_at_home()


def test_a_directory_on_its_way_can_be_replaced(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    opened.write(f"{COLD}/d/a", b"x")  # makes it a place on cold, beside the one on hot
    opened.unlink(f"{COLD}/d/a")
    opened.mkdir(f"{COLD}/e")
    opened.rename(f"{COLD}/e", f"{COLD}/d")
    opened.rest()
    opened.assert_at_home()


def test_directories_on_their_way_can_be_created_in_and_removed_from(opened: Opened) -> None:
    plant_tree(opened, HOT)
    opened.rename(f"{HOT}/t", f"{COLD}/t")
    opened.write(f"{COLD}/t/u/new", b"new")
    assert opened.root_of(f"{COLD}/t/u/new") == "cold"
    opened.unlink(f"{COLD}/t/u/c")
    opened.write(f"{COLD}/t/u/c", b"again")
    opened.rename(f"{COLD}/t/u/new", f"{COLD}/t/a")
    opened.rest()
    opened.assert_at_home()
    assert (opened.read(f"{COLD}/t/a"), opened.read(f"{COLD}/t/u/b")) == (b"new", b"aaa")


@pytest.mark.parametrize("steps", range(0, 60, 4))
def test_a_tree_on_its_way_can_be_removed(opened: Opened, steps: int) -> None:
    plant_tree(opened, HOT)
    opened.rename(f"{HOT}/t", f"{COLD}/t")
    opened.step(steps)
    for name in ("u/b", "u/s", "u/c", "a"):
        opened.unlink(f"{COLD}/t/{name}")
    opened.rmdir(f"{COLD}/t/u")
    opened.rmdir(f"{COLD}/t")
    opened.rest()
    opened.assert_at_home()
    assert opened.on_disk("hot") == opened.on_disk("cold") == {}


def test_a_chain_of_renames_leads_to_the_last(opened: Opened) -> None:
    plant_tree(opened, "uploads")
    places = ["uploads", HOT, COLD, WARM, "uploads", COLD]
    for old, new in pairwise(places):
        opened.rename(f"{old}/t", f"{new}/t")
        opened.step(7)
    opened.rest()
    opened.assert_at_home()
    assert opened.read(f"{COLD}/t/u/b") == b"aaa"
    states = [move.state for move in opened.store.index.moves(open_only=False)]
    assert states[-1] is MoveState.DONE
    assert set(states[:-1]) <= {MoveState.DONE, MoveState.SUPERSEDED}


# -- hard links over two roots ----------------------------------------------------------------------------------------


def test_bytes_stay_as_long_as_a_name_is_left_there_and_follow_the_last(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.link(f"{HOT}/a", f"{HOT}/b")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.rest()
    assert opened.root_of(f"{COLD}/a") == "hot"
    assert opened.on_disk("cold") == {}
    opened.assert_at_home()
    opened.unlink(f"{HOT}/b")
    opened.rest()
    opened.assert_at_home()
    assert opened.on_disk("cold") == {"a": b"x"}


def test_a_file_that_is_replaced_under_its_last_name_at_home_keeps_its_bytes_for_its_guest(opened: Opened) -> None:
    opened.write(f"{HOT}/x", b"the only copy")
    opened.link(f"{HOT}/x", f"{HOT}/y")
    opened.rename(f"{HOT}/y", f"{COLD}/y")
    opened.rest()
    opened.write(f"{HOT}/new", b"new")
    opened.rename(f"{HOT}/new", f"{HOT}/x")
    assert opened.read(f"{COLD}/y") == b"the only copy"
    opened.rest()
    opened.assert_at_home()
    assert opened.read(f"{COLD}/y") == b"the only copy"
    assert opened.read(f"{HOT}/x") == b"new"


def test_a_file_whose_two_names_left_for_two_roots_counts_both(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.link(f"{HOT}/a", f"{HOT}/b")
    opened.rename(f"{HOT}/a", f"{WARM}/a")
    opened.rename(f"{HOT}/b", f"{COLD}/b")
    opened.rest()
    assert opened.stat(f"{WARM}/a").nlink == opened.stat(f"{COLD}/b").nlink == 2
    opened.assert_at_home()


def test_links_are_counted_over_all_roots(opened: Opened) -> None:
    opened.write(f"{COLD}/a", b"x")
    opened.link(f"{COLD}/a", f"{COLD}/b")
    opened.rename(f"{COLD}/a", f"{HOT}/a")
    opened.rest()
    opened.link(f"{COLD}/b", f"{COLD}/c")
    assert opened.stat(f"{COLD}/b").nlink == 3
    opened.unlink(f"{HOT}/a")
    assert opened.stat(f"{COLD}/b").nlink == 2
    opened.rest()
    opened.assert_at_home()


@pytest.mark.parametrize("steps", range(12))
def test_a_link_that_is_too_many_is_never_counted(shared: Opened, steps: int) -> None:
    shared.write(f"{HOT}/a", b"x")
    shared.link(f"{HOT}/a", f"{HOT}/b")
    shared.settle()
    events: list[Event] = []
    shared.store.index.on_events = events.extend
    shared.rename(f"{HOT}/b", f"{COLD}/b")
    shared.unlink(f"{COLD}/b")
    shared.step(steps)
    assert shared.stat(f"{HOT}/a").nlink == 1
    shared.rest()
    assert shared.stat(f"{HOT}/a").nlink == 1
    assert [event.kind for event in events if event.cause == "outside"] == []


def test_a_directory_is_home_when_what_is_left_out_of_it_is_a_guest(opened: Opened) -> None:
    opened.mkdir("uploads/d")
    opened.write("uploads/d/a", b"x")
    opened.link("uploads/d/a", "uploads/b")
    opened.rename("uploads/d", f"{HOT}/d")
    opened.rest()
    opened.assert_at_home()
    assert opened.read(f"{HOT}/d/a") == b"x"
    opened.unlink("uploads/b")
    opened.rest()
    assert opened.on_disk("hot") == {"d": "directory", "d/a": b"x"}


def test_a_tree_renamed_on_one_disk_leaves_no_link_to_names_on_the_old_root(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"x")
    opened.link(f"{HOT}/d/a", f"{HOT}/b")
    opened.rename(f"{HOT}/d", f"{WARM}/d")
    opened.rest()
    opened.assert_at_home()
    assert opened.on_disk("warm") == {"d": "directory"}


# -- what holds a move up ---------------------------------------------------------------------------------------------


def test_an_open_reader_reads_on_while_the_bytes_change_their_root(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    fh = opened.open_file(f"{HOT}/a")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    while opened.store.index.has_open_moves():
        opened.step()
        assert opened.read_at(fh) == b"content"
    assert opened.root_of(f"{COLD}/a") == "cold"
    writer = opened.open_file(f"{COLD}/a", write=True)
    opened.write_at(writer, b"CON")
    assert opened.read_at(fh) == b"CONtent"
    assert (opened.disks["cold"] / "a").read_bytes() == b"CONtent"


def test_an_open_writer_goes_on_on_the_root_where_its_file_has_gone(opened: Opened) -> None:
    fh = opened.create(f"{HOT}/a")
    opened.write_at(fh, b"one")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    while opened.store.index.has_open_moves():
        opened.step()
    assert opened.root_of(f"{COLD}/a") == "cold"
    opened.write_at(fh, b" two", 3)
    opened.release(fh)
    opened.rest()
    assert (opened.disks["cold"] / "a").read_bytes() == b"one two"
    opened.assert_at_home()


def test_a_file_written_while_it_is_copied_is_copied_again(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"one")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    for round in range(30):
        opened.step()
        if opened.root_of(f"{COLD}/a") == "hot":
            opened.write(f"{COLD}/a", b"%d" % round)
    last = opened.read(f"{COLD}/a")
    opened.rest()
    assert opened.read(f"{COLD}/a") == last
    opened.assert_at_home()


def test_a_file_that_cannot_fit_is_refused_at_once(opened: Opened) -> None:
    opened.write(f"{HOT}/huge", bytes(100_000))
    driver = opened.store.roots[opened.store.tops[opened.find(COLD)]]
    driver_space = driver.space()
    driver.space = lambda: driver_space._replace(available=99_999)  # type: ignore[method-assign]
    with pytest.raises(NoRoom):
        opened.rename(f"{HOT}/huge", f"{COLD}/huge")
    assert opened.names(COLD) == []
    opened.unlink(f"{HOT}/huge")


def test_a_stranger_at_the_target_is_never_overwritten(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"mine")
    opened.names(COLD)
    (opened.disks["cold"] / "a").write_bytes(b"theirs")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.step(60)
    move = last_move(opened)
    assert move.state is MoveState.WAITING
    assert move.reason.startswith(str(Conflict()))
    assert opened.read(f"{COLD}/a") == b"mine"
    assert (opened.disks["cold"] / "a").read_bytes() == b"theirs"
    (opened.disks["cold"] / "a").unlink()
    opened.rest()
    opened.assert_at_home()


def test_for_a_place_that_a_stranger_has_nothing_is_copied(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.write(f"{HOT}/a", b"mine")
    opened.settle()
    opened.names(COLD)
    (opened.disks["cold"] / "a").write_bytes(b"theirs")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    with monkeypatch.context() as patched:
        patched.setattr(copy, "copy_file", lambda *_, **__: pytest.fail("a copy that nobody can use"))
        opened.step(60)
    assert last_move(opened).reason.startswith(str(Conflict()))
    (opened.disks["cold"] / "a").unlink()
    opened.rest()
    opened.assert_at_home()


def test_a_place_is_free_as_soon_as_its_bytes_have_arrived_elsewhere(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"x")
    opened.rename(f"{HOT}/d/a", f"{COLD}/a")
    assert arrived(opened, f"{COLD}/a")
    assert (opened.disks["hot"] / "d/a").exists()  # until the switch is durable
    opened.rmdir(f"{HOT}/d")
    opened.write(f"{HOT}/d", b"a file now")
    opened.rest()
    opened.assert_at_home()
    assert opened.read(f"{HOT}/d") == b"a file now"


@pytest.mark.parametrize("end", [Opened.close, Opened.crash])
@pytest.mark.parametrize("steps", range(1, 30, 2))
def test_no_copy_is_left_over_from_a_move_that_was_broken_off(
    opened: Opened, steps: int, end: Callable[[Opened], None]
) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.step(steps)
    end(opened)
    opened.open()
    opened.rename(f"{COLD}/a", f"{HOT}/a")
    opened.rest()
    opened.assert_at_home()


@pytest.mark.parametrize("steps", range(1, 30, 2))
def test_an_end_in_order_leaves_no_staged_copy(opened: Opened, steps: int) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.symlink("uploads/s", "target")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.rename("uploads/s", f"{COLD}/s")
    opened.step(steps)
    opened.close()
    staged = list((opened.disks["cold"] / ".fusestore").rglob("incoming/*"))
    opened.open()
    assert staged == []


@pytest.mark.parametrize(
    ("name", "trouble"), [("sync", errno.EIO), ("utime", errno.EIO), ("rename", errno.ENOSPC), ("setxattr", errno.EIO)]
)
def test_trouble_on_the_target_leaves_no_staged_copy_and_passes(opened: Opened, name: str, trouble: int) -> None:
    """Of a file, and of a symlink that is made from the index."""
    opened.write(f"{HOT}/a", b"x")
    opened.symlink("uploads/s", "target")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.rename("uploads/s", f"{COLD}/s")
    with failing(root(opened, "cold"), name, trouble):
        opened.step(20)
        for job in opened.jobs.values():
            job.finish()
        opened.jobs.clear()
    assert {path for path in opened.on_disk("cold") if path.startswith(".fusestore")} == set()
    opened.rest()
    opened.assert_at_home()


def test_bytes_whose_successor_could_not_be_made_durable_are_kept_until_it_can(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    assert arrived(opened, f"{COLD}/a")
    with failing(opened.store.index, "sync_log", errno.EIO):
        opened.step(10)
    opened.rest()
    assert opened.on_disk("hot") == {"a": b"x"}
    finish(discarding.carry_out_left(opened.store, opened.store.condemned.keys()))
    opened.assert_at_home()


def test_a_reader_whose_copy_cannot_be_opened_keeps_the_old_bytes(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    opened.settle()
    fh = opened.open_file(f"{HOT}/a")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    with failing(root(opened, "cold"), "open", errno.EMFILE):
        opened.step(20)
        assert opened.read_at(fh) == b"content"
        assert opened.root_of(f"{COLD}/a") == "hot"
        assert "a" not in opened.on_disk("cold")
    opened.rest()
    assert opened.read_at(fh) == b"content"
    opened.assert_at_home()


def test_a_surplus_link_that_somebody_else_removed_holds_nothing_up(shared: Opened) -> None:
    shared.write(f"{HOT}/a", b"x")
    shared.link(f"{HOT}/a", f"{HOT}/b")
    shared.settle()
    shared.rename(f"{HOT}/b", f"{COLD}/b")
    shared.unlink(f"{COLD}/b")
    (shared.disks["hot"] / "b").unlink()
    shared.rest()
    shared.assert_at_home()
    assert shared.read(f"{HOT}/a") == b"x"


def test_a_file_that_two_moves_want_arrives_once(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"x" * 1000)
    opened.rename(f"{HOT}/d/a", f"{COLD}/a")
    opened.mkdir(f"{COLD}/d")
    opened.rename(f"{COLD}/a", f"{COLD}/d/a")
    opened.rename(f"{COLD}/d", f"{WARM}/d")  # the file's own move, and that of the directory
    opened.rest()
    opened.assert_at_home()
    assert opened.read(f"{WARM}/d/a") == b"x" * 1000


def test_moves_are_listed_in_pages_newest_first(opened: Opened) -> None:
    for name in "abcde":
        opened.write(f"{HOT}/{name}", b"x")
    opened.settle()
    for name in "abcde":
        opened.rename(f"{HOT}/{name}", f"{COLD}/{name}")
        if name == "b":
            opened.rest()
    index = opened.store.index

    def numbers(before: int | None, limit: int, *, open_only: bool) -> list[int]:
        number = None if before is None else MoveNo(before)
        return [move.number for move in index.moves_before(number, limit, open_only=open_only)]

    assert numbers(None, 2, open_only=False) == [5, 4]
    assert numbers(4, 10, open_only=False) == [3, 2, 1]
    assert numbers(9, 1, open_only=False) == [5]
    assert numbers(None, 2, open_only=True) == [5, 4]
    assert numbers(4, 2, open_only=True) == [3]
    assert numbers(1, 2, open_only=False) == numbers(3, 2, open_only=True) == []
    opened.rest()


@pytest.mark.parametrize("to", [COLD, "uploads"])
def test_a_directory_made_where_another_had_left_is_not_taken_for_it_after_a_crash(opened: Opened, to: str) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.rename(f"{HOT}/d", f"{to}/d")
    opened.rest()
    opened.mkdir(f"{HOT}/d")
    opened.crash()
    opened.open()
    assert (opened.disks["hot"] / "d").is_dir()
    opened.rest()
    opened.assert_at_home()


def test_bytes_that_follow_leave_both_directories_the_times_of_the_rename(opened: Opened) -> None:
    for directory in (f"{HOT}/d", f"{COLD}/d"):
        opened.mkdir(directory)
    opened.write(f"{HOT}/d/a", b"a")
    opened.settle()
    opened.rename(f"{HOT}/d/a", f"{COLD}/d/a")
    times = [opened.stat(directory).mtime_ns for directory in (f"{HOT}/d", f"{COLD}/d")]
    opened.rest()
    opened.assert_at_home()
    assert [opened.stat(directory).mtime_ns for directory in (f"{HOT}/d", f"{COLD}/d")] == times


@pytest.mark.parametrize("whole", [True, False], ids=["with its directory", "alone"])
def test_an_open_file_is_on_the_root_that_it_was_renamed_to(opened: Opened, whole: bool) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"content")
    opened.settle()
    fh = opened.open_file(f"{HOT}/d/a")
    opened.rename(*((f"{HOT}/d", f"{WARM}/d") if whole else (f"{HOT}/d/a", f"{WARM}/a")))
    opened.rest()
    hot = replicating.named(opened.store, "hot")
    absence.leave(opened.store, hot, "pulled out")
    absence.let_go(opened.store, hot)
    assert opened.read_at(fh) == b"content"
    opened.release(fh)
    finish(absence.come_back(opened.store, hot))
