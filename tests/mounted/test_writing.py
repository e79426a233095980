"""Bytes go where they are written: holes, cuts, appends from many sides, mapped pages."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.tools import failing, scripts, tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Mounted

pytestmark = pytest.mark.timeout(120)
NO_TIMES = frozenset({"mtime_ns"})


def test_a_random_program_of_writes_cuts_and_reads_gives_the_same_bytes(area: Path, plain: Path) -> None:
    chance = random.Random(11)
    one = os.open(area / "f", os.O_RDWR | os.O_CREAT)
    two = os.open(plain / "f", os.O_RDWR | os.O_CREAT)
    try:
        for _ in range(1500):
            start, length = chance.randrange(2 << 20), chance.randrange(1, 200_000)
            action = chance.random()
            if action < 0.5:
                data = chance.randbytes(length)
                assert os.pwrite(one, data, start) == os.pwrite(two, data, start)
            elif action < 0.6:
                os.ftruncate(one, start)
                os.ftruncate(two, start)
            else:
                assert os.pread(one, length, start) == os.pread(two, length, start)
    finally:
        os.close(one)
        os.close(two)
    assert_same(plain, area, ignore=NO_TIMES | {"disk_bytes"})


@pytest.mark.parametrize("block", [1, 100, 4096, 65_537, 1 << 20, 5 << 20])
def test_sequential_writes_of_any_block_size_arrive(area: Path, block: int) -> None:
    total = min(block * 500, 12 << 20)
    data = random.Random(block).randbytes(total)
    with open(area / "f", "wb", buffering=0) as file:
        for start in range(0, total, block):
            assert file.write(data[start : start + block]) == len(data[start : start + block])
    assert tool("sha256sum", area / "f").split()[0] == hashlib.sha256(data).hexdigest()


def test_sparse_files_stay_sparse(area: Path, plain: Path) -> None:
    for place in (area, plain):
        with open(place / "sparse", "wb") as file:
            file.write(b"head")
            file.seek(1 << 33)
            file.write(b"tail")
        with open(place / "empty", "wb") as file:
            file.truncate(1 << 34)
    assert os.stat(area / "sparse").st_size == (1 << 33) + 4
    assert os.stat(area / "sparse").st_blocks * 512 < 1 << 20
    assert os.stat(area / "empty").st_blocks * 512 < 1 << 20
    with open(area / "sparse", "rb") as file:
        assert file.read(8) == b"head\0\0\0\0"
        file.seek(-8, os.SEEK_END)
        assert file.read() == b"\0\0\0\0tail"


APPEND = """
import os, sys
handle = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(400):
    line = f"{sys.argv[2]}-{number:04}" + "x" * 90 + "\\n"
    assert os.write(handle, line.encode()) == len(line)
"""


def test_lines_appended_by_several_programs_at_once_are_all_there_and_whole(area: Path) -> None:
    (area / "log").touch()
    with scripts(APPEND, *((area / "log", str(n)) for n in range(4))) as writers:
        assert [w.wait(60) for w in writers] == [0, 0, 0, 0]
    expected = sorted(f"{w}-{n:04}" + "x" * 90 for w in range(4) for n in range(400))
    assert sorted((area / "log").read_text().splitlines()) == expected


def test_truncating_by_path_by_handle_and_on_open_cuts_and_fills(area: Path) -> None:
    path = area / "f"
    path.write_bytes(b"0123456789")
    os.truncate(path, 4)
    assert path.read_bytes() == b"0123"
    os.truncate(path, 8)
    assert path.read_bytes() == b"0123\0\0\0\0"
    with open(path, "r+b") as file:
        os.ftruncate(file.fileno(), 2)
        assert os.fstat(file.fileno()).st_size == 2
    with open(path, "wb"):
        pass
    assert os.stat(path).st_size == 0


def test_a_read_only_file_just_made_can_still_be_written_by_its_maker(area: Path) -> None:
    handle = os.open(area / "f", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o400)
    assert os.write(handle, b"git does this") == 13
    os.fsync(handle)
    os.close(handle)
    assert (area / "f").read_bytes() == b"git does this"


def test_exclusive_creation_has_one_winner(area: Path) -> None:
    script = "import os, sys; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY)"
    with scripts(script, *[(area / "prize",)] * 6) as racers:
        assert sorted(r.wait(60) for r in racers) == [0, 1, 1, 1, 1, 1]


def test_what_one_handle_writes_another_reads_at_once(area: Path) -> None:
    with open(area / "f", "wb", buffering=0) as writer, open(area / "f", "rb", buffering=0) as reader:
        for number in range(200):
            line = f"{number:09}\n".encode()
            writer.write(line)
            assert reader.read(100) == line
            assert os.stat(area / "f").st_size == 10 * (number + 1)


def test_directories_are_not_files_and_files_are_not_directories(area: Path) -> None:
    (area / "d").mkdir()
    (area / "f").touch()
    cases = [
        ((area / "d").read_bytes, errno.EISDIR),
        (lambda: os.open(area / "d", os.O_WRONLY), errno.EISDIR),
        (lambda: os.unlink(area / "d"), errno.EISDIR),
        (lambda: os.rmdir(area / "f"), errno.ENOTDIR),
        (lambda: os.listdir(area / "f"), errno.ENOTDIR),
        (lambda: os.stat(area / "f" / "x"), errno.ENOTDIR),
        ((area / "d").mkdir, errno.EEXIST),
        (lambda: os.truncate(area / "f", -1), errno.EINVAL),
        (lambda: os.stat(area / "none"), errno.ENOENT),
    ]
    for attempt, expected in cases:
        with failing(expected):
            attempt()


def test_each_writing_period_is_one_version(shared: Mounted, area: Path) -> None:
    def version() -> int:
        return int(os.getxattr(area / "f", "user.fusestore.version"))

    (area / "f").write_bytes(b"one")
    shared.wait(area / "f")  # the kernel releases handles a moment after close(2): only then the period is over
    first = version()
    with open(area / "f", "ab", buffering=0) as file:
        file.write(b"two")
        file.write(b"three")
    shared.wait(area / "f")
    assert version() == first + 1
    (area / "f").read_bytes()
    os.chmod(area / "f", 0o600)
    assert version() == first + 1


def test_cutting_a_large_file_is_one_version_too(shared: Mounted, area: Path) -> None:
    """Which is done in a thread, because the disk takes its time."""
    path = area / "f"
    head = b"head of it" * 1000
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(64 << 20)
    shared.wait(path)
    first = int(os.getxattr(path, "user.fusestore.version"))
    os.truncate(path, len(head))
    assert path.read_bytes() == head
    shared.wait(path)
    assert int(os.getxattr(path, "user.fusestore.version")) == first + 1
    os.truncate(path, 64 << 20)
    with open(path, "wb") as file:
        file.write(b"new")
    shared.wait(path)
    assert path.read_bytes() == b"new"
    assert int(os.getxattr(path, "user.fusestore.version")) == first + 3
