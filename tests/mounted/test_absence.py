"""A disk that is pulled out under a root, and put back: its tree stands, its bytes are an error, and all goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.daemon import Mounted, Root, eventually, mounted
from tests.support.disks import Removable, can_loop, removable_disk
from tests.support.tools import failing, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not can_loop("ext4"), reason="loop disks need root"),
]
MIB = 1 << 20
GONE = r"root is offline|online again|an unfinished change waits|refused|still on its disk"


@pytest.fixture(params=["writers", pytest.param("none", marks=pytest.mark.long)])
def outside(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def lab(tmp_path: Path, outside: str, deadline_s: float) -> Iterator[tuple[Mounted, Removable, Path]]:
    """(store, the disk under its root `far`, the root in the mount), with some files on it."""
    with (
        removable_disk("ext4", 300) as disk,
        mounted(tmp_path / "own", {"far": Root(disk.mountpoint / "root", outside)}) as store,
        store.deadline(deadline_s),
    ):
        store.allow_log(GONE)
        far = store.resources / "far"
        (far / "d" / "sub").mkdir(parents=True)
        for number in range(5):
            (far / "d" / "sub" / f"{number}").write_bytes(b"%d" % number * 50_000)
        (far / "file").write_bytes(b"content")
        (far / "link").symlink_to("d/sub/1")
        os.setxattr(far / "file", "user.colour", b"red")
        store.wait("--all")
        yield store, disk, far


def pull(store: Mounted, disk: Removable) -> None:
    disk.pull()
    eventually(lambda: state(store) == "offline", "the root is known to be offline", 20)


def put_in(store: Mounted, disk: Removable) -> None:
    eventually(lambda: not disk.is_in_use, "nobody holds on to the disk", 60)
    disk.put_in()
    eventually(lambda: state(store) == "online", "the root is back by itself", 20)


def root(store: Mounted) -> dict[str, object]:
    found: dict[str, object] = next(each for each in store.json("status")["roots"] if each["name"] == "far")
    return found


def state(store: Mounted) -> object:
    return root(store)["state"]


def names(top: Path) -> str:
    return tool("find", top, "-printf", r"%P %y %m %l\n")


def tree(top: Path) -> str:
    return tool("find", top, "-printf", r"%P %y %m %s %n %T@ %l\n")


def test_the_tree_stands_its_bytes_are_an_error_and_all_is_there_again_when_the_disk_is(
    lab: tuple[Mounted, Removable, Path],
) -> None:
    store, disk, far = lab
    before = tree(far)
    room = tool("df", "--output=size", store.mountpoint)
    since = store.json("status")["index"]["last_seq"]
    pull(store, disk)
    eventually(lambda: not disk.is_in_use, "it can be taken out")
    assert tree(far) == before
    assert "file" in tool("ls", "-la", far)
    tool("stat", far / "d" / "sub" / "1")
    assert tool("df", "--output=size", store.mountpoint) != room
    with failing(errno.ENOENT):
        (far / "never").stat()
    (store.uploads / "u").write_bytes(b"u")
    calls: dict[str, Callable[[], object]] = {
        "open": lambda: os.open(far / "d" / "sub" / "1", os.O_RDONLY),
        "open to write": lambda: os.open(far / "file", os.O_WRONLY),
        "create": lambda: (far / "new").write_bytes(b"new"),
        "mkdir": (far / "d" / "new").mkdir,
        "symlink": lambda: (far / "new").symlink_to("file"),
        "link": lambda: os.link(far / "file", far / "new"),
        "unlink": (far / "file").unlink,
        "rename": lambda: (far / "file").rename(far / "d" / "file"),
        "rename a directory": lambda: (far / "d" / "sub").rename(far / "sub"),
        "rename to another root": lambda: (far / "file").rename(store.resources / "main" / "file"),
        "rename from another root": lambda: (store.uploads / "u").rename(far / "u"),
        "chmod": lambda: (far / "file").chmod(0o600),
        "truncate": lambda: os.truncate(far / "file", 1),
        "setxattr": lambda: os.setxattr(far / "file", "user.colour", b"blue"),
        "getxattr": lambda: os.getxattr(far / "file", "user.colour"),
        "listxattr": lambda: os.listxattr(far / "file"),
        "listxattr of a directory": lambda: os.listxattr(far / "d"),
    }
    for what, call in calls.items():
        with failing(errno.EIO):
            call()
            pytest.fail(what)
    status = store.json("status")
    assert "far is offline" in status["health"]
    assert root(store)["reason"]
    assert "since 20" in store.cli("status").out
    (store.resources / "main" / "other").write_bytes(b"others work")

    put_in(store, disk)
    assert tree(far) == before
    assert (far / "file").read_bytes() == b"content"
    assert os.getxattr(far / "file", "user.colour") == b"red"
    (far / "new").write_bytes(b"new")
    store.wait("--all")
    assert_same(disk.mountpoint / "root", far, ignore=frozenset({"top", "xattrs"}))
    kinds = [event["kind"] for event in store.events(since) if event["root"] == "far"]
    assert kinds[:2] == ["root-offline", "root-online"]
    assert store.json("status")["health"] == "ok"


def test_open_files_are_an_error_meanwhile_and_go_on_afterwards(lab: tuple[Mounted, Removable, Path]) -> None:
    store, disk, far = lab
    reader = os.open(far / "d" / "sub" / "1", os.O_RDONLY)
    writer = os.open(far / "growing", os.O_RDWR | os.O_CREAT)
    doomed = os.open(far / "doomed", os.O_RDWR | os.O_CREAT)
    try:
        os.write(writer, b"first")
        os.unlink(far / "doomed")
        pull(store, disk)
        os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
        for call in (
            lambda: os.pread(reader, 10, 0),
            lambda: os.write(writer, b"lost"),
            lambda: os.ftruncate(writer, 1),
            lambda: os.fsync(writer),
            lambda: os.write(doomed, b"lost"),
        ):
            with failing(errno.EIO):
                call()
        assert os.fstat(writer).st_size == 5
        put_in(store, disk)
        assert os.pread(reader, 10, 0) == b"1" * 10
        assert os.pwrite(writer, b" and last", 5) == 9
        os.fsync(writer)
        with failing(errno.EIO):
            os.write(doomed, b"lost")
    finally:
        for fd in (reader, writer, doomed):
            os.close(fd)
    store.wait("--all")
    assert (disk.mountpoint / "root" / "growing").read_bytes() == b"first and last"
    assert store.record(far / "growing")["state"] == "ready"


def test_a_file_whose_bytes_may_have_gone_with_the_disk_is_not_taken_for_complete(
    lab: tuple[Mounted, Removable, Path],
) -> None:
    store, disk, far = lab
    with contextlib.ExitStack() as stack:
        whole, patched, synced = (
            os.open(far / name, os.O_RDWR | os.O_CREAT) for name in ("whole", "patched", "synced")
        )
        for fd in (whole, patched, synced):
            stack.callback(os.close, fd)
        os.write(whole, b"from its beginning to its end")
        for fd in (patched, synced):
            os.pwrite(fd, b"second", 6)
            os.pwrite(fd, b"first ", 0)
        os.fsync(synced)
        pull(store, disk)
    put_in(store, disk)
    store.allow_log("may not be what was written")
    store.wait("--all")
    assert store.record(far / "whole")["state"] == "ready"  # it was hashed while it was written, and reads the same
    assert store.record(far / "synced")["state"] == "ready"
    assert store.record(far / "patched")["state"] == "interrupted"
    assert (far / "patched").read_bytes() == b"first second"
    assert "may have lost what was written" in store.cli("history", far / "patched").out
    os.truncate(far / "patched", 5)
    store.wait("--all")
    assert store.record(far / "patched")["state"] == "ready"


@pytest.mark.parametrize("outside", ["writers"], indirect=True)
def test_who_reads_a_file_that_has_a_replica_does_not_notice(lab: tuple[Mounted, Removable, Path]) -> None:
    store, disk, far = lab
    store.cli("replicate", far / "d" / "sub" / "1", "--to", "main", "--wait")
    reader = os.open(far / "d" / "sub" / "1", os.O_RDONLY)
    other = os.open(far / "d" / "sub" / "2", os.O_RDONLY)
    try:
        pull(store, disk)
        assert os.pread(reader, 10, 20_000) == b"1" * 10
        assert (far / "d" / "sub" / "1").read_bytes() == b"1" * 50_000
        with failing(errno.EIO):
            os.pread(other, 10, 20_000)
        put_in(store, disk)
        assert os.pread(reader, 10, 30_000) == b"1" * 10
        assert os.pread(other, 10, 20_000) == b"2" * 10
    finally:
        os.close(reader)
        os.close(other)
    assert {place["state"] for place in store.where(far / "d" / "sub" / "1") if place["role"] == "replica"} == {
        "current"
    }


@pytest.mark.parametrize("outside", ["writers"], indirect=True)
def test_what_others_did_to_the_disk_meanwhile_is_seen(lab: tuple[Mounted, Removable, Path]) -> None:
    store, disk, far = lab
    held = os.open(far / "d" / "sub" / "2", os.O_RDONLY)
    id = os.getxattr(far / "file", "user.fusestore.id")
    try:
        pull(store, disk)
        disk.put_in()
        outside = disk.mountpoint / "root"
        (outside / "file").rename(outside / "d" / "renamed")
        (outside / "d" / "sub" / "0").unlink()
        (outside / "d" / "sub" / "1").write_bytes(b"changed")
        (outside / "d" / "sub" / "2").rename(outside / "kept")
        (outside / "d" / "sub" / "2").write_bytes(b"another")
        (outside / "new").mkdir()
        eventually(lambda: state(store) == "online", "the root is back by itself", 20)
        with failing(errno.EIO, errno.ESTALE):
            os.pread(held, 1, 20_000)
    finally:
        os.close(held)
    assert_same(outside, far, ignore=frozenset({"top", "xattrs"}))
    assert os.getxattr(far / "d" / "renamed", "user.fusestore.id") == id
    store.wait("--all")
    assert store.json("verify", "--root", "far")["bad"] == []


def test_a_disk_that_was_pulled_between_two_mounts_lists_and_is_taken_up_when_it_is_there(
    lab: tuple[Mounted, Removable, Path],
) -> None:
    store, disk, far = lab
    fd = os.open(far / "cut off", os.O_WRONLY | os.O_CREAT)
    before = names(far)
    os.write(fd, b"x")
    store.kill9()
    with contextlib.suppress(OSError):
        os.close(fd)
    disk.pull()
    store.cli("mount", store.store, store.mountpoint, code=5)
    store.mount("--degraded")
    assert state(store) == "offline"
    assert names(far) == before
    with failing(errno.EIO):
        (far / "file").read_bytes()
    put_in(store, disk)
    store.wait("--all")
    assert (far / "file").read_bytes() == b"content"
    assert store.record(far / "cut off")["state"] == "ready"
    kinds = [event["kind"] for event in store.events() if event["kind"].startswith("root-")]
    assert kinds == ["root-offline", "root-online"]


@pytest.mark.long
@pytest.mark.parametrize("outside", ["none"], indirect=True)
def test_a_disk_that_another_store_took_meanwhile_stays_away(
    lab: tuple[Mounted, Removable, Path], tmp_path: Path
) -> None:
    store, disk, far = lab
    pull(store, disk)
    disk.put_in()
    marker = disk.mountpoint / "root" / ".fusestore" / "root.toml"
    kept = marker.read_text()
    other = "01234567-89ab-4def-8123-456789abcdef"
    lines = [f'store = "{other}"' if line.startswith("store =") else line for line in kept.splitlines()]
    disk.pull()
    disk.put_in()
    marker.write_text("\n".join(lines) + "\n")
    eventually(lambda: "another store" in str(root(store)["reason"]), "the root is refused", 20)
    assert state(store) == "offline"
    with failing(errno.EIO):
        (far / "file").read_bytes()
    marker.write_text(kept)
    eventually(lambda: state(store) == "online", "the root is back", 20)
    assert (far / "file").read_bytes() == b"content"


@pytest.mark.parametrize("outside", ["writers"], indirect=True)
def test_what_was_never_listed_is_an_error_not_an_empty_directory(lab: tuple[Mounted, Removable, Path]) -> None:
    store, disk, far = lab
    (disk.mountpoint / "root" / "theirs" / "deep").mkdir(parents=True)
    tool("sleep", "1.1")
    tool("ls", "-l", far)
    pull(store, disk)
    assert (far / "theirs").is_dir()
    with failing(errno.EIO):
        os.listdir(far / "theirs")
    with failing(errno.EIO):
        (far / "theirs" / "deep").stat()
    put_in(store, disk)
    assert os.listdir(far / "theirs") == ["deep"]


@pytest.mark.parametrize("gone", ["source", "target"])
@pytest.mark.parametrize("outside", ["none"], indirect=True)
def test_a_copy_on_its_way_does_not_hold_a_disk_that_is_pulled(lab: tuple[Mounted, Removable, Path], gone: str) -> None:
    store, disk, far = lab
    store.umount()
    store.configure("moves", rate=2 * MIB)
    store.mount()
    main = store.resources / "main"
    start, end = (far, main) if gone == "source" else (main, far)
    (start / "big").write_bytes(os.urandom(100 * MIB))
    store.wait("--all")
    os.rename(start / "big", end / "big")
    eventually(lambda: any(move["bytes_done"] for move in store.moves()), "it is being copied")
    pull(store, disk)
    eventually(lambda: not disk.is_in_use, "nobody holds on to the disk", 15)  # what is left takes a minute
    store.cli("moves", "pause", "1")
    put_in(store, disk)


@pytest.mark.long
@pytest.mark.parametrize("gone", ["source", "target"])
@pytest.mark.parametrize("outside", ["none"], indirect=True)
def test_a_move_pauses_while_a_disk_is_away_and_goes_on_by_itself(
    lab: tuple[Mounted, Removable, Path], gone: str
) -> None:
    store, disk, far = lab
    main = store.resources / "main"
    start, end = (far, main) if gone == "source" else (main, far)
    content = random.Random(1).randbytes(100 * MIB)
    (start / "tree" / "sub").mkdir(parents=True)
    (start / "tree" / "big").write_bytes(content)
    for number in range(20):
        (start / "tree" / "sub" / f"{number}").write_bytes(content[number : number + 10_000])
    store.wait("--all")
    os.rename(start / "tree", end / "tree")
    incoming = (disk.mountpoint / "root" if gone == "target" else store.store / "main") / ".fusestore" / "incoming"
    eventually(lambda: any(each.stat().st_size > 5 * MIB for each in incoming.iterdir()), "the big file is on its way")
    disk.yank()
    eventually(lambda: any("offline" in move["reason"] for move in store.moves()), "the move waits and says why", 20)
    assert sorted(os.listdir(end / "tree")) == ["big", "sub"]
    put_in(store, disk)
    eventually(lambda: not store.moves(), "the move is over", 60)
    store.wait("--all")
    assert (end / "tree" / "big").read_bytes() == content
    for number in range(20):
        assert (end / "tree" / "sub" / f"{number}").read_bytes() == content[number : number + 10_000]
    assert {place["root"] for place in store.where(end / "tree" / "big")} == {"main" if gone == "source" else "far"}
    assert not any(incoming.iterdir())
    left = disk.mountpoint / "root" if gone == "source" else store.store / "main"
    eventually(lambda: not (left / "tree").exists(), "nothing is left at the source", 30)


@pytest.mark.parametrize("outside", ["writers"], indirect=True)
def test_a_disk_that_comes_back_almost_empty_is_stopped_and_asked_about(
    lab: tuple[Mounted, Removable, Path],
) -> None:
    store, disk, far = lab
    store.allow_log("root is doubted")
    for number in range(20):
        (far / "d" / f"more {number}").write_bytes(b"more")
    store.wait("--all")
    before = names(far)
    pull(store, disk)
    disk.put_in()
    top = disk.mountpoint / "root"
    tool("cp", "-a", top / "d", disk.mountpoint / "saved")
    tool("rm", "-r", top / "d")
    eventually(lambda: state(store) == "doubted", "the root is doubted", 20)
    assert names(far) == before
    with failing(errno.EIO):
        (far / "file").read_bytes()
    with failing(errno.EIO):
        (far / "d" / "new").mkdir()
    status = store.json("status")
    assert "fusestore root accept far" in status["health"]
    assert "fusestore root retry far" in store.cli("status").out
    assert [event["root"] for event in store.events() if event["kind"] == "root-doubted"] == ["far"]
    store.cli("root", "retry", "far", code=1)
    store.remount()
    assert state(store) == "doubted"
    assert names(far) == before

    (disk.mountpoint / "saved").rename(top / "d")
    store.cli("root", "retry", "far")
    assert state(store) == "online"
    assert names(far) == before
    assert (far / "d" / "sub" / "1").read_bytes() == b"1" * 50_000

    tool("rm", "-r", top / "d")
    tool("sleep", "1.1")
    assert "d" in os.listdir(far)
    assert store.json("root", "accept", "far")["online"]
    assert sorted(os.listdir(far)) == ["file", "link"]
    assert store.json("status")["health"] == "ok"


@pytest.mark.parametrize("outside", ["writers"], indirect=True)
def test_a_large_directory_that_others_remove_is_gone_and_nobody_is_asked(lab: tuple[Mounted, Removable, Path]) -> None:
    store, disk, far = lab
    for name in ("large", "larger", "largest"):
        (far / name).mkdir()
        for number in range(200):
            (far / name / f"{number}").touch()
    tool("rm", "-r", disk.mountpoint / "root" / "large")
    tool("sleep", "1.1")
    assert "large" not in os.listdir(far)
    tool("rm", "-r", far / "larger", far / "largest", far / "d")
    tool("sleep", "1.1")
    assert sorted(os.listdir(far)) == ["file", "link"]
    assert state(store) == "online"
