"""A disk is drained while programs use it, and pulled: the same tree, the same contents, and work goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import Mounted, Root, eventually, mounted
from tests.support.disks import bytes_below, can_loop, loop_disk, removable_disk, run, unmount
from tests.support.tools import failing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.pair import Disks

pytestmark = [pytest.mark.timeout(150), pytest.mark.skipif(not can_loop("ext4"), reason="loop disks need root")]


@pytest.fixture
def lab(tmp_path: Path, disks: Disks, deadline_s: float) -> Iterator[tuple[Mounted, Path]]:
    """(store with the roots hot and cold, hot's disk, which can be pulled)."""
    with loop_disk("ext4", 96) as disk:
        roots = {"hot": Root(disk / "root"), "cold": Root(disks.cold / tmp_path.name)}
        with mounted(tmp_path / "lab", roots) as subject, subject.deadline(deadline_s):
            yield subject, disk


def furnish(top: Path) -> dict[str, bytes]:
    """Some hundred files of every kind below `top`; returns the contents of the regular ones."""
    dice = random.Random(7)
    contents: dict[str, bytes] = {}
    for number in range(300):
        name = f"d{number % 9}/e{number % 4}/f{number}"
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        contents[name] = dice.randbytes(dice.choice((0, 1, 700, 5000, 70_000)))
        path.write_bytes(contents[name])
    for number in range(0, 300, 17):
        path = top / f"d{number % 9}/e{number % 4}/f{number}"
        path.chmod(0o600 + number % 8)
        os.utime(path, ns=(1_600_000_000_000_000_000 + number, 1_700_000_000_000_000_001 + number))
        os.setxattr(path, "user.note", b"%d" % number)
        os.link(path, top / f"link{number}")
        contents[f"link{number}"] = contents[f"d{number % 9}/e{number % 4}/f{number}"]
    with open(top / "sparse", "wb") as file:
        file.seek(3 << 20)
        file.write(b"end")
    contents["sparse"] = (top / "sparse").read_bytes()
    (top / "big").write_bytes(dice.randbytes(8 << 20))
    contents["big"] = (top / "big").read_bytes()
    (top / "d1").chmod(0o750)
    os.symlink("d1/e1", top / "symlink")
    os.mkfifo(top / "fifo", 0o640)
    return contents


def state(store: Mounted) -> dict[str, Any]:
    roots: list[dict[str, Any]] = store.json("status")["roots"]
    return next(root for root in roots if root["name"] == "hot")


def look(top: Path) -> dict[str, object]:
    """What programs see below `top`; of directories and special files only their disk has the xattrs."""
    found: dict[str, object] = {}
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            seen = os.lstat(path)
            facts = (seen.st_ino, seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns)
            if stat.S_ISREG(seen.st_mode):
                found[path] = (*facts, seen.st_nlink, seen.st_size, sorted(os.listxattr(path)))
            else:
                found[path] = (*facts, os.readlink(path) if stat.S_ISLNK(seen.st_mode) else "")
    found.pop(str(top / "log"), None)
    return found


class Busy:
    """A reader of one file that stays open, one of all files in turn, and a writer that appends lines."""

    def __init__(self, top: Path, contents: dict[str, bytes]) -> None:
        self._top = top
        self._contents = contents
        self._stop = threading.Event()
        self.lines = 0
        self.wrong: list[str] = []

    def read_big(self) -> None:
        with open(self._top / "big", "rb") as file:
            while not self._stop.wait(0.01):
                file.seek(0)
                if file.read() != self._contents["big"]:
                    self.wrong.append("big")

    def read_all(self) -> None:
        names = sorted(self._contents)
        while not self._stop.is_set():
            for name in names:
                if self._stop.wait(0.001):
                    return
                if (self._top / name).read_bytes() != self._contents[name]:
                    self.wrong.append(name)

    def write(self) -> None:
        while not self._stop.wait(0.02):
            with open(self._top / "log", "ab") as file:
                file.write(b"%d\n" % self.lines)
            self.lines += 1

    def _until_the_end(self, work: str) -> None:
        try:
            getattr(self, work)()
        except OSError as error:
            if not self._stop.is_set():
                self.wrong.append(f"{work}: {error}")

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        names = ("read_big", "read_all", "write")
        threads = [threading.Thread(target=self._until_the_end, args=(work,)) for work in names]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30)


