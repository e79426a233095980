"""The disk that holds the index fails: what is there can be read, nothing is half done, and nobody loses the mount."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Mounted, Root, eventually
from tests.support.disks import can_loop, fill, loop_disk
from tests.support.faulty import Faulty, faulty_disk
from tests.support.tools import failing, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(100)
TROUBLE = r"refused|read-only from here|synced|sweeping|watchers are not told|waits for the bytes|still on its disk"


def build(store_disk: Path, tmp_path: Path) -> Mounted:
    """A store on a disk of its own, with a root elsewhere that holds a few files."""
    subject = Mounted(tmp_path / "own", {"elsewhere": Root(tmp_path / "root", "writers")})
    subject.base.mkdir()
    subject.store = store_disk / "store"
    subject.socket, subject.log = subject.store / "control.sock", subject.store / "fusestore.log"
    subject.build().mount()
    subject.allow_log(TROUBLE)
    tree = subject.resources / "elsewhere" / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"{number}").write_bytes(b"%d" % number)
    subject.wait("--all")
    return subject


@pytest.fixture
def small(tmp_path: Path, deadline_s: float) -> Iterator[tuple[Mounted, Path]]:
    """(store, its disk of 64 MiB)"""
    if not can_loop("ext4"):
        pytest.skip("loop disks need root")
    with loop_disk("ext4", 64) as disk:
        subject = build(disk, tmp_path)
        try:
            with subject.deadline(deadline_s):
                yield subject, disk
                subject.finish()
        finally:
            subject.discard()


@pytest.fixture
def faulty(tmp_path: Path, deadline_s: float) -> Iterator[tuple[Mounted, Faulty]]:
    with faulty_disk(tmp_path / "faulty") as disk:
        subject = build(disk.mountpoint, tmp_path)
        try:
            with subject.deadline(deadline_s):
                yield subject, disk
                subject.finish()
        finally:
            subject.discard()


def test_with_a_full_disk_under_the_index_creating_stops_and_removing_and_reading_go_on(
    small: tuple[Mounted, Path],
) -> None:
    subject, disk = small
    tree = subject.resources / "elsewhere" / "tree"
    ballast = fill(disk)
    with failing(errno.ENOSPC):
        for number in range(20_000):
            (tree / f"new-{number}").touch()
    with failing(errno.ENOSPC):
        (subject.uploads / "upload").write_bytes(b"x")
    assert (tree / "3").read_bytes() == b"3"
    (tree / "3").unlink()
    os.chmod(tree / "4", 0o600)
    assert len(os.listdir(tree)) >= 19
    assert subject.json("status")["pid"] == subject.pid
    ballast.unlink()
    eventually(lambda: _works(lambda: (tree / "again").write_bytes(b"again")), "files can be made again", 20)
    assert (tree / "again").read_bytes() == b"again"
    tool("rm", "-r", tree)


def _works(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("fault", ["write EIO", "fsync EIO", "write EROFS"])
def test_an_index_whose_disk_fails_makes_the_store_read_only_until_the_next_mount(
    faulty: tuple[Mounted, Faulty], fault: str
) -> None:
    subject, disk = faulty
    tree = subject.resources / "elsewhere" / "tree"
    request, _, code = fault.partition(" ")
    with disk.failing(**{request: code}):
        with failing(errno.EROFS, errno.EIO):
            for number in range(100_000):
                (tree / f"new-{number}").touch()
                (tree / f"new-{number}").unlink()
        with failing(errno.EROFS):
            (tree / "3").unlink()
        assert (tree / "3").read_bytes() == b"3"
        assert "3" in os.listdir(tree)
        root = subject.roots["elsewhere"].directory
        (root / "tree" / "5").write_bytes(b"by others")
        eventually(lambda: (tree / "5").read_bytes() == b"by others", "what others wrote", 5)
        assert "nothing can be changed until the next mount" in subject.json("status")["health"]
    subject.remount()
    assert (tree / "3").read_bytes() == b"3"
    (tree / "again").write_bytes(b"again")
    assert sorted(os.listdir(tree)) == sorted(os.listdir(root / "tree"))
