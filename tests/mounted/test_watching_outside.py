"""What others do on a root's disk is told to who listens, soon, and nothing else is."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import Mounted, Root, eventually, mounted
from tests.support.tools import python, tool
from tests.support.watcher import Line, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(90)
SOON_S = 2  # "about a second", on a busy machine
QUIET_S = 1.0


class Listener:
    """What a watcher of the socket hears once the root is watched."""

    def __init__(self, subject: Mounted) -> None:
        self._watcher = Watcher(subject.socket)
        eventually(lambda: watch_of(subject)["state"] == "on", "the root is watched")
        self._since = subject.json("status")["index"]["last_seq"]

    @property
    def heard(self) -> list[dict[str, Any]]:
        return [message["data"] for message in list(self._watcher.seen) if message["seq"] > self._since]

    def hears(self, kind: str, path: str) -> dict[str, Any]:
        """The first event of this kind and path, which has to come soon."""

        def found() -> dict[str, Any] | None:
            return next((each for each in self.heard if (each["kind"], each["path"]) == (kind, path)), None)

        try:
            event = eventually(found, f"{kind} {path}", SOON_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; heard {[short(each) for each in self.heard]}") from None
        assert event is not None
        return event

    def rest(self) -> list[dict[str, Any]]:
        """All that comes until nothing does for a while."""
        count = -1
        while count != len(self.heard):
            count = len(self.heard)
            time.sleep(QUIET_S)
        return self.heard

    def close(self) -> None:
        self._watcher.stop()


def short(event: dict[str, Any]) -> tuple[str, ...]:
    return (event["kind"], event["old_path"], event["path"])


def watch_of(subject: Mounted) -> dict[str, Any]:
    roots = {root["name"]: root for root in subject.json("status")["roots"]}
    answer: dict[str, Any] = roots["disk"]["watch"]
    return answer


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    (disk / "d" / "inner").mkdir(parents=True)
    (disk / "d" / "old").write_bytes(b"old")
    (disk / "d" / "inner" / "deep").write_bytes(b"deep")
    (disk / "many").mkdir()
    for number in range(100):  # or the root would be doubted when something larger goes
        (disk / "many" / f"{number}").touch()
    return disk


@pytest.fixture
def subject(tmp_path: Path, disk: Path, deadline_s: float) -> Iterator[Mounted]:
    with mounted(tmp_path / "own", {"disk": Root(disk, "writers")}) as subject, subject.deadline(deadline_s):
        yield subject


@pytest.fixture
def listener(subject: Mounted) -> Iterator[Listener]:
    listener = Listener(subject)
    yield listener
    listener.close()


def test_a_file_that_is_made_written_and_removed_outside(listener: Listener, disk: Path) -> None:
    made = disk / "d" / "inner" / "new"
    made.write_bytes(b"x")
    listener.hears("adopted", "resources/disk/d/inner/new")
    listener.rest()
    with made.open("ab") as file:
        file.write(b"more")
    event = listener.hears("changed", "resources/disk/d/inner/new")
    assert event["size"] == 5
    made.chmod(0o600)
    listener.hears("attributes", "resources/disk/d/inner/new")
    made.unlink()
    listener.hears("vanished", "resources/disk/d/inner/new")


@pytest.mark.parametrize("name", ["old", "inner"])
def test_what_is_renamed_outside_is_the_same_and_told_once(
    subject: Mounted, listener: Listener, disk: Path, name: str
) -> None:
    before = subject.record(subject.resources / "disk" / "d" / name)
    os.rename(disk / "d" / name, disk / "elsewhere")
    event = listener.hears("renamed", "resources/disk/elsewhere")
    assert (event["id"], event["old_path"]) == (before["id"], f"resources/disk/d/{name}")
    assert [short(each) for each in listener.rest()] == [("renamed", f"resources/disk/d/{name}", event["path"])]
    if name == "inner":
        (disk / "elsewhere" / "deep").write_bytes(b"still watched")
        listener.hears("changed", "resources/disk/elsewhere/deep")


def test_a_file_that_replaces_another_outside(subject: Mounted, listener: Listener, disk: Path) -> None:
    (disk / "d" / "old.tmp").write_bytes(b"new")
    listener.hears("adopted", "resources/disk/d/old.tmp")
    identity = subject.record(subject.resources / "disk" / "d" / "old.tmp")["id"]
    os.rename(disk / "d" / "old.tmp", disk / "d" / "old")
    event = listener.hears("renamed", "resources/disk/d/old")
    assert event["id"] == identity


RSYNC = """
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    directory = os.path.join(top, str(number % 7), str(number % 3))
    os.makedirs(directory, exist_ok=True)
    unfinished = os.path.join(directory, f".{number}.unfinished")
    with open(unfinished, "wb") as file:
        file.write(b"content")
    os.utime(unfinished, (1, 1))
    os.rename(unfinished, os.path.join(directory, str(number)))
