"""A restart changes nothing that anybody can see."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same, survey
from tests.support.daemon import Mounted, fusestore
from tests.support.disks import bytes_below
from tests.support.tools import library, tool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)


def identities(top: Path) -> dict[str, tuple[bytes, int, bytes]]:
    """Id, inode number and version of everything below; special files have no user attributes."""
    return {
        str(path): (
            os.getxattr(path, "user.fusestore.id") if path.is_dir() or path.is_file() else b"",
            os.lstat(path).st_ino,
            os.getxattr(path, "user.fusestore.version") if path.is_file() else b"",
        )
        for path in top.rglob("*")
    }


@pytest.mark.parametrize("way", ["umount", "kill -9"])
@pytest.mark.parametrize("place", ["uploads", "downloads", "resources/main"])
def test_names_bytes_attributes_ids_and_numbers_stay(own: Mounted, tmp_path: Path, place: str, way: str) -> None:
    source, top = library(tmp_path / "source"), own.mountpoint / place / "in"
    os.setxattr(source / "json", "user.sample", b"on a directory")
    os.setxattr(source / "json" / "decoder.py", "user.sample", b"on a file")
    os.symlink("decoder.py", source / "json" / "link")
    os.link(source / "json" / "decoder.py", source / "second")
    os.mkfifo(source / "fifo")
    tool("cp", "-a", source, top)
    own.wait("--all")
    before, told, inode = survey(top), identities(top), os.stat(top).st_ino
    if way == "umount":
        own.remount()
    else:
        own.kill9()
        own.mount()
    assert survey(top) == before
    assert_same(source, top)
    assert identities(top) == told
    assert os.stat(top).st_ino == inode


def test_hashes_and_history_stay(own: Mounted) -> None:
    path = own.uploads / "f"
    path.write_bytes(b"x" * 100)
    own.wait(path)
    record, history = own.record(path), own.history(path)
    own.remount()
    assert own.record(path) == record
    assert own.history(path) == history


def test_inode_numbers_are_never_given_out_twice(own: Mounted) -> None:
    seen: set[int] = set()
    for turn in range(4):
        for number in range(50):
            path = own.uploads / f"{turn}-{number}"
            path.touch()
            assert os.stat(path).st_ino not in seen
            seen.add(os.stat(path).st_ino)
            path.unlink()
        if turn % 2:
            own.remount()
        else:
            own.kill9()
            own.mount()


def test_a_second_daemon_on_one_store_is_refused_and_the_first_lives_on(own: Mounted, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    own.allow_log("in use")
    assert fusestore("mount", own.store, tmp_path / "second").code == 4
    (own.uploads / "f").write_bytes(b"x")
    assert own.json("status")["pid"] == own.pid


def test_mount_returns_only_when_the_tree_answers_and_umount_when_the_daemon_is_gone(own: Mounted) -> None:
    for _ in range(5):
        own.umount()
        assert os.listdir(own.mountpoint) == []
        own.mount()
        assert sorted(os.listdir(own.mountpoint)) == ["downloads", "resources", "uploads"]


def test_an_upload_that_a_crash_cut_off_is_interrupted_and_keeps_its_bytes(own: Mounted) -> None:
    handle = os.open(own.uploads / "f", os.O_CREAT | os.O_WRONLY)
    os.write(handle, b"acknowledged bytes")
    own.kill9()
    own.mount()
    try:
        assert (own.uploads / "f").read_bytes() == b"acknowledged bytes"
        assert os.getxattr(own.uploads / "f", "user.fusestore.state") == b"interrupted"
    finally:
        with contextlib.suppress(OSError):  # the handle outlived its daemon
            os.close(handle)


def test_a_file_removed_while_open_is_gone_after_a_crash(own: Mounted) -> None:
    handles = []
    for place in (own.uploads, own.resources / "main"):
        handles.append(os.open(place / "f", os.O_CREAT | os.O_WRONLY))
        os.write(handles[-1], b"soon gone")
        os.unlink(place / "f")
    own.kill9()
    own.mount()
    assert os.listdir(own.uploads) == os.listdir(own.resources / "main") == []
    assert bytes_below(own.store / "uploads") == []
    assert bytes_below(own.store / "main") == []
    for handle in handles:
        with contextlib.suppress(OSError):  # the handle outlived its daemon
            os.close(handle)


def test_start_up_is_quick_with_many_files(own: Mounted) -> None:
    top = own.resources / "main" / "many"
    top.mkdir()
    for number in range(5000):
        (top / f"{number}").touch()
    own.umount()
    start = time.monotonic()
    own.mount()
    assert time.monotonic() - start < 10  # loose: the bench measures; this catches a scan at start
    assert len(os.listdir(top)) == 5000


@pytest.mark.long
def test_after_a_crash_with_ten_thousand_moves_the_mount_answers_soon(travel: Mounted) -> None:
    """In a second more than an empty store takes."""
    hot, cold = travel.resources / "hot", travel.resources / "cold"
    started = time.monotonic()
    travel.remount()
    usual_s = time.monotonic() - started
    for number in range(10_000):
        (hot / f"{number}").write_bytes(b"%d" % number)
    for number in range(10_000):
        os.rename(hot / f"{number}", cold / f"{number}")
    assert travel.json("status")["moves"]["queued"] > 5_000
    travel.kill9()
    started = time.monotonic()
    travel.mount()
    assert (cold / "9999").read_bytes() == b"9999"
    took_s = time.monotonic() - started
    assert took_s <= usual_s + 1
    travel.wait("--all", timeout_s=300)
    assert len(os.listdir(cold)) == 10_000
