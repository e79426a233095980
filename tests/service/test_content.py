"""Content: writing periods, versions, hashes, and what a crash makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from fusestore.errors import InvalidRequest, IsADirectory
from fusestore.model import Cause, State

if TYPE_CHECKING:
    from fusestore.model import Event
    from tests.support.opened import Opened

HOT = "resources/hot"
ROOTS = pytest.mark.parametrize("top", ["uploads", HOT])


def listen(opened: Opened) -> list[Event]:
    events: list[Event] = []
    opened.store.index.on_events = events.extend
    return events


@ROOTS
def test_a_closed_file_is_finalized_with_its_hash(opened: Opened, top: str) -> None:
    events = listen(opened)
    opened.write(f"{top}/a", b"content")
    assert opened.stat(f"{top}/a").state is State.WRITING
    opened.settle()
    inode = opened.stat(f"{top}/a")
    assert inode.state is State.READY
    assert inode.current_hash == blake3(b"content").digest()
    (final,) = [event for event in events if event.kind == "finalized"]
    assert (final.size, final.version, final.hash) == (7, inode.version, f"blake3:{inode.hash.hex()}")


@ROOTS
def test_a_version_is_a_writing_period_not_a_write(opened: Opened, top: str) -> None:
    opened.write(f"{top}/a", b"one")
    opened.settle()
    version = opened.stat(f"{top}/a").version
    fh = opened.open_file(f"{top}/a", write=True)
    for offset in range(5):
        opened.write_at(fh, b"x", offset)
    opened.release(fh)
    opened.settle()
    assert opened.stat(f"{top}/a").version == version + 1
    opened.release(opened.open_file(f"{top}/a", write=True))  # nothing written
    opened.settle()
    assert opened.stat(f"{top}/a").version == version + 1


def test_writes_out_of_order_are_hashed_by_reading(opened: Opened) -> None:
    fh = opened.create(f"{HOT}/a")
    opened.write_at(fh, b"end", 3)
    opened.write_at(fh, b"sta", 0)
    opened.release(fh)
    opened.settle()
    assert opened.stat(f"{HOT}/a").current_hash == blake3(b"staend").digest()


def test_a_hash_made_in_passing_is_not_kept_for_a_later_content(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"first")
    fh = opened.open_file(f"{HOT}/a", write=True)
    opened.write_at(fh, b"F", 0)
    opened.release(fh)
    opened.settle()
    assert opened.stat(f"{HOT}/a").current_hash == blake3(b"First").digest()


def test_cutting_a_file_that_only_readers_have_open_is_a_period_of_its_own(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    fh = opened.open_file(f"{HOT}/a")
    opened.release(opened.open_file(f"{HOT}/a", write=True))  # leaves a writable descriptor with the reader
    for size in (3, 2):
        opened.settle()
        version = opened.stat(f"{HOT}/a").version
        opened.set(f"{HOT}/a", size=size)
        opened.settle()
        inode = opened.stat(f"{HOT}/a")
        assert (inode.version, inode.state) == (version + 1, State.READY)
        assert inode.current_hash == blake3(b"content"[:size]).digest()
    assert opened.read_at(fh) == b"co"


def test_a_hole_is_zeros(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.set(f"{HOT}/a", size=4)
    assert opened.read(f"{HOT}/a") == b"x\0\0\0"


def test_only_regular_files_are_opened(opened: Opened) -> None:
    opened.mkdir("uploads/d")
    opened.symlink("uploads/s", "d")
    with pytest.raises(IsADirectory):
        opened.open_file("uploads/d")
    with pytest.raises(InvalidRequest):
        opened.open_file("uploads/s")


@ROOTS
def test_a_removed_file_is_read_and_written_until_its_last_close(opened: Opened, top: str) -> None:
    fh = opened.create(f"{top}/a")
    opened.write_at(fh, b"still here")
    opened.unlink(f"{top}/a")
    assert opened.names(top) == []
    opened.write_at(fh, b"S", 0)
    assert opened.read_at(fh) == b"Still here"
    opened.release(fh)
    opened.settle()
    opened.assert_at_home()


@ROOTS
def test_a_replaced_file_is_read_until_its_last_close(opened: Opened, top: str) -> None:
    opened.write(f"{top}/a", b"old")
    opened.write(f"{top}/b", b"new")
    fh = opened.open_file(f"{top}/a")
    opened.rename(f"{top}/b", f"{top}/a")
    assert opened.read_at(fh) == b"old"
    assert opened.read(f"{top}/a") == b"new"


def test_an_upload_that_a_crash_cuts_off_is_interrupted_and_kept(opened: Opened) -> None:
    fh = opened.create("uploads/a")
    opened.write_at(fh, b"half of i")
    opened.write("uploads/whole", b"all of it")
    opened.crash()
    opened.open()
    opened.settle()
    assert opened.stat("uploads/a").state is State.INTERRUPTED
    assert opened.read("uploads/a") == b"half of i"
    assert opened.stat("uploads/whole").state is State.READY


def test_a_file_of_a_tree_that_was_open_in_a_crash_is_ready_with_its_bytes(opened: Opened) -> None:
    fh = opened.create(f"{HOT}/a")
    opened.write_at(fh, b"bytes")
    opened.crash()
    opened.open()
    opened.settle()
    inode = opened.stat(f"{HOT}/a")
    assert (inode.state, inode.size) == (State.READY, 5)
    assert inode.current_hash == blake3(b"bytes").digest()


def test_an_interrupted_upload_is_not_taken_for_written_outside(shared: Opened) -> None:
    """Its bytes may still be on a root where others write, and newer than its record."""
    shared.mkdir("resources/cold/d")
    shared.rename("resources/cold/d", "uploads/d")
    shared.rename("uploads/d", "resources/cold/d")
    fh = shared.create("resources/cold/d/a")
    shared.write_at(fh, b"bytes")
    shared.rename("resources/cold/d", "uploads/d")
    shared.crash()
    shared.open()
    events = listen(shared)
    assert shared.stat("uploads/d/a").state is State.INTERRUPTED
    shared.rest()
    assert shared.read("uploads/d/a") == b"bytes"
    assert [event.kind for event in events if event.cause == "outside"] == []


def test_a_file_that_a_crash_may_have_cut_off_is_announced_as_such(opened: Opened) -> None:
    """Outside uploads nobody waits for a whole file: what was written counts."""
    opened.write_at(opened.create("resources/hot/f"), b"half")
    opened.crash()
    opened.open()
    opened.settle()
    events = opened.store.index.events(0, 10_000)
    last = [event for event in events if event.kind == "finalized"][-1]
    assert (last.cause, last.size) == (Cause.RECOVER, 4)
    assert "the daemon ended" in last.detail
    opened.write("resources/hot/f", b"whole")
    opened.settle()
    assert opened.store.index.events(opened.store.index.last_seq - 1, 1)[-1].cause is Cause.USER
