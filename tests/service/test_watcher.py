"""A root is watched while somebody listens, and looked through again when notices may be missing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from fusestore.jobs import watcher
from fusestore.jobs.watcher import RootWatcher
from fusestore.model import Outside
from fusestore.roots.inotify import Inotify
from fusestore.service.audience import Watch
from tests.support.byhand import in_place, run
from tests.support.opened import Opened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from fusestore.model import Event

HOT = "resources/hot"


@pytest.fixture
def watched(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """A store whose root `hot` has 100 files and the directories d and d/e."""
    with in_place():
        opened = Opened(*devices, outside=Outside.WRITERS)
        try:
            disk = opened.disks["hot"]
            (disk / "d" / "e").mkdir(parents=True)
            for number in range(100):
                (disk / f"{number}").touch()
            yield opened
            opened.store.close(clean=True)
        finally:
            opened.remove()


class Watched:
    """What a test sees of a watched root."""

    def __init__(self, opened: Opened, *, always: bool = True) -> None:
        self.store = opened.store
        self.root = next(root for root in self.store.roots.values() if root.name == "hot")
        self.watcher = RootWatcher(self.store, self.root, always=always)
        self.watch = self.store.watches[self.root.number]
        self.events: list[Event] = []
        self.store.index.on_events = self.events.extend

    def paths(self, kind: str) -> list[str]:
        return [event.path.decode() for event in self.events if event.kind == kind]

    async def until_on(self) -> None:
        while self.watch.state != "on":  # noqa: ASYNC110  (nobody in the daemon waits for that)
            await trio.sleep(0.1)
        self.events.clear()

    def run(self, work: Callable[[], Awaitable[object]]) -> float:
        return run(work, self.watcher.run)


def queues() -> int:
    """How many inotify queues this process has open."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += "inotify" in os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
    return count


def test_what_happens_is_seen_within_a_moment(watched: Opened) -> None:
    seen, disk = Watched(watched), watched.disks["hot"]

    async def work() -> None:
        await seen.until_on()
        assert seen.watch.directories == 3
        (disk / "d" / "e" / "new").write_bytes(b"x")
        os.rename(disk / "0", disk / "d" / "zero")
        (disk / "1").unlink()
        await trio.sleep(0.5)

    seen.run(work)
    assert seen.paths("adopted") == [f"{HOT}/d/e/new"]
    assert seen.paths("renamed") == [f"{HOT}/d/zero"]
    assert seen.paths("vanished") == [f"{HOT}/1"]


def test_notices_that_lead_to_nothing_change_nothing(watched: Opened) -> None:
    seen, disk = Watched(watched), watched.disks["hot"]

    async def work() -> None:
        await seen.until_on()
        before = seen.store.index.changes
        for number in range(50):
            (disk / f"passing-{number}").touch()
            (disk / f"passing-{number}").unlink()
        with (disk / "5").open("ab"):
            pass  # closed after writing nothing
        await trio.sleep(300)
        assert seen.store.index.changes == before

    seen.run(work)
    assert seen.events == []


def test_when_the_queue_has_run_over_the_root_is_looked_through_again(watched: Opened) -> None:
    seen, disk = Watched(watched), watched.disks["hot"]
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

    async def work() -> None:
        await seen.until_on()
        for number in range(most + 10):
            os.utime(disk / f"{number % 2}", ns=(0, number))
        (disk / "d" / "lost").touch()
        os.rename(disk / "d" / "e", disk / "e")
        (disk / "7").write_bytes(b"written")
        await trio.sleep(60)
        assert seen.watch.state == "on"

    seen.run(work)
    assert f"{HOT}/d/lost" in seen.paths("adopted")
    assert f"{HOT}/e" in seen.paths("renamed")
    assert f"{HOT}/7" in seen.paths("changed")


@pytest.mark.parametrize("why", ["the kernel's limit", "our own limit"])
def test_without_enough_watches_the_root_is_looked_through_now_and_then(
    watched: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], why: str
) -> None:
    if why == "our own limit":
        monkeypatch.setattr(watcher, "MOST", 2)
    else:
        add = Inotify.add

        def add_two(self: Inotify, directory: int) -> int:
            number = add(self, directory)
            if number > 2:
                self.remove(number)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return number

        monkeypatch.setattr(Inotify, "add", add_two)
    seen, disk = Watched(watched), watched.disks["hot"]

    async def work() -> None:
        await seen.until_on()
        assert seen.watch.reason
        (disk / "d" / "e" / "late").touch()
        (disk / "soon").touch()
        await trio.sleep(0.5)
        assert seen.paths("adopted") == [f"{HOT}/soon"]
        await trio.sleep(2 * watcher.NOW_AND_THEN_S)
        assert seen.paths("adopted") == [f"{HOT}/soon", f"{HOT}/d/e/late"]
        assert seen.watch.reason

    seen.run(work)
    assert capsys.readouterr().out.count("only now and then") == 1


