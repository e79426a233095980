"""A change that the index refuses leaves no trace in memory either: what is kept beside the index follows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fusestore.core.intents import Discard
from fusestore.errors import FusestoreError, IndexFull, NotFound
from fusestore.model import Outside
from tests.support.byhand import by_hand
from tests.support.opened import Opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusestore.service.store import Store

HOT, COLD = "resources/hot", "resources/cold"


class Refusal:
    """Refuses one change of the index, the n-th, whatever it is: an intent or a batch."""

    def __init__(self, store: Store, at: int) -> None:
        self.changes = 0
        self._at = at
        self._index = store.index
        for name in ("begin", "apply"):
            setattr(store.index, name, self._refusing(getattr(store.index, name)))

    def _refusing(self, change: Callable[..., object]) -> Callable[..., object]:
        def refusing(*args: object, **named: object) -> object:
            self.changes += 1
            if self.changes == self._at:
                raise IndexFull
            return change(*args, **named)

        return refusing

    def lift(self) -> None:
        del self._index.begin, self._index.apply


def assert_memory_follows(opened: Opened) -> None:
    store = opened.store
    decided = {key for key, intent in store.index.intents() if isinstance(intent, Discard) and not intent.done}
    assert store.condemned.keys() == decided
    moves = {move.number for move in store.index.moves(open_only=True)}
    assert {number for promised in store.reserved.values() for number in promised} == moves
    assert [number for number in store.orphans if store.index.inode(number) is not None] == []


def replace_across_roots(opened: Opened) -> None:
    opened.rename(f"{HOT}/a", f"{COLD}/a")


def move_on(opened: Opened) -> None:
    opened.rename(f"{HOT}/a", f"{COLD}/b")
    opened.rename(f"{COLD}/b", f"{HOT}/b")


def remove_while_open(opened: Opened) -> None:
    opened.release(opened.open_file(f"{HOT}/a"))
    opened.open_file(f"{HOT}/a")
    opened.unlink(f"{HOT}/a")


def replace_in_an_id_root(opened: Opened) -> None:
    opened.rename("uploads/a", "uploads/b")


def arrive(opened: Opened) -> None:
    opened.rename(f"{HOT}/a", f"{COLD}/b")
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    opened.step(25)


@pytest.mark.parametrize("change", [replace_across_roots, move_on, remove_while_open, replace_in_an_id_root, arrive])
def test_whichever_batch_is_refused_memory_says_what_the_index_says(
    devices: tuple[Path, Path], change: Callable[[Opened], None]
) -> None:
    with by_hand():
        for at in range(1, 200):
            opened = Opened(*devices, outside=Outside.NONE)
            try:
                for path in (f"{HOT}/a", f"{COLD}/a", "uploads/a", "uploads/b"):
                    opened.write(path, b"x")
                opened.mkdir(f"{HOT}/d")
                opened.settle()
                refusal = Refusal(opened.store, at)
                try:
                    change(opened)
                except FusestoreError:
                    pass
                assert_memory_follows(opened)
                opened.crash()
                opened.open()
                opened.rest()
                opened.check()
                assert_memory_follows(opened)
                opened.close()
            finally:
                opened.remove()
            if refusal.changes < at:
                return
    raise AssertionError("the change never ran through")


def test_a_content_whose_comparison_is_not_recorded_is_still_suspected(shared: Opened) -> None:
    number = shared.write(f"{HOT}/a", b"old")
    shared.settle()
    seen = shared.stat(f"{HOT}/a")
    disk = shared.disks["hot"] / "a"
    disk.write_bytes(b"new")
    os.utime(disk, ns=(seen.atime_ns, seen.mtime_ns))
    shared.stat(f"{HOT}/a")
    assert number in shared.store.suspects
    Refusal(shared.store, 1)
    shared.settle()
    assert number in shared.store.suspects
    shared.hasher.retry()
    shared.settle()
    assert shared.store.suspects == set()
    assert shared.stat(f"{HOT}/a").version == 2


def refuse_settling(opened: Opened, path: str) -> None:
    """The disk does what was asked, and the index cannot record it."""
    refusal = Refusal(opened.store, 2)
    with pytest.raises(IndexFull):
        opened.unlink(path)
    refusal.lift()


def test_a_removal_that_could_not_be_recorded_and_was_seen_from_outside_is_no_hindrance_at_the_next_start(
    shared: Opened,
) -> None:
    shared.write(f"{HOT}/a", b"x")
    shared.settle()
    refuse_settling(shared, f"{HOT}/a")
    with pytest.raises(NotFound):
        shared.stat(f"{HOT}/a")
    shared.close()
    shared.open()
    assert shared.store.index.intents() == []


def test_a_removal_that_could_not_be_recorded_and_was_repeated_leaves_nothing_to_settle(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.settle()
    refuse_settling(opened, f"{HOT}/a")
    opened.unlink(f"{HOT}/a")
    opened.close()
    opened.open()
    assert opened.store.index.intents() == []


def test_a_creation_that_could_not_be_recorded_leaves_no_descriptor_open(opened: Opened) -> None:
    before = len(os.listdir("/proc/self/fd"))
    refusal = Refusal(opened.store, 2)
    with pytest.raises(IndexFull):
        opened.create(f"{HOT}/a")
    refusal.lift()
    assert len(os.listdir("/proc/self/fd")) == before
    opened.close()
    opened.open()
    opened.unlink(f"{HOT}/a")
