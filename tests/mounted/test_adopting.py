"""What already lies in a root is there at once; what others change on its disk is seen, and never followed outside."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.daemon import Mounted, Root, eventually, mounted
from tests.support.tools import library, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)
SOON_S = 3  # kernel caches of such a root live one second


@pytest.fixture(params=["readers", "writers", "none"])
def adopted(request: pytest.FixtureRequest, tmp_path: Path, deadline_s: float) -> Iterator[Mounted]:
    """A store with a root that was full before it was declared."""
    library(tmp_path / "disk")
    roots = {"disk": Root(tmp_path / "disk", request.param)}
    with mounted(tmp_path / "own", roots) as subject, subject.deadline(deadline_s):
        yield subject


@pytest.fixture
def open_root(tmp_path: Path, deadline_s: float) -> Iterator[tuple[Mounted, Path, Path]]:
    """(store, the root in the mount, the same directory on the disk) of a root that others write to."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "old").write_bytes(b"old")
    (disk / "d").mkdir()
    (disk / "d" / "inner").write_bytes(b"inner")
    with mounted(tmp_path / "own", {"disk": Root(disk, "writers")}) as subject, subject.deadline(deadline_s):
        yield subject, subject.resources / "disk", disk


def identity(path: Path) -> bytes:
    return os.getxattr(path, "user.fusestore.id")


def test_existing_files_are_shown_at_once_with_ids_and_unchanged_on_the_disk(adopted: Mounted, tmp_path: Path) -> None:
    shown = adopted.resources / "disk"
    tool("cp", "-a", tmp_path / "disk", tmp_path / "reference")
    assert_same(tmp_path / "reference", shown, ignore=frozenset({"top"}))
    ids = {identity(path) for path in shown.rglob("*")}
    assert len(ids) == sum(1 for _ in shown.rglob("*"))
    assert_same(tmp_path / "reference", tmp_path / "disk", ignore=frozenset({"top"}))


def test_ids_of_adopted_files_outlive_a_restart(adopted: Mounted) -> None:
    shown = adopted.resources / "disk"
    before = {path: (identity(path), os.lstat(path).st_ino) for path in shown.rglob("*")}
    adopted.remount()
    assert {path: (identity(path), os.lstat(path).st_ino) for path in shown.rglob("*")} == before


def test_adopted_files_can_be_read_written_renamed_and_removed(adopted: Mounted, tmp_path: Path) -> None:
    shown, disk = adopted.resources / "disk", tmp_path / "disk"
    with open(shown / "json" / "decoder.py", "ab") as file:
        file.write(b"# appended\n")
    os.rename(shown / "json" / "encoder.py", shown / "email" / "moved.py")
    shutil.rmtree(shown / "asyncio")
    assert (disk / "json" / "decoder.py").read_bytes().endswith(b"# appended\n")
    assert (disk / "email" / "moved.py").exists()
    assert not (disk / "asyncio").exists()


def test_adoption_survives_kill_9_in_its_middle(adopted: Mounted, tmp_path: Path) -> None:
    shown = adopted.resources / "disk"
    before = {path: identity(path) for path in list(shown.rglob("*"))[:100]}
    adopted.kill9()
    adopted.mount()
    assert {path: identity(path) for path in before} == before
    assert_same(tmp_path / "disk", shown, ignore=frozenset({"top", "xattrs"}))


def test_an_adopted_tree_moves_to_another_root(adopted: Mounted, tmp_path: Path) -> None:
    tool("cp", "-a", tmp_path / "disk", tmp_path / "reference")
    shutil.rmtree(tmp_path / "reference" / ".fusestore", ignore_errors=True)
    os.rename(adopted.resources / "disk" / "json", adopted.resources / "main" / "json")
    adopted.wait("--all")
    assert_same(tmp_path / "reference" / "json", adopted.store / "main" / "json")
    assert not (tmp_path / "disk" / "json").exists()


