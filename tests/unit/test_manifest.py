"""A root's manifest as a file: what was appended is read back, and of what was torn the part before it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fusestore.model import Backing, Inode, InodeNo, Layout, RootNo, RootRecord, Spot
from fusestore.roots.manifest import FRESH_NAME, MAGIC, NAME, Entry, Frame, Head, Manifest, framed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = Head(b"s" * 16, b"r" * 16, (RootRecord(RootNo(1), "hot", b"r" * 16, Layout.TREE, InodeNo(256)),))


@pytest.fixture
def area(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def entry(number: int) -> Entry:
    inode = Inode(
        InodeNo(number), bytes([number % 256]) * 16, 0o100644, 1, 2, 0, 3, 1, 4, 5, 6, 7,
        version=2, hash=b"digest", hash_version=2, hash_algorithm="blake3", backing=Backing(RootNo(1), number, 8),
    )  # fmt: skip
    spots = (Spot(RootNo(1), InodeNo(256), b"old"),)
    return Entry(inode, ((InodeNo(256), b"name \xff"),), spots, spots, {b"user.a": b"\0"})


def frame(change: int, *numbers: int, anew: bool = False, step: int = 0) -> Frame:
    return Frame(1, change, 10 * change, 65792, 3, step, anew, [InodeNo(999)], [entry(number) for number in numbers])


def written(manifest: Manifest, frames: list[Frame]) -> None:
    size = manifest.append(framed(HEAD), manifest.begin(), fresh=True)
    for each in frames:
        size = manifest.append(framed(each), size, fresh=True)
    manifest.put_in_place()


def test_what_was_written_is_read_back(area: int) -> None:
    manifest = Manifest(area)
    frames = [frame(5, 256, 257, anew=True), frame(6, 300), frame(7, step=7)]
    written(manifest, frames)
    assert manifest.head() == HEAD
    assert list(manifest.frames()) == frames
    found = manifest.survey()
    assert found is not None
    assert (found.head, found.last) == (HEAD, frames[-1])
    assert found.size == os.stat(NAME, dir_fd=area).st_size
    assert found.base == len(MAGIC + framed(HEAD) + framed(frames[0]))


def test_where_there_is_none_nothing_is_read(area: int) -> None:
    manifest = Manifest(area)
    assert manifest.head() is None
    assert manifest.survey() is None
    assert list(manifest.frames()) == []


def test_torn_at_any_byte_it_is_what_came_before(area: int, tmp_path: Path) -> None:
    manifest = Manifest(area)
    frames = [frame(5, 256, anew=True), frame(6, 300), frame(7, step=7)]
    written(manifest, frames)
    whole = (tmp_path / "manifest").read_bytes()
    ends = [len(MAGIC + framed(HEAD))]
    for each in frames:
        ends.append(ends[-1] + len(framed(each)))
    for length in range(len(whole)):
        (tmp_path / "manifest").write_bytes(whole[:length])
        complete = sum(end <= length for end in ends)
        assert list(manifest.frames()) == frames[: max(complete - 1, 0)], length
        found = manifest.survey()
        assert (found.size if found else None) == (ends[complete - 1] if complete else None), length


@pytest.mark.parametrize("position", [3, 20, 60, -1])
def test_a_byte_that_turned_ends_it(area: int, tmp_path: Path, position: int) -> None:
    manifest = Manifest(area)
    written(manifest, [frame(5, 256, anew=True)])
    damaged = bytearray((tmp_path / "manifest").read_bytes())
    damaged[position] ^= 0x10
    (tmp_path / "manifest").write_bytes(damaged)
    assert list(manifest.frames()) == []


def test_appending_goes_on_where_the_valid_part_ends(area: int, tmp_path: Path) -> None:
    manifest = Manifest(area)
    written(manifest, [frame(5, 256, anew=True)])
    with open(tmp_path / "manifest", "ab") as torn:
        torn.write(framed(frame(6, 300, 301))[:-1])
    found = manifest.survey()
    assert found is not None
    manifest.append(framed(frame(7)), found.size)
    assert [each.change for each in manifest.frames()] == [5, 7]


def test_what_is_written_anew_takes_its_place_when_it_is_complete(area: int) -> None:
    manifest = Manifest(area)
    written(manifest, [frame(5, 256, anew=True)])
    size = manifest.append(framed(HEAD), manifest.begin(), fresh=True)
    assert [each.change for each in manifest.frames()] == [5]
    manifest.append(framed(frame(9, anew=True)), size, fresh=True)
    manifest.put_in_place()
    assert [each.change for each in manifest.frames()] == [9]


def test_it_is_written_anew_without_a_further_file(area: int) -> None:
    manifest = Manifest(area)
    manifest.keep_room()
    files = {os.stat(FRESH_NAME, dir_fd=area).st_ino}
    for change in (5, 9, 12):
        manifest.append(framed(HEAD), manifest.begin(), fresh=True)  # not completed
        written(manifest, [frame(change, 256, anew=True)])
        assert [each.change for each in manifest.frames()] == [change]
        assert os.stat(FRESH_NAME, dir_fd=area).st_size == 0
        files |= {os.stat(name, dir_fd=area).st_ino for name in (NAME, FRESH_NAME)}
    assert len(files) == 2


def test_what_is_none_of_ours_makes_room(area: int, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"theirs")
    (tmp_path / "manifest.new").symlink_to(tmp_path / "elsewhere")
    manifest = Manifest(area)
    written(manifest, [frame(5, 256, anew=True)])
    assert [each.change for each in manifest.frames()] == [5]
    assert (tmp_path / "elsewhere").read_bytes() == b"theirs"


def test_a_symlink_that_was_planted_is_not_followed(area: int, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(MAGIC)
    (tmp_path / "manifest").symlink_to(tmp_path / "elsewhere")
    assert Manifest(area).survey() is None
    with pytest.raises(OSError, match="symbolic"):
        Manifest(area).append(b"x", 8)
    assert (tmp_path / "elsewhere").read_bytes() == MAGIC