"""


def test_what_is_written_under_another_name_and_renamed_is_never_told_as_gone(listener: Listener, disk: Path) -> None:
    python(RSYNC, disk / "d" / "copied", "3000")
    heard = listener.rest()
    assert [short(each) for each in heard if each["kind"] == "vanished"] == []
    assert [short(each) for each in heard if each["kind"] == "renamed" and not each["old_path"]] == []
    assert [short(each) for each in heard if each["kind"] == "adopted" and each["detail"]] == []
    names = {each["path"] for each in heard if each["kind"] in ("adopted", "renamed")}
    names -= {each["old_path"] for each in heard}
    files = {name for name in names if name.rpartition("/")[2].isdecimal() and name.count("/") == 6}
    assert len(files) == 3000


def test_whole_trees_are_told_name_by_name_however_quickly_they_come(listener: Listener, disk: Path) -> None:
    top = disk / "d" / "tree"
    expected = set()
    for number in range(20):
        place = top / f"{number}" / "a" / "b"
        place.mkdir(parents=True)
        (place / "file").write_bytes(b"x")
        expected |= {f"resources/disk/d/tree/{number}{rest}" for rest in ("", "/a", "/a/b", "/a/b/file")}
    heard = [event["path"] for event in listener.rest() if event["kind"] == "adopted"]
    assert set(heard) == {*expected, "resources/disk/d/tree"}
    assert len(heard) == len(set(heard))
    (top / "7" / "a" / "b" / "later").touch()
    listener.hears("adopted", "resources/disk/d/tree/7/a/b/later")
    shutil.rmtree(top)
    listener.hears("vanished", "resources/disk/d/tree")


def test_tools_of_all_kinds_outside(subject: Mounted, listener: Listener, disk: Path, tmp_path: Path) -> None:
    tool("cp", "-a", disk / "d", disk / "copy")
    listener.hears("adopted", "resources/disk/copy/inner/deep")
    tool("rsync", "-a", f"{disk / 'd'}/", disk / "synced")
    listener.hears("adopted", "resources/disk/synced/inner/deep")
    deep = subject.record(subject.resources / "disk" / "synced" / "inner" / "deep")["id"]
    tool("mv", disk / "synced", tmp_path / "away")
    listener.hears("vanished", "resources/disk/synced")
    for verb in ("stat", "events"):
        assert deep in subject.cli(verb, deep, code=1).err
    assert subject.json("history", deep)
    (tmp_path / "away" / "ignored").touch()
    tool("mv", tmp_path / "away", disk / "back")
    listener.hears("renamed", "resources/disk/back")
    assert subject.record(deep)["path"] == "resources/disk/back/inner/deep"
    (disk / "back" / "inner" / "new").touch()
    listener.hears("adopted", "resources/disk/back/inner/new")
    tool("sed", "-i", "s/old/new/", disk / "d" / "old")
    eventually(lambda: (subject.resources / "disk" / "d" / "old").read_bytes() == b"new", "the new content")


def test_what_is_done_through_the_mount_is_nobody_elses_doing(subject: Mounted, listener: Listener) -> None:
    place = subject.resources / "disk" / "mine"
    place.mkdir()
    for number in range(50):
        (place / f"{number}").write_bytes(b"x" * number)
    for number in range(0, 50, 2):
        os.rename(place / f"{number}", place / f"renamed-{number}")
    for number in range(1, 50, 4):
        (place / f"{number}").unlink()
    (place / "renamed-0").chmod(0o600)
    os.setxattr(place / "renamed-2", "user.mine", b"1")
    os.link(place / "renamed-4", place / "linked")
    os.rename(subject.resources / "disk" / "d", place / "d")
    os.rename(place / "renamed-6", subject.resources / "main" / "away")
    (subject.uploads / "up").write_bytes(b"up")
    os.rename(subject.uploads / "up", place / "up")
    shutil.copytree(subject.resources / "disk" / "mine", subject.resources / "disk" / "copied")
    shutil.rmtree(place)
    subject.wait("--all")
    heard = listener.rest()
    strange = [short(event) for event in heard if event["cause"] in ("outside", "adopt")]
    assert strange == []
    assert len(heard) > 100


def test_reading_tells_nothing(subject: Mounted, listener: Listener, disk: Path) -> None:
    (subject.resources / "disk" / "d" / "old").read_bytes()
    (disk / "d" / "old").read_bytes()
    tool("grep", "-r", "x", disk, code=1)
    assert listener.rest() == []


def test_only_while_somebody_listens(subject: Mounted, disk: Path) -> None:
    assert watch_of(subject) == {"state": "off", "directories": 0, "reason": ""}
    (disk / "before").touch()
    listener = Listener(subject)
    assert subject.events()[-1]["path"].startswith("resources/disk")  # what was there before is found
    assert watch_of(subject)["directories"] == 4
    listener.close()
    with (subject.mountpoint / ".fusestore" / "events").open("rb"):
        assert watch_of(subject)["state"] == "on"


def test_a_reader_of_the_logs_file_listens(subject: Mounted, disk: Path) -> None:
    log = subject.mountpoint / ".fusestore" / "events"
    with log.open("rb", buffering=0) as reader:
        eventually(lambda: watch_of(subject)["state"] == "on", "the root is watched")
        (disk / "d" / "new").touch()
        text = b""

        def told() -> bool:
            nonlocal text
            text += reader.read(1 << 20) or b""
            return b"resources/disk/d/new" in text

        eventually(told, "the new name", SOON_S)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
def test_a_disk_that_is_pulled_is_let_go_of_and_watched_again(tmp_path: Path, deadline_s: float) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "kept").mkdir()
    tool("mount", "-t", "tmpfs", "fusestore", disk)
    try:
        (disk / "d").mkdir()
        with mounted(tmp_path / "own", {"disk": Root(disk, "writers")}) as subject, subject.deadline(deadline_s):
            subject.allow_log("root is (offline|online again)")
            listener = Listener(subject)
            tool("mount", "--bind", disk, tmp_path / "kept")  # another view of the file system, which outlives this one
            try:
                tool("umount", "-l", disk)
                eventually(lambda: watch_of(subject)["state"] == "off", "it is not watched any more")
                tool("mount", "--bind", tmp_path / "kept", disk)
            finally:
                tool("umount", tmp_path / "kept")
            eventually(lambda: watch_of(subject)["state"] == "on", "it is watched again")
            (disk / "d" / "new").touch()
            listener.hears("adopted", "resources/disk/d/new")
            listener.close()
    finally:
        tool("umount", "-l", disk)


@pytest.mark.parametrize(("watch", "state"), [("always", "on"), ("never", None)])
def test_the_config_decides(subject: Mounted, disk: Path, watch: str, state: str | None) -> None:
    subject.umount()
    text = (subject.store / "fusestore.toml").read_text()
    (subject.store / "fusestore.toml").write_text(text.replace("[roots.disk]", f'[roots.disk]\nwatch = "{watch}"'))
    subject.mount()
    if state is None:
        with Line(subject.socket) as line:
            line.call("events", "listen")
            time.sleep(QUIET_S)
            assert watch_of(subject) is None
    else:
        eventually(lambda: watch_of(subject)["state"] == state, "it is watched")
        (disk / "new").touch()
        eventually(lambda: "resources/disk/new" in {event["path"] for event in subject.events()}, "told", SOON_S)
