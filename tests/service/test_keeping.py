"""What is done while nobody asks: leftovers are destroyed, roots that go and come back are noticed."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from msgspec import structs

from fusestore.core.intents import Discard
from fusestore.errors import RootOffline
from fusestore.jobs import keeper
from fusestore.service import discarding
from tests.support.byhand import finish, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.core.ports import Driver
    from fusestore.service.store import Store
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"
A_WHILE_S = 3 * keeper.LEFT_S


def root(opened: Opened, name: str) -> Driver:
    return next(root for root in opened.store.roots.values() if root.name == name)


def refuse_unlink(opened: Opened, name: str) -> Callable[[], None]:
    """Let a root's disk refuse every removal; returns what ends that."""
    driver = root(opened, name)

    def refused(directory: int, name: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    driver.unlink = refused  # type: ignore[method-assign]

    def end() -> None:
        del driver.unlink

    return end


def discards(opened: Opened) -> list[Discard]:
    return [intent for _, intent in opened.store.index.intents() if isinstance(intent, Discard) and not intent.done]


def replace(opened: Opened) -> None:
    """Leave bytes that no name needs in the id area of `uploads`."""
    opened.write("uploads/a", b"new")
    opened.write("uploads/b", b"old")
    opened.rename("uploads/a", "uploads/b")


def test_what_a_disk_refused_to_destroy_is_destroyed_once_it_does(running: Opened) -> None:
    let = refuse_unlink(running, "uploads")
    replace(running)
    run(partial(trio.sleep, A_WHILE_S), partial(keeper.destroy_left, running.store))
    assert len(discards(running)) == 1
    let()
    run(partial(trio.sleep, A_WHILE_S), partial(keeper.destroy_left, running.store))
    assert discards(running) == []
    assert len(running.on_disk("uploads")) == 1


def test_what_could_not_be_destroyed_on_a_root_that_was_away_is_destroyed_when_it_is_back(running: Opened) -> None:
    let = refuse_unlink(running, "uploads")
    replace(running)
    let()

    async def away_and_back() -> None:
        root(running, "uploads").online = False
        await trio.sleep(A_WHILE_S)
        assert len(discards(running)) == 1
        root(running, "uploads").online = True
        await trio.sleep(2 * keeper.SWEEP_S)
        assert discards(running) == []

    run(away_and_back, partial(keeper.destroy_left, running.store))


def arrived(opened: Opened) -> None:
    """Move a file from hot to cold, up to where only its old bytes are left to be destroyed."""
    opened.write(f"{HOT}/a", b"moved")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    while not discards(opened):
        opened.step()


def count_syncs(opened: Opened) -> list[str]:
    synced: list[str] = []
    for driver in opened.store.roots.values():
        sync = driver.sync

        def counted(name: str = driver.name, sync: Callable[[], None] = sync) -> None:
            synced.append(name)
            sync()

        driver.sync = counted  # type: ignore[method-assign]
    return synced


def test_old_bytes_are_destroyed_only_when_the_new_ones_are_durable(opened: Opened) -> None:
    arrived(opened)
    cold = root(opened, "cold")
    cold.online = False
    finish(discarding.carry_out_left(opened.store, opened.store.condemned.keys()))
    assert len(discards(opened)) == 1
    with pytest.raises(RootOffline):
        opened.create(f"{HOT}/a")
    assert opened.on_disk("hot") == {"a": b"moved"}
    cold.online = True
    synced = count_syncs(opened)
    finish(discarding.carry_out_left(opened.store, opened.store.condemned.keys()))
    assert (synced, discards(opened), opened.on_disk("hot")) == (["cold"], [], {})
    opened.rest()
    opened.assert_at_home()


def test_only_the_root_that_took_the_bytes_is_synced_for_whoever_needs_their_place(opened: Opened) -> None:
    arrived(opened)
    synced = count_syncs(opened)
    opened.mkdir(f"{HOT}/a")
    assert synced == ["cold"]
    opened.rest()
    opened.assert_at_home()


def test_a_place_that_cannot_be_cleared_is_not_given_away(opened: Opened) -> None:
    arrived(opened)
    let = refuse_unlink(opened, "hot")
    with pytest.raises(OSError, match="error"):
        opened.create(f"{HOT}/a")
    let()
    opened.release(opened.create(f"{HOT}/a"))
    opened.rest()
    opened.assert_at_home()


def test_a_strangers_file_with_the_number_of_a_condemned_one_stays(opened: Opened) -> None:
    """File systems give a freed inode number out again; the birth time tells the two apart."""
    arrived(opened)
    disk = opened.disks["hot"] / "a"
    disk.unlink()
    disk.write_bytes(b"theirs")
    hot = root(opened, "hot")
    backing = discards(opened)[0].backing
    assert backing is not None
    reborn = structs.replace(backing, btime_ns=backing.btime_ns + 1)
    hot.backing = lambda directory, name: reborn  # type: ignore[method-assign]
    finish(discarding.carry_out_left(opened.store, opened.store.condemned.keys()))
    del hot.backing
    assert disk.read_bytes() == b"theirs"
    disk.unlink()
    opened.rest()


def test_after_a_crash_old_bytes_go_only_when_the_new_ones_are_durable(opened: Opened) -> None:
    arrived(opened)
    opened.crash()
    done: list[str] = []

    def note(store: Store) -> None:
        for driver in store.roots.values():
            for step in ("sync", "unlink"):
                setattr(driver, step, noted(f"{step} {driver.name}", getattr(driver, step)))

    def noted(what: str, step: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            done.append(what)
            step(*args)

        return call

    opened.open(wrap=note)
    assert done == ["sync cold", "unlink hot"]
    opened.rest()
    opened.assert_at_home()


def test_a_root_that_goes_and_comes_back_is_noticed(running: Opened) -> None:
    disk, hidden = running.disks["hot"], running.disks["hot"].with_name("hidden")
    hot = root(running, "hot")

    async def away_and_back() -> None:
        disk.rename(hidden)
        try:
            await trio.sleep(2 * keeper.PROBE_S)
            assert not hot.online
        finally:
            hidden.rename(disk)
        await trio.sleep(2 * keeper.PROBE_S)
        assert hot.online

    run(away_and_back, partial(keeper.watch_roots, running.store))
    events = [event.kind for event in running.store.index.events(0, 100) if event.root == "hot"]
    assert events == ["root-offline", "root-online"]
