"""Staged copies: all that an object carries arrives, holes stay holes, and a copy that is not whole is found out."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import stat
import threading
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from fusestore.model import RootNo
from fusestore.roots import copy
from fusestore.roots.ahead import ahead
from fusestore.roots.copy import CopyResult, copy_attributes, copy_file, copy_object, verify_file
from fusestore.roots.hashing import hash_fd
from tests.support import disks
from tests.support.disks import can_loop, loop_disk
from tests.support.tools import failing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)
disk = disks.disk  # the fixture

MIB = 1 << 20


@dataclass
class Way:
    """Two directories, on two disks where that is possible, and their descriptors."""

    source: Path
    target: Path
    from_fd: int
    to_fd: int

    def copy(self, name: str = "file", progress: Callable[[int], None] | None = None) -> CopyResult:
        source = os.open(self.source / name, os.O_RDONLY)
        try:
            return copy_file(source, self.to_fd, b"staged", root=RootNo(7), algorithm="blake3", progress=progress)
        finally:
            os.close(source)


@contextlib.contextmanager
def directory(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def way(disk: Path, tmp_path: Path) -> Iterator[Way]:
    target = disk / tmp_path.name
    target.mkdir()
    fds = [os.open(place, os.O_RDONLY | os.O_DIRECTORY) for place in (tmp_path, target)]
    yield Way(tmp_path, target, *fds)
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 4095, MIB, MIB + 1, 3 * MIB + 12345])
def test_bytes_and_digest_are_those_of_the_source_and_read_back(way: Way, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (way.source / "file").write_bytes(content)
    seen: list[int] = []
    result = way.copy(progress=seen.append)
    assert (way.target / "staged").read_bytes() == content
    assert (result.size, result.digest) == (size, blake3(content).digest())
    assert (result.backing.root, result.backing.st_ino) == (7, (way.target / "staged").stat().st_ino)
    assert seen == sorted(seen)
    assert not seen or seen[-1] == size
    os.sync()
    assert verify_file(way.to_fd, b"staged", size, result.digest, "blake3")
    assert verify_file(way.to_fd, b"staged", size, sha256(content).digest(), "sha256")


def test_one_wrong_bit_a_missing_byte_or_one_too_many_is_found(way: Way) -> None:
    (way.source / "file").write_bytes(random.Random(1).randbytes(MIB + 77))
    result = way.copy()
    copy = way.target / "staged"
    good = copy.read_bytes()
    for bad in (good[:-1], good + b"\0", good[:500] + bytes([good[500] ^ 1]) + good[501:], b""):
        copy.write_bytes(bad)
        os.sync()
        assert not verify_file(way.to_fd, b"staged", result.size, result.digest, "blake3")
    copy.write_bytes(good)
    os.sync()
    assert verify_file(way.to_fd, b"staged", result.size, result.digest, "blake3")


@pytest.mark.parametrize("pattern", ["hole first", "hole last", "holes between", "only a hole"])
def test_holes_stay_holes_and_count_as_zeros(way: Way, pattern: str) -> None:
    size = 48 * MIB
    data_at = {"hole first": [40], "hole last": [0], "holes between": [0, 20, 33], "only a hole": []}[pattern]
    with (way.source / "file").open("wb") as file:
        for offset in data_at:
            file.seek(offset * MIB)
            file.write(b"data" * 1024)
        file.truncate(size)
    result = way.copy()
    assert (result.size, result.digest) == (size, blake3((way.source / "file").read_bytes()).digest())
    copy = (way.target / "staged").stat()
    assert copy.st_size == size
    assert copy.st_blocks * 512 <= 2 * MIB
    os.sync()
    assert verify_file(way.to_fd, b"staged", size, result.digest, "blake3")


def test_owner_mode_times_and_xattrs_travel_but_not_who_the_source_was(way: Way) -> None:
    source = way.source / "file"
    source.write_bytes(b"content")
    os.setxattr(source, b"user.colour", b"\x00red")
    os.setxattr(source, b"user.fusestore", b"identity")
    if os.geteuid() == 0:
        os.chown(source, 65534, 65533)
        os.setxattr(source, b"trusted.note", b"1")
    source.chmod(0o6451)
    os.utime(source, ns=(1_600_000_000_111_222_333, 1_500_000_000_444_555_666))
    way.copy()
    copy, now = way.target / "staged", (way.target / "staged").stat()
    there = source.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (there.st_mode, there.st_uid, there.st_gid)
    assert stat.S_IMODE(now.st_mode) == 0o6451
    assert (now.st_atime_ns, now.st_mtime_ns) == (1_600_000_000_111_222_333, 1_500_000_000_444_555_666)
    assert set(os.listxattr(copy)) == set(os.listxattr(source)) - {"user.fusestore"}
    assert os.getxattr(copy, "user.colour") == b"\x00red"


def test_our_own_reading_leaves_the_access_times_of_source_and_copy(way: Way) -> None:
    source, copy = way.source / "file", way.target / "staged"
    source.write_bytes(b"content")
    os.utime(source, ns=(1_500_000_000_000_000_000, 1_600_000_000_000_000_000))  # a read by a program would renew it
    result = way.copy()
    os.sync()
    assert verify_file(way.to_fd, b"staged", 7, result.digest, "blake3")
    with source.open("rb") as file:
        assert hash_fd(file.fileno(), "blake3") == result.digest
    assert {source.stat().st_atime_ns, copy.stat().st_atime_ns} == {1_500_000_000_000_000_000}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give rights up")
def test_without_privileges_anothers_file_arrives_as_ours_without_its_set_id_bits(way: Way) -> None:
    (way.source / "file").write_bytes(b"content")
    (way.source / "file").chmod(0o6755)
    (way.target / "own").mkdir()
    os.chown(way.target / "own", 65534, 65534)
    source = os.open(way.source / "file", os.O_RDONLY)
    target = os.open(way.target / "own", os.O_RDONLY | os.O_DIRECTORY)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        copy_file(source, target, b"staged", root=RootNo(7), algorithm="sha256")
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.close(source)
        os.close(target)
    now = (way.target / "own" / "staged").stat()
    assert (now.st_uid, stat.S_IMODE(now.st_mode)) == (65534, 0o755)


def test_a_leftover_is_replaced_and_a_planted_symlink_not_followed(way: Way) -> None:
    (way.source / "file").write_bytes(b"new")
    (way.target / "outside").write_bytes(b"precious")
    (way.target / "staged").symlink_to("outside")
    way.copy()
    assert (way.target / "staged").read_bytes() == b"new"
    assert (way.target / "outside").read_bytes() == b"precious"


def test_a_copy_that_is_broken_off_leaves_nothing(way: Way) -> None:
    (way.source / "file").write_bytes(bytes(3 * MIB) + b"x" * MIB)

    def stop(done: int) -> None:
        raise InterruptedError(done)

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InterruptedError):
        way.copy(progress=stop)
    assert os.listdir(way.target) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_source_that_is_cut_short_meanwhile_ends_where_it_ends(way: Way) -> None:
    source = way.source / "file"
    source.write_bytes(b"x" * 9 * MIB)
    result = way.copy(progress=lambda done: os.truncate(source, MIB + 5))
    assert MIB + 5 <= result.size <= 9 * MIB  # some is read ahead
    assert result.digest == blake3(b"x" * result.size).digest()
    assert (way.target / "staged").stat().st_size == result.size


@pytest.mark.skipif(not can_loop("ext4"), reason="loop disks need root")
def test_a_full_disk_says_so_and_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(12 * MIB))
    with loop_disk("ext4", 8) as disk:
        source, target = os.open(tmp_path / "file", os.O_RDONLY), os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
        with pytest.raises(OSError, match="No space left on device"):
            copy_file(source, target, b"staged", root=RootNo(7), algorithm="blake3")
        os.close(source)
        os.close(target)
        assert os.listdir(disk) == ["lost+found"]


def test_symlinks_and_special_files_are_made_again_without_being_opened(way: Way) -> None:
    os.symlink(b"\xff anywhere", os.fsencode(way.source) + b"/link")
    os.mkfifo(way.source / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{way.from_fd}/socket")
    names = [b"link", b"fifo", b"socket"]
    if os.geteuid() == 0:
        os.mknod(way.source / "device", stat.S_IFCHR | 0o640, os.makedev(1, 3))
        names.append(b"device")
        for name in names:
            os.chown(name, 65534, 65533, dir_fd=way.from_fd, follow_symlinks=False)
    for name in names:
        os.utime(name, ns=(5, 6), dir_fd=way.from_fd, follow_symlinks=False)
        backing = copy_object(way.from_fd, name, way.to_fd, b"staged-" + name, root=RootNo(7))
        there = os.stat(name, dir_fd=way.from_fd, follow_symlinks=False)
        here = os.stat(b"staged-" + name, dir_fd=way.to_fd, follow_symlinks=False)
        assert (here.st_mode, here.st_uid, here.st_gid) == (there.st_mode, there.st_uid, there.st_gid)
        assert (here.st_rdev, here.st_atime_ns, here.st_mtime_ns) == (there.st_rdev, 5, 6)
        assert (backing.root, backing.st_ino) == (7, here.st_ino)
    assert os.readlink(b"staged-link", dir_fd=way.to_fd) == b"\xff anywhere"


def test_a_directory_gets_the_attributes_of_another(way: Way) -> None:
    (way.source / "from").mkdir()
    (way.target / "to").mkdir()
    os.setxattr(way.source / "from", b"user.colour", b"red")
    os.setxattr(way.source / "from", b"user.fusestore", b"identity")
    (way.source / "from").chmod(0o2751)
    os.utime(way.source / "from", ns=(7, 8))
    copy_attributes(way.from_fd, b"from", way.to_fd, b"to")
    now = (way.target / "to").stat()
    assert (stat.S_IMODE(now.st_mode), now.st_atime_ns, now.st_mtime_ns) == (0o2751, 7, 8)
    assert os.listxattr(way.target / "to") == ["user.colour"]


@pytest.mark.parametrize("holes", [False, True])
def test_a_huge_file_is_written_out_on_the_way_and_arrives_whole(
    way: Way, monkeypatch: pytest.MonkeyPatch, holes: bool
) -> None:
    monkeypatch.setattr(copy, "HUGE_BYTES", 4 * MIB)
    monkeypatch.setattr(copy, "_WINDOW_BYTES", MIB)
    content = bytearray(random.Random(5).randbytes(9 * MIB + 777))
    if holes:
        content[2 * MIB : 6 * MIB] = bytes(4 * MIB)
    with (way.source / "file").open("wb") as file:
        file.write(content[: 2 * MIB])
        file.seek((6 if holes else 2) * MIB)
        file.write(content[file.tell() :])
    result = way.copy()
    assert (way.target / "staged").read_bytes() == content
    assert result.digest == blake3(content).digest()
    os.sync()
    assert verify_file(way.to_fd, b"staged", len(content), result.digest, "blake3")


@pytest.mark.skipif(not can_loop("ext4"), reason="loop disks need root")
def test_what_does_not_fit_is_refused_before_a_byte_is_copied(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(20 * MIB))
    progress: list[int] = []
    with loop_disk("ext4", 16) as small, directory(tmp_path) as here, directory(small) as there:
        with failing(errno.ENOSPC):
            Way(tmp_path, small, here, there).copy(progress=progress.append)
        assert os.listdir(small) == ["lost+found"]
    assert progress == []


@pytest.mark.skipif(not can_loop("xfs"), reason="loop disks need root")
def test_on_a_disk_that_can_share_bytes_a_copy_takes_no_room(tmp_path: Path) -> None:
    content = random.Random(6).randbytes(30 * MIB)
    with loop_disk("xfs", 300) as disk, directory(disk) as there:
        (disk / "file").write_bytes(content)
        os.sync()
        before = os.statvfs(disk).f_bfree
        result = Way(disk, disk, there, there).copy()
        os.sync()
        after = os.statvfs(disk).f_bfree
        assert (disk / "staged").read_bytes() == content
        assert verify_file(there, b"staged", len(content), result.digest, "blake3")
        assert (before - after) * os.statvfs(disk).f_frsize < 2 * MIB
    assert result.digest == blake3(content).digest()


def test_reading_ahead_gives_the_same_items_and_the_same_trouble() -> None:
    assert list(ahead(iter(range(20)))) == list(range(20))

    def failing_at_three() -> Iterator[int]:
        yield from (1, 2)
        raise OSError(errno.EIO, "gone")

    with failing(errno.EIO):
        list(ahead(failing_at_three()))
    running = ahead(iter(range(1000)))
    assert next(running) == 0
    running.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")] == []
