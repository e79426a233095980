"""A root that is away: its tree stands, its bytes cannot be had, and nothing is concluded from their absence."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fusestore.errors import NotFound, ReplicaError, RootOffline, RootUnavailable
from fusestore.model import MoveState
from fusestore.service import xattrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"


@pytest.fixture
def away(shared: Opened) -> Iterator[Opened]:
    """The root `cold` holds a tree and cannot be found; it is back when the test is over."""
    shared.mkdir(f"{COLD}/d")
    shared.write(f"{COLD}/d/a", b"on cold")
    shared.write(f"{HOT}/b", b"on hot")
    shared.settle()
    shared.close()
    disk, hidden = shared.disks["cold"], shared.disks["cold"].with_name("hidden")
    disk.rename(hidden)
    shared.open(degraded=True)
    yield shared
    shared.close()
    hidden.rename(disk)
    shared.open()
    assert shared.read(f"{COLD}/d/a") == b"on cold"
    shared.rest()
    shared.assert_at_home()


def test_a_store_is_not_opened_without_a_root_unless_that_is_wanted(shared: Opened) -> None:
    shared.write(f"{COLD}/a", b"x")
    shared.close()
    hidden = shared.disks["cold"].rename(shared.disks["cold"].with_name("hidden"))
    with pytest.raises(RootUnavailable, match="--degraded"):
        shared.open()
    hidden.rename(shared.disks["cold"])
    shared.open()


def test_its_tree_is_listed_with_the_last_attributes(away: Opened) -> None:
    assert away.names(COLD) == ["d"]
    assert away.names(f"{COLD}/d") == ["a"]
    assert away.stat(f"{COLD}/d/a").size == 7


def test_its_bytes_are_an_error_never_an_absence(away: Opened) -> None:
    with pytest.raises(RootOffline):
        away.read(f"{COLD}/d/a")


def test_nothing_on_it_can_be_made_or_removed(away: Opened) -> None:
    with pytest.raises(ReplicaError):
        away.mkdir(f"{COLD}/e")
    with pytest.raises(ReplicaError):
        away.unlink(f"{COLD}/d/a")
    with pytest.raises(ReplicaError):
        away.set(f"{COLD}/d/a", size=0)
    for old, new in ((f"{COLD}/d/a", f"{COLD}/a"), (f"{COLD}/d/a", f"{HOT}/a"), (f"{HOT}/b", f"{COLD}/b")):
        with pytest.raises(RootOffline):
            away.rename(old, new)


def test_a_name_that_is_known_not_to_exist_is_missing_all_the_same(away: Opened) -> None:
    with pytest.raises(NotFound):
        away.stat(f"{COLD}/d/never")


def test_its_attributes_are_not_to_be_had(away: Opened) -> None:
    number = away.find(f"{COLD}/d/a")
    with pytest.raises(RootOffline):
        xattrs.names(away.store, number)
    with pytest.raises(RootOffline):
        xattrs.get(away.store, number, b"user.colour")


def test_a_directory_that_was_never_listed_is_an_error(shared: Opened) -> None:
    (shared.disks["cold"] / "theirs" / "deep").mkdir(parents=True)
    assert shared.names(COLD) == ["theirs"]
    shared.close()
    hidden = shared.disks["cold"].rename(shared.disks["cold"].with_name("hidden"))
    shared.open(degraded=True)
    assert shared.names(COLD) == ["theirs"]
    for look in (lambda: shared.names(f"{COLD}/theirs"), lambda: shared.stat(f"{COLD}/theirs/deep")):
        with pytest.raises(RootOffline):
            look()
    shared.close()
    hidden.rename(shared.disks["cold"])
    shared.open()
    assert shared.names(f"{COLD}/theirs") == ["deep"]


def test_what_was_going_there_waits(shared: Opened) -> None:
    shared.write(f"{HOT}/b", b"on hot")
    shared.settle()
    shared.rename(f"{HOT}/b", f"{COLD}/b")
    shared.close()
    hidden = shared.disks["cold"].rename(shared.disks["cold"].with_name("hidden"))
    shared.open(degraded=True)
    shared.step(40)
    (move,) = shared.store.index.moves(open_only=True)
    assert (move.state, move.reason) == (MoveState.WAITING, "root cold is offline")
    assert shared.read(f"{COLD}/b") == b"on hot"
    shared.close()
    hidden.rename(shared.disks["cold"])
    shared.open()
    shared.rest()
    shared.assert_at_home()


def test_what_was_coming_from_there_waits_and_keeps_its_name(shared: Opened) -> None:
    shared.write(f"{COLD}/a", b"on cold")
    shared.settle()
    shared.rename(f"{COLD}/a", f"{HOT}/a")
    shared.close()
    hidden = shared.disks["cold"].rename(shared.disks["cold"].with_name("hidden"))
    shared.open(degraded=True)
    shared.step(40)
    assert shared.names(HOT) == ["a"]
    with pytest.raises(RootOffline):
        shared.read(f"{HOT}/a")
    shared.close()
    hidden.rename(shared.disks["cold"])
    shared.open()
    shared.rest()
    assert shared.read(f"{HOT}/a") == b"on cold"
    shared.assert_at_home()


def test_a_directory_on_its_way_that_its_disk_has_lost_is_made_again(opened: Opened) -> None:
    """A disk that is pulled out loses what was not synced, whatever was recorded of it."""
    opened.mkdir(f"{HOT}/d")
    opened.mkdir(f"{HOT}/d/s")
    opened.write(f"{HOT}/d/s/a", b"on hot")
    opened.settle()
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    while not (opened.disks["cold"] / "d" / "s").exists():
        opened.step()
    shutil.rmtree(opened.disks["cold"] / "d")
    cold = next(root for root in opened.store.roots.values() if root.name == "cold")
    opened.store.places.forget_root(cold)
    opened.rest()
    opened.assert_at_home()
    assert opened.read(f"{COLD}/d/s/a") == b"on hot"
