"""Contents that cannot be settled now are tried again later, and nobody waits for them for ever."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from blake3 import blake3
from structlog.testing import capture_logs

from fusestore.jobs import hasher as hashing
from fusestore.model import State
from fusestore.roots import local
from fusestore.service import finalizing
from tests.support.byhand import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusestore.service.finalizing import Unsettled
    from fusestore.service.store import Store
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"


def refuse_sync(
    monkeypatch: pytest.MonkeyPatch, opened: Opened, root: str, times: int, *, lose: Path | None = None
) -> list[str]:
    """Let the next syncs of a root fail as a broken disk does, with the loss of a file's bytes.

    Returns:
        the roots that were synced, as it grows.
    """
    synced: list[str] = []
    names = {driver.top: driver.name for driver in opened.store.roots.values()}

    def syncfs(fd: int) -> None:
        synced.append(names[fd])
        if names[fd] == root and synced.count(root) <= times:
            if lose is not None:
                lost = lose.stat()
                lose.write_bytes(bytes(lost.st_size))
                os.utime(lose, ns=(lost.st_atime_ns, lost.st_mtime_ns))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.sync()

    monkeypatch.setattr(local, "syncfs", syncfs)
    return synced


def keep_changing(opened: Opened, path: Path) -> None:
    """Somebody outside writes a file whenever it is about to be settled."""
    for driver in opened.store.roots.values():
        sync = driver.sync

        def change(sync: Callable[[], None] = sync) -> None:
            sync()
            with path.open("ab") as file:
                file.write(b"+")

        driver.sync = change  # type: ignore[method-assign]


def test_files_whose_disk_cannot_be_synced_once_are_settled_later(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_sync(monkeypatch, opened, "hot", 1)
    opened.write(f"{HOT}/a", b"hot")
    opened.write(f"{COLD}/b", b"cold")
    opened.settle()
    assert opened.stat(f"{HOT}/a").state is State.WRITING
    assert opened.stat(f"{COLD}/b").state is State.READY
    opened.settle()
    assert opened.stat(f"{HOT}/a").state is State.WRITING  # not before its time
    opened.hasher.retry()
    opened.settle()
    assert opened.stat(f"{HOT}/a").current_hash == blake3(b"hot").digest()


@pytest.mark.parametrize("asked", ["by the hasher", "by somebody else"])
@pytest.mark.parametrize("written", ["in order", "out of order"])
def test_what_a_disk_lost_is_never_announced_as_whole(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, written: str, asked: str
) -> None:
    if written == "in order":
        opened.write(f"{HOT}/a", b"what was written")
    else:
        fh = opened.create(f"{HOT}/a")
        opened.write_at(fh, b"was written", 5)
        opened.write_at(fh, b"what ")
        opened.release(fh)
    refuse_sync(monkeypatch, opened, "hot", 1, lose=opened.disks["hot"] / "a")
    if asked == "by somebody else":
        with pytest.raises(OSError, match="Input/output error"):
            opened.store.home_root(opened.find(HOT)).sync()  # the kernel tells of it once
    opened.settle()
    opened.hasher.retry()
    opened.settle()
    assert opened.stat(f"{HOT}/a").state is State.INTERRUPTED
    opened.write(f"{HOT}/a", b"written again")
    opened.settle()
    assert opened.stat(f"{HOT}/a").current_hash == blake3(b"written again").digest()


@pytest.mark.parametrize("then", ["it is written on", "it is moved", "it meets a bug"])
def test_a_doubt_stays_with_a_content_whatever_becomes_of_the_file(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    opened.write(f"{HOT}/a", b"what was written")
    refuse_sync(monkeypatch, opened, "hot", 1, lose=opened.disks["hot"] / "a")
    with pytest.raises(OSError, match="Input/output error"):
        opened.store.home_root(opened.find(HOT)).sync()
    path = f"{HOT}/a"
    match then:
        case "it is written on":
            fh = opened.open_file(path, write=True)
            opened.write_at(fh, b" and more", 16)
            opened.release(fh)
        case "it is moved":
            path = f"{COLD}/a"
            opened.rename(f"{HOT}/a", path)
            for _ in range(50):
                opened.step()
            assert opened.root_of(path) == "cold"
        case "it meets a bug":
            with monkeypatch.context() as patch, capture_logs():
                patch.setattr(finalizing, "settle", lambda *_: 1 / 0)
                opened.settle()
            finalizing.resume(opened.store)
    opened.settle()
    assert opened.stat(path).state is State.INTERRUPTED
    opened.set(path, size=0)
    opened.write(path, b"written anew")
    opened.settle()
    assert opened.stat(path).state is State.READY


def test_a_disk_that_once_failed_casts_no_doubt_on_what_comes_to_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_sync(monkeypatch, opened, "cold", 1)
    with pytest.raises(OSError, match="Input/output error"):
        opened.store.home_root(opened.find(COLD)).sync()
    fh = opened.create(f"{HOT}/a")
    opened.write_at(fh, b"order", 3)
    opened.write_at(fh, b"no ", 0)
    opened.release(fh)
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    for _ in range(50):
        opened.step()
    assert opened.root_of(f"{COLD}/a") == "cold"
    opened.settle()
    assert opened.stat(f"{COLD}/a").state is State.READY


def test_nothing_is_kept_of_contents_without_a_name(opened: Opened) -> None:
    fh = opened.create(f"{HOT}/a")
    opened.write_at(fh, b"nobody's")
    opened.unlink(f"{HOT}/a")
    opened.release(fh)
    opened.write(f"{HOT}/b", b"somebody's")
    opened.settle()
    assert opened.store.digests == {}


def test_a_round_that_ends_in_a_bug_is_taken_up_again_and_nobody_waits_for_ever(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.write(f"{HOT}/a", b"a")
    with monkeypatch.context() as patch:
        patch.setattr(opened.hasher, "_one_batch", lambda numbers: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened.settle()
    opened.settle()
    assert opened.stat(f"{HOT}/a").state is State.READY


def test_a_bug_with_one_file_does_not_hold_up_the_others(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = finalizing.settle

    def stumble(store: Store, work: Unsettled, digest: bytes) -> bool:
        if work.number == opened.find(f"{HOT}/a"):
            raise ZeroDivisionError
        return settle(store, work, digest)

    opened.write(f"{HOT}/a", b"stumbled over")
    opened.write(f"{HOT}/b", b"another")
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(finalizing, "settle", stumble)
        opened.settle()
        opened.hasher.retry()
        opened.settle()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["a bug while a file is settled"]
    assert opened.stat(f"{HOT}/b").state is State.READY
    opened.close()
    opened.open()
    opened.settle()
    assert opened.stat(f"{HOT}/a").state is State.READY


@pytest.mark.parametrize("shop", ["opened", "shared"])
def test_a_file_that_changes_all_the_time_takes_one_turn_in_a_round(request: pytest.FixtureRequest, shop: str) -> None:
    opened: Opened = request.getfixturevalue(shop)
    opened.write(f"{HOT}/a", b"x")
    opened.write(f"{HOT}/b", b"quiet")
    keep_changing(opened, opened.disks["hot"] / "a")
    opened.settle()
    assert opened.stat(f"{HOT}/a").state is State.WRITING
    assert opened.stat(f"{HOT}/b").state is State.READY
    for driver in opened.store.roots.values():
        del driver.sync
    opened.hasher.retry()
    opened.settle()
    assert opened.stat(f"{HOT}/a").current_hash == blake3(opened.read(f"{HOT}/a")).digest()


def test_a_file_that_was_written_again_meanwhile_is_settled_in_the_next_round(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"first")
    sync = opened.store.roots[opened.store.home_root(opened.find(HOT)).number].sync
    driver = opened.store.home_root(opened.find(HOT))

    def write_again() -> None:
        del driver.sync
        sync()
        opened.write(f"{HOT}/a", b"second")

    driver.sync = write_again  # type: ignore[method-assign]
    opened.settle()
    opened.settle()
    assert opened.stat(f"{HOT}/a").current_hash == blake3(b"second").digest()


def test_whoever_waits_gets_what_is_finished(running: Opened) -> None:
    running.write(f"{HOT}/a", b"x")
    assert run(running.hasher.idle, running.hasher.run) < 1.0
    assert running.stat(f"{HOT}/a").state is State.READY


def test_whoever_waits_does_not_wait_for_a_pause_that_spares_the_disk(running: Opened) -> None:
    running.hasher._pause_s = hashing.PAUSE_MAX_S  # as after a slow round
    running.write(f"{HOT}/a", b"x")
    assert run(running.hasher.idle, running.hasher.run) < hashing.PAUSE_MAX_S
    assert running.stat(f"{HOT}/a").state is State.READY


def test_whoever_waits_gets_what_a_disk_refused_once(running: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_sync(monkeypatch, running, "hot", 1)
    running.write(f"{HOT}/a", b"x")
    run(running.hasher.idle, running.hasher.run)
    assert running.stat(f"{HOT}/a").state is State.READY


def test_nobody_waits_for_ever_for_a_file_that_changes_all_the_time(running: Opened) -> None:
    running.write(f"{HOT}/a", b"x")
    keep_changing(running, running.disks["hot"] / "a")
    assert run(running.hasher.idle, running.hasher.run) <= hashing.PATIENCE_S + hashing.PAUSE_MAX_S
    assert running.stat(f"{HOT}/a").state is State.WRITING


def test_what_cannot_be_settled_is_tried_at_a_slow_pace(running: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = refuse_sync(monkeypatch, running, "hot", 10_000)
    running.write(f"{HOT}/a", b"x")
    run(partial(trio.sleep, 3600), running.hasher.run)
    assert 2 < len(synced) <= 3600 / hashing.RETRY_S