def test_a_disk_in_use_is_drained_across_a_crash_and_pulled(lab: tuple[Mounted, Path]) -> None:
    store, disk = lab
    top = store.resources / "hot"
    contents = furnish(top)
    store.wait()
    before = look(top)
    plan = store.json("drain", "hot", "--plan", "--to", "cold")
    ((target,), held) = plan["copies"], plan["held"]
    files = len(contents) - len([name for name in contents if name.startswith("link")])
    assert (target["root"], target["files"], held) == ("cold", files, [])
    lines = 0
    busy = Busy(top, contents)
    with busy.at_work():
        assert store.json("drain", "hot", "--to", "cold")["begun"]
        eventually(lambda: (state(store)["drain"]["files_left"] or files) < files - 50, "some files have left", 60)
    assert busy.wrong == []
    lines += busy.lines
    store.kill9()
    store.mount()
    busy = Busy(top, contents)
    with busy.at_work():
        assert not store.json("drain", "hot", "--to", "cold")["begun"]
        eventually(lambda: state(store)["drain"]["files_left"] in (0, 1), "all but what is written has left", 60)
    assert busy.wrong == []
    done = store.json("drain", "hot", "--to", "cold", "--wait")
    assert done["drain"]["state"] == "drained"
    assert "no file is left" in done["drain"]["proof"]
    assert state(store)["state"] == "drained"
    assert len((top / "log").read_bytes().splitlines()) == lines + busy.lines
    assert bytes_below(disk / "root") == ["fifo", "symlink"]  # what has no content is in the index
    copies = {store.where(top / name)[0]["root"] for name in ("big", "log", "link17", "d1/e1/f1")}
    assert copies == {"cold"}

    assert look(top) == before
    store.allow_log("offline")
    unmount(disk, lazy=True)
    eventually(lambda: state(store)["state"] == "offline", "the disk is missed")
    assert store.json("status")["health"] == "ok"
    assert look(top) == before
    assert all((top / name).read_bytes() == content for name, content in contents.items())
    os.rename(top / "big", store.resources / "cold" / "big")
    os.rename(top / "sparse", top / "d1" / "renamed")
    with open(top / "log", "ab") as file:
        file.write(b"after\n")
    (top / "new").write_bytes(b"made when it was gone")
    (top / "link0").unlink()
    with failing(errno.EIO):
        (top / "directory").mkdir()
    store.wait()
    assert (top / "d1" / "renamed").read_bytes() == contents["sparse"]
    store.umount()
    store.mount("--degraded")
    assert (top / "new").read_bytes() == b"made when it was gone"
    assert (top / "log").read_bytes().endswith(b"\nafter\n")
    assert (store.resources / "cold" / "big").read_bytes() == contents["big"]
    kinds = [event["kind"] for event in store.events() if event["kind"].startswith("drain")]
    assert kinds == ["drain-started", "drain-done"]


def test_the_command_says_what_it_does(lab: tuple[Mounted, Path]) -> None:
    store, _ = lab
    file = store.resources / "hot" / "a"
    file.write_bytes(b"a")
    store.wait()
    plan = store.cli("drain", "hot", "--plan", "--to", "cold").out
    assert plan.splitlines()[1].split()[:2] == ["cold", "1"]
    assert "nothing can be put on uploads" in store.cli("drain", "hot", "--to", "uploads", code=1).err
    assert "is being drained" in store.cli("drain", "hot").out
    proof = store.cli("drain", "hot", "--wait").out
    assert "no file is left" in proof
    assert "did not put there" not in proof
    assert "its disk can be pulled" in proof
    assert "drain hot --release" in proof
    (store.resources / "hot" / "b").write_bytes(b"elsewhere")
    assert store.where(store.resources / "hot" / "b")[0]["root"] != "hot"
    assert "ordinary root again" in store.cli("drain", "hot", "--stop").out
    (store.resources / "hot" / "c").write_bytes(b"here")
    assert store.where(store.resources / "hot" / "c")[0]["root"] == "hot"


