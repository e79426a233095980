"""A damaged file is repaired from whichever replica holds its bytes, and is as it was before in all else."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from fusestore.jobs.scrubber import Scrubber
from fusestore.model import Outcome, ReplicaState
from fusestore.service import replicating, soundness, verifying
from tests.support.byhand import finish

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusestore.core.ports import Driver
    from fusestore.service.places import At
    from tests.support.opened import Opened

HOT = "resources/hot"
FILE = f"{HOT}/file"
CONTENT = b"content" * 100


def flip(path: Path) -> None:
    """One bit of a file changes on its disk, and nothing else."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def scrub(opened: Opened) -> None:
    scrubber = Scrubber(opened.store)
    scrubber.start("", 0, again=True)
    finish(scrubber.go_on())


def outcomes(opened: Opened) -> list[Outcome]:
    return [verified.outcome for _, verified in soundness.all_unsound(opened.store)]


def driver(opened: Opened, name: str) -> Driver:
    return replicating.named(opened.store, name)


def copy_on(opened: Opened, name: str) -> Path:
    return opened.path_aside(driver(opened, name).number, opened.find(FILE))


@pytest.fixture
def kept(opened: Opened) -> Opened:
    """A file with replicas on warm and cold."""
    opened.write(FILE, CONTENT)
    opened.settle()
    for name in ("warm", "cold"):
        opened.replicate(FILE, name)
    opened.rest()
    return opened


@pytest.fixture
def ill(kept: Opened) -> Opened:
    """The same file, damaged, which nobody knows yet."""
    flip(kept.disks["hot"] / "file")
    return kept


def assert_repaired(opened: Opened) -> None:
    assert opened.read(FILE) == CONTENT
    assert outcomes(opened) == []
    opened.rest()
    assert opened.on_disk("hot")["file"] == CONTENT
    assert [record.state for _, record in opened.store.index.replicas(opened.find(FILE))] == [ReplicaState.CURRENT] * 2
    opened.assert_at_home()


@pytest.mark.parametrize("bad", ["warm", "cold"])
def test_a_replica_made_of_damaged_bytes_does_not_hide_a_good_one(ill: Opened, bad: str) -> None:
    number, root = ill.find(FILE), driver(ill, bad).number
    damaged = (ill.disks["hot"] / "file").read_bytes()
    copy_on(ill, bad).write_bytes(damaged)
    index = ill.store.index
    record = index.replica(number, root)
    assert record is not None
    digest = finish(verifying.read_at_once(ill.store, ill.store.place(number), record.algorithm))
    batch = ill.store.batch()
    batch.replica(number, root, replace(record, digest=digest))
    index.apply(batch)
    scrub(ill)
    assert ill.read(FILE) == CONTENT
    assert outcomes(ill) == []


@pytest.mark.parametrize("bad", ["warm", "cold"])
def test_the_next_replica_is_tried_where_the_disk_of_one_refuses(
    ill: Opened, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(driver(ill, bad), "chmod", refuse)
        patch.setattr(driver(ill, bad), "removexattr", refuse)
        patch.setattr(driver(ill, bad), "listxattr", refuse)
        scrub(ill)
        assert outcomes(ill) == []
        assert ill.read(FILE) == CONTENT
    assert_repaired(ill)


def test_what_somebody_writes_is_repaired_when_nobody_does(ill: Opened) -> None:
    finish(verifying.verify(ill.store, ill.find(HOT), None, lambda *_: None))
    damaged = (ill.disks["hot"] / "file").read_bytes()
    fh = ill.open_file(FILE, write=True)
    scrub(ill)
    assert (outcomes(ill), (ill.disks["hot"] / "file").read_bytes()) == ([Outcome.DAMAGED], damaged)
    ill.release(fh)
    ill.settle()
    scrub(ill)
    assert_repaired(ill)


def test_what_is_opened_for_writing_while_its_replica_is_read_is_not_taken_from_its_writer(
    ill: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles: list[int] = []
    read = verifying.read_at_once

    async def meanwhile(store: object, at: At, algorithm: str) -> bytes:
        found = await read(ill.store, at, algorithm)
        if not handles:
            handles.append(ill.open_file(FILE, write=True))
        return found

    monkeypatch.setattr(verifying, "read_at_once", meanwhile)
    scrub(ill)
    assert ill.store.root_of(ill.find(FILE)) is driver(ill, "hot")
    ill.write_at(handles[0], b"written", 0)
    ill.release(handles[0])
    ill.settle()
    assert ill.read(FILE).startswith(b"written")
    ill.rest()
    ill.assert_at_home()


def unreadable(opened: Opened, patch: pytest.MonkeyPatch, *, stat: bool) -> None:
    """The disk of hot has lost the bytes of a file; `stat`: all that it knew of it."""
    hot = driver(opened, "hot")
    read_in = verifying.read_in

    async def broken_read(limiter: object, at: At, algorithm: str, pace: object) -> bytes:
        if at.driver is hot:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return await read_in(limiter, at, algorithm, pace)  # type: ignore[arg-type]

    def broken(call: Callable[..., object]) -> Callable[..., object]:
        def refuse(directory: int, name: bytes, *rest: object) -> object:
            if name == b"file":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(directory, name, *rest)

        return refuse

    patch.setattr(verifying, "read_in", broken_read)
    for name in ("stat", "listxattr") if stat else ():
        patch.setattr(hot, name, broken(getattr(hot, name)))


@pytest.mark.parametrize("stat", [False, True])
def test_what_its_disk_cannot_read_is_repaired(kept: Opened, stat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept.stat(FILE)
    with monkeypatch.context() as patch:
        unreadable(kept, patch, stat=stat)
        scrub(kept)
        assert outcomes(kept) == []
        place = kept.store.root_of(before.number)
        assert place is not None
        assert place.name != "hot"
    assert_repaired(kept)
    after = kept.stat(FILE)
    assert (after.mode, after.mtime_ns, after.version, after.hash) == (
        before.mode, before.mtime_ns, before.version, before.hash
    )  # fmt: skip


def test_owner_mode_times_and_xattrs_are_as_before(kept: Opened) -> None:
    path = kept.disks["hot"] / "file"
    kept.set(FILE, mode=0o640, mtime_ns=10**18 + 5)
    if os.geteuid() == 0:
        kept.set(FILE, uid=1234, gid=4321)
    kept.set(FILE, mode=0o4640, atime_ns=10**18 + 7, mtime_ns=10**18 + 5)
    os.setxattr(path, "user.colour", b"red")
    before = kept.stat(FILE)
    flip(path)
    os.utime(path, ns=(before.atime_ns, before.mtime_ns))
    for _ in range(2):  # while it lies where the replica was, and when it is at home again
        scrub(kept)
        after = kept.stat(FILE)
        for what in ("id", "number", "mode", "uid", "gid", "mtime_ns", "version", "hash", "nlink"):
            assert getattr(after, what) == getattr(before, what), what
        at = kept.store.place(after.number)
        assert at.driver.getxattr(at.directory, at.name, b"user.colour") == b"red"
        kept.rest()
    assert path.stat().st_mtime_ns == before.mtime_ns
    assert_repaired(kept)
