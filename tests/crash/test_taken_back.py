"""A power cut takes from a disk what the log has recorded: each disk goes back to a moment of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fusestore.core.intents import Discard
from fusestore.index.witness import DIRECTORY
from fusestore.model import Cause, Outside
from tests.support.byhand import by_hand
from tests.support.opened import Opened, two_devices
from tests.support.proofs import is_kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOT, COLD = "resources/hot", "resources/cold"


@pytest.fixture(scope="module")
def devices() -> Iterator[tuple[Path, Path]]:
    with two_devices() as folders, by_hand():
        yield folders


@pytest.fixture
def running(devices: tuple[Path, Path]) -> Iterator[Opened]:
    opened = Opened(*devices, outside=Outside.NONE)
    try:
        opened.write(f"{HOT}/a", b"original")
        opened.settle()
        yield opened
        opened.rest()
        opened.assert_at_home()
        opened.check()
        opened.close()
    finally:
        opened.remove()


def kept(opened: Opened) -> int:
    return sum(is_kept(intent) for _, intent in opened.store.index.intents())


def hex_of(opened: Opened, path: str) -> str:
    inode = opened.store.index.inode(opened.find(path))
    assert inode is not None
    return inode.id.hex()


def area_of(opened: Opened, root: str, id: str) -> Path:
    """Where an id lies in the id area of a root."""
    (driver,) = (each for each in opened.store.roots.values() if each.name == root)
    return opened.disks[root] / os.fsdecode(driver.id_area_path(bytes.fromhex(id)))


def arrive(opened: Opened) -> None:
    """Bring `a` to cold, up to where only the old bytes are left."""
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    while not any(isinstance(intent, Discard) for _, intent in opened.store.index.intents()):
        opened.step()


def test_old_bytes_stay_until_the_copy_that_a_cut_put_back_is_in_place_again(running: Opened) -> None:
    arrive(running)
    id = hex_of(running, f"{COLD}/a")
    running.crash()
    cold = running.disks["cold"]
    (cold / "a").rename(cold / ".fusestore" / "incoming" / id)
    running.open()
    assert (cold / "a").read_bytes() == running.read(f"{COLD}/a") == b"original"
    assert not (running.disks["hot"] / "a").exists()


def test_old_bytes_are_not_destroyed_when_the_new_ones_are_nowhere(running: Opened) -> None:
    arrive(running)
    running.crash()
    copy = running.disks["cold"] / "a"
    copy.rename(running.disks["cold"] / "hidden")
    running.open()
    assert (running.disks["hot"] / "a").read_bytes() == b"original"
    running.crash()
    (running.disks["cold"] / "hidden").rename(copy)
    running.open()


def test_a_rename_between_roots_of_one_disk_is_done_again(running: Opened) -> None:
    running.rename(f"{HOT}/a", "uploads/a")
    stored = area_of(running, "uploads", hex_of(running, "uploads/a"))
    running.crash()
    stored.rename(running.disks["hot"] / "a")
    running.open()
    assert running.read("uploads/a") == stored.read_bytes() == b"original"


def test_what_was_removed_after_such_a_rename_does_not_come_back(running: Opened) -> None:
    running.rename(f"{HOT}/a", "uploads/a")
    stored = area_of(running, "uploads", hex_of(running, "uploads/a"))
    other = stored.with_name("other")
    os.link(stored, other)
    running.unlink("uploads/a")
    running.crash()
    other.rename(running.disks["hot"] / "a")
    running.open()
    assert not (running.disks["hot"] / "a").exists()


def test_a_directory_is_renamed_again(running: Opened) -> None:
    running.mkdir(f"{HOT}/d")
    running.write(f"{HOT}/d/b", b"inside")
    running.settle()
    running.rename(f"{HOT}/d", f"{HOT}/e")
    running.crash()
    (running.disks["hot"] / "e").rename(running.disks["hot"] / "d")
    running.open()
    assert running.read(f"{HOT}/e/b") == b"inside"


def test_what_came_back_under_a_third_name_does_not_get_its_first_one_back(running: Opened) -> None:
    running.rename(f"{HOT}/a", f"{COLD}/b")
    running.rename(f"{COLD}/b", f"{HOT}/c")
    running.crash()
    (running.disks["hot"] / "c").rename(running.disks["hot"] / "a")
    running.open()
    assert running.read(f"{HOT}/c") == (running.disks["hot"] / "c").read_bytes() == b"original"


def test_an_intent_is_kept_only_until_its_disk_is_durable(running: Opened) -> None:
    running.rename(f"{HOT}/a", "uploads/a")
    assert kept(running) == 1
    running.rest()
    assert kept(running) == 0


def test_a_rename_on_one_disk_is_announced_as_moved_only_when_it_is_durable(running: Opened) -> None:
    running.rename(f"{HOT}/a", "uploads/a")
    assert "moved" not in kinds(running)
    running.rest()
    assert "moved" in kinds(running)


def kinds(opened: Opened) -> list[str]:
    return [event.kind for event in opened.store.index.events(0, 1000)]


@pytest.mark.parametrize("place", ["uploads", HOT])
def test_what_was_replaced_is_destroyed_only_when_no_cut_can_bring_its_name_back(running: Opened, place: str) -> None:
    running.write("uploads/new", b"new")
    if place == "uploads":
        running.rename(f"{HOT}/a", "uploads/a")
    running.settle()
    old = area_of(running, "uploads", hex_of(running, "uploads/a")) if place == "uploads" else None
    running.rename("uploads/new", f"{place}/a")
    if old is not None:
        assert old.read_bytes() == b"original"
    running.settle()
    assert running.read(f"{place}/a") == b"new"
    assert old is None or not old.exists()


# -- replicas ---------------------------------------------------------------------------------------------------------


def replicated(opened: Opened) -> Path:
    """Have `a` replicated on cold, whose disk is not durable yet; returns where the replica lies."""
    opened.replicate(f"{HOT}/a", "cold")
    opened.make_replicas()
    assert kept(opened) > 0
    return area_of(opened, "cold", hex_of(opened, f"{HOT}/a"))


def test_a_replica_that_a_cut_put_back_is_in_place_again(running: Opened) -> None:
    replica = replicated(running)
    running.crash()
    replica.rename(running.disks["cold"] / ".fusestore" / "incoming" / f"{replica.name}.replica")
    running.open()
    assert running.replicas(f"{HOT}/a") == {"cold": "current"}
    assert replica.read_bytes() == b"original"


def test_a_replica_that_a_cut_took_is_known_to_be_gone_and_made_again(running: Opened) -> None:
    replica = replicated(running)
    running.crash()
    replica.unlink()
    running.open()
    assert running.replicas(f"{HOT}/a") == {"cold": "bad"}
    running.rest()
    assert replica.read_bytes() == b"original"


def test_a_replica_that_went_with_the_power_is_blamed_on_nobody(running: Opened) -> None:
    replica = replicated(running)
    running.rest()
    running.crash()
    (DIRECTORY / f"fusestore-{running.store.index.uuid.hex()}").unlink()  # as a power cut does
    replica.unlink()
    running.open()
    running.rest()
    bad = [event.cause for event in running.store.index.events(0, 1000) if event.kind == "replica-bad"]
    assert bad == [Cause.RECOVER]
    assert replica.read_bytes() == b"original"


def test_a_replica_instead_of_which_a_cut_brought_its_predecessor_back_is_made_again(running: Opened) -> None:
    replica = replicated(running)
    running.rest()
    running.write(f"{HOT}/a", b"and changed")
    running.settle()
    old = replica.with_name("old")
    os.link(replica, old)
    running.make_replicas()
    running.crash()
    old.rename(replica)
    running.open()
    assert running.replicas(f"{HOT}/a") == {"cold": "bad"}
    running.rest()
    assert replica.read_bytes() == b"and changed"


def test_a_replica_of_what_was_removed_does_not_come_back(running: Opened) -> None:
    running.write(f"{HOT}/b", b"b")
    running.settle()
    running.replicate(f"{HOT}/b", "cold")
    running.rest()
    replica = area_of(running, "cold", hex_of(running, f"{HOT}/b"))
    other = replica.with_name("other")
    os.link(replica, other)
    running.unlink(f"{HOT}/b")
    running.settle()
    assert not replica.exists()
    running.crash()
    other.rename(replica)
    running.open()
    assert not replica.exists()
