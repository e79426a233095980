"""Renames that never replace, also where the file system has no flag for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fusestore.roots.renaming import rename_by_claiming, rename_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

WAYS = pytest.mark.parametrize("rename", [rename_new, rename_by_claiming])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    (tmp_path / "file").write_bytes(b"file")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory" / "inner").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    yield fd
    os.close(fd)


@WAYS
def test_everything_is_renamed_as_itself(rename: Callable[..., None], here: int, tmp_path: Path) -> None:
    for name in (b"file", b"link", b"directory"):
        rename(here, name, here, b"new-" + name)
    assert sorted(os.listdir(here)) == ["empty", "new-directory", "new-file", "new-link"]
    assert os.readlink("new-link", dir_fd=here) == "file"
    assert (tmp_path / "new-directory" / "inner").is_dir()
    assert os.stat("new-file", dir_fd=here).st_nlink == 1


@WAYS
def test_nothing_is_replaced(rename: Callable[..., None], here: int) -> None:
    for name in (b"file", b"link", b"directory"):
        for taken in {b"file", b"link", b"empty"} - {name}:
            with pytest.raises(FileExistsError):
                rename(here, name, here, taken)
    assert sorted(os.listdir(here)) == ["directory", "empty", "file", "link"]


def test_a_directory_does_not_go_into_itself_and_nothing_is_left(here: int, tmp_path: Path) -> None:
    inside = os.open(tmp_path / "directory", os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(OSError, match="Invalid argument"):
        rename_new(here, b"directory", inside, b"x")
    assert os.listdir(inside) == ["inner"]
    os.close(inside)
