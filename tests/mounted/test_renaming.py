"""Renames inside one root: atomic, over anything the rules allow, with all of renameat2's flags."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.tools import EXCHANGE, NOREPLACE, failing, library, renameat2, scripts, tool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)


def identity(path: Path) -> tuple[int, bytes]:
    return os.lstat(path).st_ino, os.getxattr(path, "user.fusestore.id")


def test_a_renamed_file_keeps_number_id_and_bytes(area: Path) -> None:
    (area / "a").write_bytes(b"bytes")
    before = identity(area / "a")
    (area / "d").mkdir()
    os.rename(area / "a", area / "d" / "b")
    assert identity(area / "d" / "b") == before
    assert (area / "d" / "b").read_bytes() == b"bytes"
    assert not (area / "a").exists()


def test_renaming_over_a_file_replaces_it_and_its_open_handle_keeps_the_old_bytes(area: Path) -> None:
    (area / "new").write_bytes(b"new bytes")
    (area / "old").write_bytes(b"old bytes")
    winner = identity(area / "new")
    with open(area / "old", "rb") as reader, open(area / "new", "ab") as writer:
        os.rename(area / "new", area / "old")
        assert reader.read() == b"old bytes"
        writer.write(b" and more")
    assert identity(area / "old") == winner
    assert (area / "old").read_bytes() == b"new bytes and more"
    assert os.listdir(area) == ["old"]


def test_noreplace_refuses_a_taken_name_and_changes_nothing(area: Path) -> None:
    (area / "a").write_bytes(b"a")
    (area / "b").write_bytes(b"b")
    with pytest.raises(FileExistsError):
        renameat2(area / "a", area / "b", NOREPLACE)
    assert ((area / "a").read_bytes(), (area / "b").read_bytes()) == (b"a", b"b")
    renameat2(area / "a", area / "c", NOREPLACE)
    assert sorted(os.listdir(area)) == ["b", "c"]


def test_exchange_swaps_files_and_directories(area: Path) -> None:
    (area / "f").write_bytes(b"file")
    (area / "d").mkdir()
    (area / "d" / "inner").write_bytes(b"inner")
    (area / "deep").mkdir()
    os.rename(area / "d", area / "deep" / "d")
    one, two = identity(area / "f"), identity(area / "deep" / "d")
    renameat2(area / "f", area / "deep" / "d", EXCHANGE)
    assert (identity(area / "deep" / "d"), identity(area / "f")) == (one, two)
    assert (area / "f" / "inner").read_bytes() == b"inner"
    assert (area / "deep" / "d").read_bytes() == b"file"
    with pytest.raises(FileNotFoundError):
        renameat2(area / "f", area / "none", EXCHANGE)


def test_a_directory_tree_is_renamed_in_one_call_and_all_of_it_follows(area: Path, plain: Path) -> None:
    library(plain / "in")
    tool("cp", "-a", plain / "in", area / "in")
    (area / "elsewhere").mkdir()
    with open(area / "in" / "json" / "decoder.py", "rb") as reader:
        os.rename(area / "in", area / "elsewhere" / "out")
        assert reader.read() == (plain / "in" / "json" / "decoder.py").read_bytes()
    assert_same(plain / "in", area / "elsewhere" / "out")
    assert not (area / "in").exists()
    (area / "elsewhere" / "out" / "json" / "new").write_bytes(b"x")
    assert os.getxattr(area / "elsewhere" / "out" / "json" / "new", "user.fusestore.path").endswith(b"/out/json/new")


CASES: list[tuple[str, str, int]] = [
    ("full", "full/inner/below", errno.EINVAL),
    ("full/inner", "full", errno.ENOTEMPTY),
    ("empty", "full", errno.ENOTEMPTY),
    ("file", "empty", errno.EISDIR),
    ("empty", "file", errno.ENOTDIR),
    ("none", "other", errno.ENOENT),
    ("file", "none/file", errno.ENOENT),
    ("file", "file/below", errno.ENOTDIR),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_what_rename_cannot_do_is_refused_as_everywhere(
    area: Path, plain: Path, old: str, new: str, expected: int
) -> None:
    for place in (area, plain):
        (place / "full" / "inner").mkdir(parents=True)
        (place / "full" / "inner" / "x").write_bytes(b"x")
        (place / "empty").mkdir()
        (place / "file").write_bytes(b"f")
        with failing(expected):
            os.rename(place / old, place / new)
    assert_same(plain, area, ignore=frozenset({"mtime_ns"}))


def test_an_empty_directory_can_be_replaced_by_a_full_one(area: Path) -> None:
    (area / "full").mkdir()
    (area / "full" / "x").write_bytes(b"x")
    (area / "empty").mkdir()
    os.rename(area / "full", area / "empty")
    assert os.listdir(area) == ["empty"]
    assert (area / "empty" / "x").read_bytes() == b"x"


REPLACER = """
import os, sys
os.chdir(sys.argv[1])
for number in range(300):
    with open(f"new-{sys.argv[2]}", "w") as file:
        file.write(sys.argv[2] * 1000)
    os.replace(f"new-{sys.argv[2]}", "current")
"""


def test_readers_never_see_a_name_missing_or_half_while_it_is_replaced(area: Path) -> None:
    (area / "current").write_text("0" * 1000)
    with scripts(REPLACER, (area, "1"), (area, "2")) as writers:
        while any(w.poll() is None for w in writers):
            text = (area / "current").read_text()
            assert len(text) == 1000
            assert len(set(text)) == 1
        assert [w.returncode for w in writers] == [0, 0]
    assert os.listdir(area) == ["current"]