def test_bytes_appended_and_cut_outside_are_seen(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    assert (shown / "old").read_bytes() == b"old"
    before = identity(shown / "old")
    with open(disk / "old", "ab") as file:
        file.write(b" and more")
    eventually(lambda: (shown / "old").read_bytes() == b"old and more", "the appended bytes", SOON_S)
    os.truncate(disk / "old", 2)
    eventually(lambda: (shown / "old").read_bytes() == b"ol", "the cut", SOON_S)
    assert identity(shown / "old") == before


def test_a_change_of_the_same_size_outside_is_seen(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    assert (shown / "old").read_bytes() == b"old"
    with open(disk / "old", "r+b") as file:
        file.write(b"new")
    eventually(lambda: (shown / "old").read_bytes() == b"new", "the new bytes", SOON_S)


def test_attributes_changed_outside_are_seen(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    os.stat(shown / "old")
    os.chmod(disk / "old", 0o700)
    os.utime(disk / "old", ns=(5, 10**18))
    os.setxattr(disk / "old", "user.outside", b"x")
    seen = lambda: (os.stat(shown / "old").st_mode & 0o777, os.stat(shown / "old").st_mtime_ns) == (0o700, 10**18)  # noqa: E731  # a condition
    eventually(seen, "mode and time", SOON_S)
    assert os.getxattr(shown / "old", "user.outside") == b"x"


def test_names_that_come_and_go_outside_are_seen(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    assert sorted(os.listdir(shown)) == ["d", "old"]
    (disk / "new").write_bytes(b"new")
    (disk / "d" / "sub").mkdir()
    (disk / "d" / "sub" / "leaf").write_bytes(b"leaf")
    eventually(lambda: sorted(os.listdir(shown)) == ["d", "new", "old"], "the new name", SOON_S)
    assert (shown / "new").read_bytes() == b"new"
    assert (shown / "d" / "sub" / "leaf").read_bytes() == b"leaf"
    (disk / "old").unlink()
    shutil.rmtree(disk / "d")
    eventually(lambda: os.listdir(shown) == ["new"], "the names are gone", SOON_S)
    eventually(lambda: not (shown / "old").exists(), "the name is gone", SOON_S)


def test_a_name_asked_for_before_it_existed_is_found_when_it_comes(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    assert not (shown / "late").exists()
    (disk / "late").write_bytes(b"late")
    eventually((shown / "late").exists, "the late name", SOON_S)


def test_a_rename_outside_keeps_the_id(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    file_id, directory_id, inner_id = identity(shown / "old"), identity(shown / "d"), identity(shown / "d" / "inner")
    os.rename(disk / "d", disk / "e")
    os.rename(disk / "old", disk / "e" / "older")
    eventually(lambda: os.listdir(shown) == ["e"], "the renamed directory", SOON_S)
    eventually((shown / "e" / "older").exists, "the renamed file", SOON_S)
    assert identity(shown / "e") == directory_id
    assert identity(shown / "e" / "inner") == inner_id
    assert identity(shown / "e" / "older") == file_id


def test_a_file_replaced_outside_is_another_file(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    before = identity(shown / "old")
    (disk / "tmp").write_bytes(b"another")
    os.rename(disk / "tmp", disk / "old")
    eventually(lambda: (shown / "old").read_bytes() == b"another", "the other file", SOON_S)
    assert identity(shown / "old") != before


def test_a_copy_made_with_its_attributes_gets_an_id_of_its_own(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    before = identity(shown / "old")
    tool("cp", "-a", disk / "old", disk / "copy")
    eventually((shown / "copy").exists, "the copy", SOON_S)
    assert identity(shown / "copy") != before
    assert identity(shown / "old") == before


def test_changes_made_while_nothing_was_mounted_are_seen(open_root: tuple[Mounted, Path, Path]) -> None:
    subject, shown, disk = open_root
    ids = identity(shown / "old"), identity(shown / "d" / "inner")
    subject.umount()
    os.rename(disk / "old", disk / "d" / "moved")
    (disk / "d" / "inner").write_bytes(b"changed at night")
    (disk / "new").write_bytes(b"new")
    subject.mount()
    assert sorted(os.listdir(shown)) == ["d", "new"]
    assert (shown / "d" / "inner").read_bytes() == b"changed at night"
    assert (identity(shown / "d" / "moved"), identity(shown / "d" / "inner")) == ids


def test_a_symlink_planted_on_the_disk_leads_nowhere_for_the_daemon(
    open_root: tuple[Mounted, Path, Path], tmp_path: Path
) -> None:
    _, shown, disk = open_root
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "inner").write_bytes(b"not yours")
    assert (shown / "d" / "inner").read_bytes() == b"inner"
    os.rename(disk / "d", tmp_path / "away")
    os.symlink(secret, disk / "d")
    eventually((shown / "d").is_symlink, "the symlink is shown as what it is", SOON_S)
    assert os.readlink(shown / "d") == str(secret)
    (disk / "file").write_bytes(b"x")
    eventually((shown / "file").exists, "the file", SOON_S)
    (disk / "file").unlink()
    os.symlink(secret / "inner", disk / "file")
    eventually((shown / "file").is_symlink, "the second symlink", SOON_S)
    assert (secret / "inner").read_bytes() == b"not yours"


def test_fifos_and_devices_planted_on_the_disk_block_nobody(open_root: tuple[Mounted, Path, Path]) -> None:
    subject, shown, disk = open_root
    assert (shown / "old").read_bytes() == b"old"
    (disk / "old").unlink()
    os.mkfifo(disk / "old")
    os.mkfifo(disk / "pipe")
    if os.geteuid() == 0:
        os.mknod(disk / "tty", 0o20666, os.makedev(5, 0))
    tool("ls", "-l", shown, timeout_s=20)
    eventually(lambda: (shown / "pipe").is_fifo() and (shown / "old").is_fifo(), "shown as what they are", SOON_S)
    (shown / "alive").write_bytes(b"yes")
    assert subject.json("status")["pid"] == subject.pid


def test_a_directory_named_like_the_marker_is_hidden_only_at_the_top(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    assert (disk / ".fusestore" / "root.toml").exists()
    assert ".fusestore" not in os.listdir(shown)
    (disk / "d" / ".fusestore").mkdir()
    (disk / "d" / ".fusestore" / "theirs").write_bytes(b"x")
    tool("ls", "-la", shown / "d", timeout_s=20)


def test_another_file_system_mounted_inside_a_root_is_not_adopted(
    open_root: tuple[Mounted, Path, Path],
) -> None:
    subject, shown, disk = open_root
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    subject.allow_log("Another file system is mounted over it")
    (disk / "inner-mount").mkdir()
    (disk / "inner-mount" / "ours").write_bytes(b"ours")
    eventually((shown / "inner-mount" / "ours").exists, "the file that is about to be hidden", SOON_S)
    before = identity(shown / "inner-mount" / "ours")
    tool("mount", "-t", "tmpfs", "none", disk / "inner-mount")
    try:
        (disk / "inner-mount" / "foreign").write_bytes(b"x")
        tool("sh", "-c", f"ls -lR '{shown}' || true", timeout_s=20)
        assert not (shown / "inner-mount" / "foreign").exists()
        tool("sleep", "1.1")
        assert os.listdir(shown / "inner-mount") == ["ours"]
    finally:
        tool("umount", disk / "inner-mount")
    eventually(lambda: (shown / "inner-mount" / "ours").read_bytes() == b"ours", "what was hidden", SOON_S)
    assert identity(shown / "inner-mount" / "ours") == before


def test_a_directory_of_thousands_changed_outside_is_complete(open_root: tuple[Mounted, Path, Path]) -> None:
    _, shown, disk = open_root
    big = disk / "big"
    big.mkdir()
    for number in range(3000):
        (big / f"{number:05}").touch()
    eventually(lambda: (shown / "big").exists() and len(os.listdir(shown / "big")) == 3000, "all of them", 20)
    for number in range(0, 3000, 2):
        (big / f"{number:05}").unlink()
    eventually(lambda: len(os.listdir(shown / "big")) == 1500, "half of them", 20)


@pytest.mark.parametrize("start", ["uploads", "resources/main"])
def test_what_moves_to_where_others_write_is_watched_from_then_on(
    open_root: tuple[Mounted, Path, Path], start: str
) -> None:
    """Whatever the kernel was told to remember where nobody else wrote."""
    subject, shown, disk = open_root
    top = subject.mountpoint / start / "t"
    (top / "d").mkdir(parents=True)
    (top / "d" / "f").write_bytes(b"ours")
    subject.wait("--all")
    os.rename(top, shown / "t")
    subject.wait("--all")
    here, there = shown / "t" / "d", disk / "t" / "d"
    assert (here / "f").read_bytes() == b"ours"
    assert not (here / "later").exists()
    with open(there / "f", "ab") as file:
        file.write(b" and theirs")
    eventually(lambda: (here / "f").stat().st_size == 15, "the new size", SOON_S)
    (there / "later").write_bytes(b"theirs")
    eventually((here / "later").exists, "the new name", SOON_S)
    os.rename(there / "later", there / "f")
    eventually(lambda: (here / "f").read_bytes() == b"theirs", "the other file", SOON_S)
    there.rename(disk / "t" / "e")
    there.mkdir()
    (there / "new").touch()
    eventually(lambda: os.listdir(here) == ["new"], "the other directory", SOON_S)
    assert (shown / "t" / "e" / "f").read_bytes() == b"theirs"
