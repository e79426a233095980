"""A root that misses most of its files at once is doubted: nothing is concluded until an operator says what is true."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fusestore.errors import InvalidRequest, NotFound, RootOffline
from fusestore.service import absence, doubting, refreshing, surveying
from tests.support.byhand import Job, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from fusestore.core.ports import Driver
    from tests.support.opened import Opened

    Answer = Callable[[Any, str, Any], Coroutine[Any, None, dict[str, Any]]]

HOT, COLD = "resources/hot", "resources/cold"


def report(done: int, total: int, unit: str) -> None:
    assert 0 <= done <= total
    assert unit == "objects"


@pytest.fixture
def full(shared: Opened) -> Opened:
    """The root `hot` holds directories `0` to `3` with 9 files each."""
    for directory in range(4):
        shared.mkdir(f"{HOT}/{directory}")
        for number in range(9):
            shared.write(f"{HOT}/{directory}/{number}", b"%d" % number)
    shared.settle()
    shared.names(HOT)
    return shared


def hot(opened: Opened) -> Driver:
    return next(root for root in opened.store.roots.values() if root.name == "hot")


def is_doubted(opened: Opened) -> bool:
    known = opened.store.absent.get(hot(opened).number)
    return known is not None and known.is_doubted


def empty(disk: Path) -> None:
    for each in disk.iterdir():
        if each.name != ".fusestore":
            shutil.rmtree(each)


def listed(opened: Opened) -> list[str]:
    return [*opened.names(HOT), *opened.names(f"{HOT}/1")]


ALL = [*map(str, range(4)), *map(str, range(9))]


def by_listing(opened: Opened) -> None:
    assert opened.names(HOT) == ALL[:4]


def by_name(opened: Opened) -> None:
    assert opened.exists(f"{HOT}/0")


def by_number(opened: Opened) -> None:
    opened.stat(HOT)
    opened.exists(f"{HOT}/3/4")


@pytest.mark.parametrize("look", [by_listing, by_name, by_number])
def test_a_root_that_is_empty_at_once_is_stopped_before_anything_is_concluded(
    full: Opened, look: Callable[[Opened], None]
) -> None:
    kept = full.disks["hot"].with_name("kept")
    shutil.copytree(full.disks["hot"], kept)
    empty(full.disks["hot"])
    look(full)
    assert is_doubted(full)
    assert listed(full) == ALL
    with pytest.raises(RootOffline):
        full.read(f"{HOT}/0/0")
    with pytest.raises(RootOffline):
        full.mkdir(f"{HOT}/new")
    (event,) = [event for event in full.store.index.events(0, 10_000) if event.kind == "root-doubted"]
    assert (event.root, event.detail) == ("hot", full.store.absent[hot(full).number].reason)
    assert "40 objects are missing, resources/hot/" in event.detail
    assert event.detail.endswith("and 0 are there")

    full.close()
    full.open()
    assert is_doubted(full)
    assert not hot(full).is_open
    assert listed(full) == ALL

    answer = finish(surveying.retry(full.store, "hot", report))
    assert answer == {"there": 0, "missing": 40, "online": False}
    assert is_doubted(full)
    for each in kept.iterdir():
        if each.name != ".fusestore":
            shutil.copytree(each, full.disks["hot"] / each.name)
    shutil.rmtree(kept)
    answer = finish(surveying.retry(full.store, "hot", report))
    assert answer == {"there": 40, "missing": 0, "online": True}
    assert listed(full) == ALL
    assert full.read(f"{HOT}/0/0") == b"0"


def test_what_an_operator_accepts_is_gone(full: Opened) -> None:
    empty(full.disks["hot"])
    by_listing(full)
    (full.disks["hot"] / "new").mkdir()
    assert finish(surveying.accept(full.store, "hot", report))["online"]
    assert not full.store.absent
    assert full.names(HOT) == ["new"]
    full.close()
    full.open()
    assert full.names(HOT) == ["new"]
    with pytest.raises(InvalidRequest):
        finish(surveying.accept(full.store, "hot", report))
    with pytest.raises(NotFound):
        finish(surveying.retry(full.store, "hit", report))


def test_a_root_that_cannot_be_reached_stays_doubted(full: Opened) -> None:
    empty(full.disks["hot"])
    by_listing(full)
    absence.let_go(full.store, hot(full))
    hidden = full.disks["hot"].rename(full.disks["hot"].with_name("hidden"))
    with pytest.raises(RootOffline):
        finish(surveying.accept(full.store, "hot", report))
    hidden.rename(full.disks["hot"])
    assert is_doubted(full)
    finish(surveying.accept(full.store, "hot", report))


def test_half_of_a_root_may_go(full: Opened) -> None:
    for name in ("0", "1"):
        shutil.rmtree(full.disks["hot"] / name)
    assert full.names(HOT) == ["2", "3"]
    assert not is_doubted(full)


def test_what_goes_bit_by_bit_within_a_minute_is_added_up(full: Opened) -> None:
    shutil.rmtree(full.disks["hot"] / "0")
    assert full.names(HOT) == ["1", "2", "3"]
    shutil.rmtree(full.disks["hot"] / "1")
    assert full.names(HOT) == ["2", "3"]
    shutil.rmtree(full.disks["hot"] / "2")
    assert full.names(HOT) == ["2", "3"]
    assert is_doubted(full)
    finish(surveying.accept(full.store, "hot", report))
    assert full.names(HOT) == ["3"]


def come_and_go(opened: Opened, rounds: int = 1, files: int = 20) -> None:
    """What another program does that has work of its own on the disk, while somebody looks."""
    work = opened.disks["hot"] / "work"
    for _ in range(rounds):
        work.mkdir()
        for number in range(files):
            (work / f"{number}").touch()
        assert "work" in opened.names(HOT)
        assert len(opened.names(f"{HOT}/work")) == files
        shutil.rmtree(work)
        assert "work" not in opened.names(HOT)


def test_what_comes_and_goes_is_not_added_up(full: Opened) -> None:
    come_and_go(full, rounds=10)
    assert not is_doubted(full)
    assert listed(full) == ALL


def test_what_comes_through_the_mount_and_is_taken_away_outside_is_not_added_up(full: Opened) -> None:
    full.mkdir(f"{HOT}/work")
    for _ in range(10):
        for number in range(20):
            full.write(f"{HOT}/work/{number}", b"x")
        full.settle()
        for each in (full.disks["hot"] / "work").iterdir():
            each.unlink()
        assert full.names(f"{HOT}/work") == []
    assert not is_doubted(full)


@pytest.mark.parametrize("look", [by_listing, by_name, by_number])
def test_a_root_that_is_empty_at_once_is_stopped_while_much_comes_and_goes(
    full: Opened, look: Callable[[Opened], None]
) -> None:
    come_and_go(full, rounds=3)
    come_and_go(full, files=100)
    empty(full.disks["hot"])
    look(full)
    assert is_doubted(full)
    assert listed(full) == ALL


def test_what_others_brought_before_and_is_seen_now_was_there(full: Opened) -> None:
    theirs = full.disks["hot"] / "theirs"
    theirs.mkdir()
    for number in range(100):
        (theirs / f"{number}").touch()
    come_and_go(full)
    assert len(full.names(f"{HOT}/theirs")) == 100
    shutil.rmtree(theirs)
    assert "theirs" in full.names(HOT)
    assert is_doubted(full)


@pytest.mark.parametrize("answer", [surveying.accept, surveying.retry])
def test_what_was_missing_before_an_operator_answers_counts_no_more(full: Opened, answer: Answer) -> None:
    for name in ("0", "1"):
        shutil.rmtree(full.disks["hot"] / name)
        full.names(HOT)
    hidden = full.disks["hot"].with_name("hidden")
    (full.disks["hot"] / "2").rename(hidden)
    full.names(HOT)
    assert is_doubted(full)
    hidden.rename(full.disks["hot"] / "2")
    absence.let_go(full.store, hot(full))
    assert finish(answer(full.store, "hot", report))["online"]
    (full.disks["hot"] / "2" / "8").unlink()
    assert full.names(f"{HOT}/2") == ALL[4:-1]
    come_and_go(full, files=8)
    assert not is_doubted(full)
    assert full.names(HOT) == ["2", "3"]


def test_what_is_missing_after_an_operator_has_accepted_is_asked_about_again(full: Opened) -> None:
    for name in ("0", "1", "2"):
        shutil.rmtree(full.disks["hot"] / name)
        full.names(HOT)
    assert finish(surveying.accept(full.store, "hot", report))["online"]
    (full.disks["hot"] / "new").mkdir()
    for number in range(10):
        (full.disks["hot"] / "new" / f"{number}").touch()
    assert len(full.names(f"{HOT}/new")) == 10
    empty(full.disks["hot"])
    assert full.names(HOT) == ["3", "new"]
    assert is_doubted(full)


def test_what_goes_bit_by_bit_over_minutes_is_believed(full: Opened) -> None:
    for name in ("0", "1", "2"):
        shutil.rmtree(full.disks["hot"] / name)
        for window in full.store.losses.values():
            window.began -= doubting.WINDOW_S
        full.names(HOT)
    assert full.names(HOT) == ["3"]


def test_files_that_are_looked_for_one_by_one_are_added_up(full: Opened) -> None:
    for directory in range(4):
        for number in range(9):
            (full.disks["hot"] / f"{directory}" / f"{number}").unlink()
    gone = sum(not full.exists(f"{HOT}/{directory}/{number}") for directory in range(4) for number in range(9))
    assert is_doubted(full)
    assert gone <= 20
    finish(surveying.accept(full.store, "hot", report))
    assert full.names(f"{HOT}/3") == []


@pytest.mark.parametrize("steps", range(1, 6))
def test_what_a_listing_and_others_miss_at_the_same_time_counts_once(
    full: Opened, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(refreshing, "CHUNK", 10)
    full.mkdir(f"{HOT}/x")
    for number in range(30):
        full.write(f"{HOT}/x/{number}", b"x")
    full.settle()
    full.names(f"{HOT}/x")
    directory = full.find(f"{HOT}/x")
    for each in (full.disks["hot"] / "x").iterdir():
        each.unlink()
    listing = Job(refreshing.refresh(full.store, directory))
    for _ in range(steps):
        listing.step()
    for number in range(30):
        assert not full.exists(f"{HOT}/x/{number}")
    listing.finish()
    assert not is_doubted(full)
    assert full.names(f"{HOT}/x") == []


def test_what_was_only_put_into_a_new_directory_is_not_missing(full: Opened) -> None:
    disk = full.disks["hot"]
    numbers = [full.find(f"{HOT}/{name}/1") for name in range(4)]
    (disk / "all").mkdir()
    for name in range(4):
        (disk / f"{name}").rename(disk / "all" / f"{name}")
    assert full.names(HOT) == ["all"]
    assert not is_doubted(full)
    assert [full.find(f"{HOT}/all/{name}/1") for name in range(4)] == numbers


def test_removing_all_through_the_mount_is_not_doubted(full: Opened) -> None:
    for directory in range(4):
        for name in full.names(f"{HOT}/{directory}"):
            full.unlink(f"{HOT}/{directory}/{name}")
        full.rmdir(f"{HOT}/{directory}")
    assert full.names(HOT) == []
    assert not is_doubted(full)


def test_a_small_root_is_believed(shared: Opened) -> None:
    for number in range(doubting.SMALL - 1):
        shared.write(f"{HOT}/{number}", b"x")
    shared.settle()
    for each in shared.disks["hot"].glob("[0-9]*"):
        each.unlink()
    assert shared.names(HOT) == []


def test_a_disk_that_comes_back_empty_is_doubted_before_anybody_looks(full: Opened) -> None:
    absence.leave(full.store, hot(full), "pulled out")
    empty(full.disks["hot"])
    finish(absence.come_back(full.store, hot(full)))
    assert is_doubted(full)
    assert listed(full) == ALL
    finish(surveying.accept(full.store, "hot", report))
    assert full.names(HOT) == []