def test_directories_that_come_when_there_are_watches_for_no_more_are_looked_at_now_and_then_too(
    watched: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "MOST", 3)
    seen, disk = Watched(watched), watched.disks["hot"]

    async def work() -> None:
        await seen.until_on()
        assert seen.watch.directories == 3
        (disk / "new").mkdir()
        await trio.sleep(0.5)
        assert seen.watch.reason
        (disk / "new" / "late").touch()
        await trio.sleep(0.5)
        assert seen.paths("adopted") == [f"{HOT}/new"]
        await trio.sleep(2 * watcher.NOW_AND_THEN_S)
        assert seen.paths("adopted") == [f"{HOT}/new", f"{HOT}/new/late"]

    seen.run(work)


def test_a_directory_that_its_disk_does_not_let_us_watch_is_no_reason_to_look_through_the_root_for_ever(
    watched: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Inotify.add
    closed = (watched.disks["hot"] / "d").stat().st_ino

    def refuse(self: Inotify, directory: int) -> int:
        if os.fstat(directory).st_ino == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return add(self, directory)

    monkeypatch.setattr(Inotify, "add", refuse)
    seen = Watched(watched)

    async def work() -> None:
        await seen.until_on()
        assert (seen.watch.directories, seen.watch.reason) == (2, "")

    seen.run(work)


def test_a_queue_that_cannot_be_had_is_said_and_tried_again(watched: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Watched(watched)

    def refuse(self: Inotify) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def work() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Inotify, "__init__", refuse)
            await trio.sleep(1)
            (watched.disks["hot"] / "d" / "late").touch()
            await trio.sleep(2 * watcher.NOW_AND_THEN_S)
            assert f"{HOT}/d/late" in seen.paths("adopted")
        assert seen.watch.reason
        await seen.until_on()
        assert not seen.watch.reason

    seen.run(work)


def test_a_root_that_goes_offline_is_let_go_of(watched: Opened) -> None:
    seen, before = Watched(watched), queues()

    async def work() -> None:
        await seen.until_on()
        assert queues() == before + 1
        seen.root.online = False
        await trio.sleep(1)
        assert (queues(), seen.watch.state) == (before, "off")
        seen.root.online = True
        await seen.until_on()

    seen.run(work)


def test_it_is_watched_as_long_as_somebody_listens_and_a_moment_longer(watched: Opened) -> None:
    seen = Watched(watched, always=False)
    audience = seen.store.audience

    async def work() -> None:
        await trio.sleep(100)
        with audience.seat():
            pass  # a glance
        await trio.sleep(100)
        assert seen.watch.state == "off"
        with audience.seat():
            await seen.until_on()
            with audience.seat():
                await trio.sleep(100)
        await trio.sleep(watcher.LINGER_S / 2)
        assert seen.watch.state == "on"
        with audience.seat():
            await trio.sleep(watcher.LINGER_S)
        assert seen.watch.state == "on"
        await trio.sleep(watcher.LINGER_S + 2)
        assert seen.watch.state == "off"

    seen.run(work)


def test_what_is_moved_out_of_the_root_is_not_watched_any_more(watched: Opened, tmp_path: Path) -> None:
    seen, disk = Watched(watched), watched.disks["hot"]

    async def work() -> None:
        await seen.until_on()
        os.rename(disk / "d", disk.parent / "away")
        await trio.sleep(0.5)
        (disk.parent / "away" / "e" / "x").touch()
        (disk.parent / "away" / "x").touch()
        await trio.sleep(0.5)
        assert seen.watch.directories == 1
        os.rename(disk.parent / "away", disk / "back")
        await trio.sleep(0.5)
        assert seen.watch.directories == 3

    seen.run(work)
    assert seen.paths("vanished") == [f"{HOT}/d"]
    assert seen.paths("renamed") == [f"{HOT}/back"]
    assert sorted(seen.paths("adopted")) == [f"{HOT}/back/e/x", f"{HOT}/back/x"]


def test_what_was_moved_out_of_the_root_and_back_is_watched_again(watched: Opened) -> None:
    seen, disk = Watched(watched), watched.disks["hot"]
    away = disk.parent / "away"  # on the same file system

    async def work() -> None:
        await seen.until_on()
        os.rename(disk / "d", away)
        await trio.sleep(2)
        (away / "e" / "meanwhile").touch()
        await trio.sleep(2)
        os.rename(away, disk / "d")
        await trio.sleep(2)
        assert f"{HOT}/d/e/meanwhile" in seen.paths("adopted")
        (disk / "d" / "e" / "later").touch()
        await trio.sleep(2)

    seen.run(work)
    assert f"{HOT}/d/e/later" in seen.paths("adopted")


def test_nothing_is_said_of_watches_that_nobody_wants(watched: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Watched(watched, always=False)

    def refuse(self: Inotify) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def work() -> None:
        monkeypatch.setattr(Inotify, "__init__", refuse)
        with seen.store.audience.seat():
            await trio.sleep(1)
        assert seen.watch.reason
        await trio.sleep(2 * watcher.NOW_AND_THEN_S)
        assert seen.watch == Watch()

    seen.run(work)