def test_a_drained_disk_that_is_let_go_of_is_unmounted_and_not_missed(lab: tuple[Mounted, Path]) -> None:
    store, disk = lab
    top = store.resources / "hot"
    contents = furnish(top)
    store.wait()
    before = look(top)
    with open(top / "big", "rb") as reader:
        assert "let go of" in store.cli("drain", "hot", "--to", "cold", "--release").out
        run("umount", str(disk))
        assert reader.read() == contents["big"]
    assert look(top) == before
    assert all((top / name).read_bytes() == content for name, content in contents.items())
    (top / "new").write_bytes(b"made when it was gone")
    for _ in ("now", "after a restart"):
        status = store.cli("status").out
        assert "offline" not in status
        assert (state(store)["state"], state(store)["reason"]) == ("drained", "")
        assert store.json("status")["health"] == "ok"
        store.umount()
        store.mount()
    store.kill9()
    store.mount()
    assert (top / "new").read_bytes() == b"made when it was gone"
    kinds = [event["kind"] for event in store.events() if event["kind"].startswith(("drain", "root-"))]
    assert kinds == ["drain-started", "drain-done", "drain-released"]


def test_a_drained_disk_that_is_let_go_of_is_used_again_when_the_drain_is_ended(
    tmp_path: Path, disks: Disks, deadline_s: float
) -> None:
    with removable_disk("ext4", 96) as disk:
        roots = {"hot": Root(disk.mountpoint / "root"), "cold": Root(disks.cold / tmp_path.name)}
        with mounted(tmp_path / "lab", roots) as store, store.deadline(deadline_s):
            file = store.resources / "hot" / "d" / "a"
            file.parent.mkdir()
            file.write_bytes(b"a")
            store.wait()
            store.cli("drain", "hot", "--to", "cold", "--release")
            run("umount", str(disk.mountpoint))
            disk.put_in()
            assert state(store)["state"] == "drained"
            store.allow_log("online again")
            store.cli("drain", "hot", "--stop")
            eventually(lambda: state(store)["state"] == "online", "it is in use again")
            file.with_name("b").write_bytes(b"b")
            assert [store.where(file.with_name(name))[0]["root"] for name in "ab"] == ["cold", "hot"]
            store.cli("drain", "hot", "--to", "cold", "--release")
            store.allow_log("offline")
            run("umount", str(disk.mountpoint))
            store.cli("drain", "hot", "--stop")
            eventually(lambda: state(store)["state"] == "offline", "it is missed")
            disk.put_in()
            eventually(lambda: state(store)["state"] == "online", "it is in use again")
            assert file.with_name("b").read_bytes() == b"b"


def test_a_file_that_was_dropped_at_home_goes_home_again(lab: tuple[Mounted, Path]) -> None:
    store, disk = lab
    top = store.resources / "cold"
    (top / "d").mkdir()
    contents = {name: name.encode() * 1000 for name in ("a", "d/b", "d/c")}
    for name, content in contents.items():
        (top / name).write_bytes(content)
    store.wait()
    before = look(top)
    store.cli("replicate", top, "--to", "hot", "--wait")
    store.cli("drop", top, "--from", "cold")
    assert {store.where(top / name)[0]["root"] for name in contents} == {"hot"}
    done = store.json("drain", "hot", "--to", "cold", "--wait")
    assert done["drain"]["state"] == "drained"
    assert bytes_below(disk / "root") == []
    assert {(each["root"], each["role"]) for name in contents for each in store.where(top / name)} == {("cold", "home")}
    assert {name: (top / name).read_bytes() for name in contents} == contents
    assert look(top) == before
