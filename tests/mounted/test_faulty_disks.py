"""A disk that fails: the program gets a right errno, nothing is half done, and all is well when the disk is."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Mounted, Root, eventually, mounted
from tests.support.faulty import Faulty, faulty_disk
from tests.support.tools import failing, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(100)
TROUBLE = r"a disk refused|refused|offline|online again|synced|no room|unfinished copies|what no name needs"


@pytest.fixture
def ward(tmp_path: Path, deadline_s: float) -> Iterator[tuple[Mounted, Faulty, Path]]:
    """(store, faulty disk, its root in the mount); the root holds a file, and a directory with another."""
    with (
        faulty_disk(tmp_path / "faulty") as disk,
        mounted(tmp_path / "own", {"sick": Root(disk.mountpoint / "root", "writers")}) as store,
        store.deadline(deadline_s),
    ):
        sick = store.resources / "sick"
        (sick / "d").mkdir()
        (sick / "d" / "inner").write_bytes(b"inner")
        (sick / "file").write_bytes(b"content")
        store.wait("--all")
        store.allow_log(TROUBLE)
        yield store, disk, sick
        eventually(lambda: not store.moves(), "nothing is on its way", 30)
        assert sorted(os.listdir(sick)) == ["d", "file"]
        assert (sick / "file").read_bytes() == b"content"
        assert (sick / "d" / "inner").read_bytes() == b"inner"
        (sick / "well").write_bytes(b"again")
        os.rename(sick / "well", sick / "d" / "well")
        store.wait("--all")
        assert (disk.mountpoint / "root" / "d" / "well").read_bytes() == b"again"


def write(path: Path, data: bytes = b"x" * 100_000) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


CALLS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "create": ("create", lambda sick: write(sick / "new")),
    "mkdir": ("mkdir", lambda sick: os.mkdir(sick / "new")),
    "symlink": ("symlink", lambda sick: os.symlink("x", sick / "new")),
    "mknod": ("mknod", lambda sick: os.mkfifo(sick / "new")),
    "link": ("link", lambda sick: os.link(sick / "file", sick / "new")),
    "unlink": ("unlink", lambda sick: os.unlink(sick / "file")),
    "rename": ("rename", lambda sick: os.rename(sick / "file", sick / "new")),
    "rename over": ("rename", lambda sick: os.rename(sick / "d" / "inner", sick / "file")),
    "rename directory": ("rename", lambda sick: os.rename(sick / "d", sick / "new")),
    "chmod": ("setattr", lambda sick: os.chmod(sick / "file", 0o600)),
    "truncate": ("setattr", lambda sick: os.truncate(sick / "file", 1)),
    "setxattr": ("setxattr", lambda sick: os.setxattr(sick / "file", "user.x", b"x")),
    "open": ("open", lambda sick: (sick / "file").read_bytes()),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "code",
    ["EIO", "ENOSPC", pytest.param("EROFS", marks=pytest.mark.long), pytest.param("EDQUOT", marks=pytest.mark.long)],
)
def test_a_call_that_its_disk_refuses_gets_the_disks_answer_and_changes_nothing(
    hospital: tuple[Mounted, Faulty, Path], call: str, code: str
) -> None:
    _, disk, sick = hospital
    request, act = CALLS[call]
    before = {path: (os.lstat(path).st_ino, os.lstat(path).st_mode) for path in sick.rglob("*")}
    with disk.failing(**{request: code}), failing(getattr(errno, code)):
        act(sick)
    tool("stat", sick / "file", sick / "d")
    assert {path: (os.lstat(path).st_ino, os.lstat(path).st_mode) for path in sick.rglob("*")} == before
    assert (sick / "file").read_bytes() == b"content"
    assert sorted(os.listdir(disk.mountpoint / "root")) == [".fusestore", "d", "file"]


@pytest.fixture(scope="module", params=["none", "writers"])
def hospital(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Mounted, Faulty, Path]]:
    """The same as `ward`, for tests that leave nothing behind."""
    base = tmp_path_factory.mktemp("hospital")
    with (
        faulty_disk(base / "faulty") as disk,
        mounted(base / "own", {"sick": Root(disk.mountpoint / "root", request.param)}) as store,
    ):
        sick = store.resources / "sick"
        (sick / "d").mkdir()
        (sick / "d" / "inner").write_bytes(b"inner")
        (sick / "file").write_bytes(b"content")
        store.wait("--all")
        store.allow_log(TROUBLE)
        yield store, disk, sick


def test_writes_that_fail_are_told_and_what_was_written_before_stays(ward: tuple[Mounted, Faulty, Path]) -> None:
    store, disk, sick = ward
    fd = os.open(sick / "growing", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, b"first")
        for code in ("ENOSPC", "EIO", "EDQUOT"):
            with disk.failing(write=code), failing(getattr(errno, code)):
                os.write(fd, b"x" * 300_000)
        os.write(fd, b" and last")
        os.fsync(fd)
    finally:
        os.close(fd)
    store.wait("--all")
    assert (sick / "growing").read_bytes() == b"first and last"
    assert store.record(sick / "growing")["state"] == "ready"
    os.unlink(sick / "growing")


def test_a_directory_with_an_entry_that_cannot_be_looked_at_lists_all_the_same(
    ward: tuple[Mounted, Faulty, Path],
) -> None:
    _, disk, sick = ward
    root = disk.mountpoint / "root"
    for name in ("bad", "good"):
        (root / name).write_bytes(b"by others")
    with disk.failing(**{"lookup:bad": "EIO", "lookup:file": "EIO"}):
        assert sorted(os.listdir(sick)) == ["d", "file", "good"]
        tool("sleep", "1.1")
        with failing(errno.EIO):
            (sick / "file").stat()
        assert (sick / "good").read_bytes() == b"by others"
    tool("sleep", "1.1")
    assert sorted(os.listdir(sick)) == ["bad", "d", "file", "good"]
    assert (sick / "bad").read_bytes() == b"by others"
    for name in ("bad", "good"):
        (sick / name).unlink()


def test_an_fsync_that_fails_says_so(ward: tuple[Mounted, Faulty, Path]) -> None:
    _, disk, sick = ward
    fd = os.open(sick / "file", os.O_RDWR)
    try:
        with disk.failing(fsync="EIO"), failing(errno.EIO):
            os.fsync(fd)
        os.fsync(fd)
    finally:
        os.close(fd)


def test_a_close_that_fails_is_a_reason_to_read_the_file_again(ward: tuple[Mounted, Faulty, Path]) -> None:
    store, disk, sick = ward
    with disk.failing(flush="EIO"):  # as a network's disk says what it has not taken
        write(sick / "new")
        before = store.record(sick / "new")["state"]
    store.wait("--all")
    assert before == "writing"
    assert store.record(sick / "new")["state"] == "ready"
    os.unlink(sick / "new")


def test_a_disk_that_answers_nothing_but_eio_keeps_its_tree_and_is_back_by_itself(
    ward: tuple[Mounted, Faulty, Path],
) -> None:
    store, disk, sick = ward
    with disk.failing(all="EIO"):
        for call in (
            (sick / "file").read_bytes,
            lambda: write(sick / "new"),
            lambda: os.unlink(sick / "file"),
            lambda: os.rename(sick / "file", sick / "d" / "file"),
        ):
            with failing(errno.EIO):
                call()
        (store.resources / "main" / "other").write_bytes(b"others work")
        eventually(lambda: store.json("status")["health"] != "ok", "the root is known to be offline", 20)
        eventually(lambda: sorted(os.listdir(sick)) == ["d", "file"], "the tree lists", 20)
        assert "file" in tool("ls", "-la", sick)
        with failing(errno.EIO):
            (sick / "file").read_bytes()
    eventually(lambda: store.json("status")["health"] == "ok", "the root is online", 20)


@pytest.mark.parametrize("fault", ["write ENOSPC", "create EIO", "rename EIO"])
def test_a_move_to_a_disk_that_fails_waits_and_goes_on_when_it_is_well(
    ward: tuple[Mounted, Faulty, Path], fault: str
) -> None:
    store, disk, sick = ward
    tree = store.resources / "main" / "tree"
    (tree / "sub").mkdir(parents=True)
    for number in range(5):
        (tree / "sub" / f"{number}").write_bytes(b"%d" % number * 50_000)
    (tree / "link").symlink_to("sub/1")
    store.wait("--all")
    request, _, code = fault.partition(" ")
    with disk.failing(**{request: code}):
        os.rename(tree, sick / "tree")
        eventually(lambda: [move["reason"] for move in store.moves()] > [""], "the move waits", 20)
        assert (sick / "tree" / "sub" / "3").read_bytes() == b"3" * 50_000
    eventually(lambda: not store.moves(), "the move is over", 30)
    for number in range(5):
        assert (disk.mountpoint / "root" / "tree" / "sub" / f"{number}").read_bytes() == b"%d" % number * 50_000
    assert not any((disk.mountpoint / "root" / ".fusestore" / "incoming").iterdir())
    tool("rm", "-r", sick / "tree")


@pytest.mark.parametrize("fault", ["read EIO", "rmdir EIO"])
def test_a_move_from_a_disk_that_fails_goes_on_when_it_is_well(ward: tuple[Mounted, Faulty, Path], fault: str) -> None:
    store, disk, sick = ward
    tree = sick / "tree"
    (tree / "sub").mkdir(parents=True)
    for number in range(5):
        (tree / "sub" / f"{number}").write_bytes(b"%d" % number * 50_000)
    store.wait("--all")
    tool("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches || true")
    request, _, code = fault.partition(" ")
    target = store.resources / "main" / "tree"
    with disk.failing(**{request: code}):
        os.rename(tree, target)
        if request in ("read", "open"):
            eventually(lambda: [move["reason"] for move in store.moves()] > [""], "the move waits", 20)
        else:
            eventually((store.store / "main" / "tree" / "sub" / "3").exists, "the copies are there", 20)
    eventually(lambda: not store.moves(), "the move is over", 30)
    assert (target / "sub" / "3").read_bytes() == b"3" * 50_000
    if request in ("unlink", "rmdir"):
        store.remount()  # what a disk refused to destroy is asked for again then, and once a minute
    eventually(lambda: not (disk.mountpoint / "root" / "tree").exists(), "nothing is left at the source", 20)


def test_a_disk_that_hangs_while_nobody_uses_it_is_offline_within_seconds_and_back_when_it_answers(
    ward: tuple[Mounted, Faulty, Path],
) -> None:
    store, disk, sick = ward
    os.kill(disk.pid, signal.SIGSTOP)
    try:
        (store.resources / "main" / "before").write_bytes(b"others work")
        eventually(lambda: "root is offline" in store.log.read_text(), "the root is known to be offline", 20)
        assert "sick is offline" in store.json("status")["health"]
        tool("ls", "-la", sick, timeout_s=20)
        with failing(errno.EIO):
            (sick / "file").read_bytes()
        (store.resources / "main" / "after").write_bytes(b"others work")
        tool("df", store.resources, timeout_s=20)
    finally:
        os.kill(disk.pid, signal.SIGCONT)
    eventually(lambda: store.json("status")["health"] == "ok", "the root is online", 20)
