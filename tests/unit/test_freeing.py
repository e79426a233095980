"""What is removed is gone at once, and the descriptor that holds a large file's blocks goes soon after."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fusestore.roots import content
from fusestore.roots.freeing import LARGE_BYTES, removing, wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = pytest.mark.parametrize("size", [0, LARGE_BYTES])


def open_files() -> int:
    wait()
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def make(path: Path, size: int) -> None:
    with path.open("wb") as file:
        if size:
            os.posix_fallocate(file.fileno(), 0, size)


@SIZES
def test_a_removed_file_is_gone_and_nothing_holds_it(directory: int, tmp_path: Path, size: int) -> None:
    make(tmp_path / "a", size)
    before = open_files()
    with removing(directory, b"a"):
        os.unlink(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert open_files() == before


def test_what_is_not_there_or_stays_is_not_held(directory: int, tmp_path: Path) -> None:
    make(tmp_path / "a", LARGE_BYTES)
    before = open_files()
    with removing(directory, b"missing"):
        pass
    with pytest.raises(IsADirectoryError), removing(directory, b"a"):
        os.unlink(tmp_path)
    assert open_files() == before
    assert (tmp_path / "a").stat().st_size == LARGE_BYTES


@SIZES
def test_the_last_descriptor_of_a_file_without_a_name_is_closed(tmp_path: Path, size: int) -> None:
    before = open_files()
    make(tmp_path / "a", size)
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    os.unlink(tmp_path / "a")
    content.close(fd)
    assert open_files() == before
