"""Hard links, symlinks and what becomes of a file that has lost its name."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.tools import failing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Mounted

pytestmark = pytest.mark.timeout(60)


def test_hard_links_share_bytes_attributes_and_number(area: Path) -> None:
    (area / "one").write_bytes(b"first")
    os.link(area / "one", area / "two")
    (area / "deep").mkdir()
    os.link(area / "two", area / "deep" / "three")
    (area / "deep" / "three").write_bytes(b"changed")
    os.chmod(area / "two", 0o640)
    states = [os.stat(area / name) for name in ("one", "two", "deep/three")]
    assert len({s.st_ino for s in states}) == 1
    assert {(s.st_nlink, s.st_mode & 0o7777, s.st_size) for s in states} == {(3, 0o640, 7)}
    assert (area / "one").read_bytes() == b"changed"
    assert os.getxattr(area / "one", "user.fusestore.id") == os.getxattr(area / "two", "user.fusestore.id")


def test_removing_names_counts_links_down_and_the_last_one_takes_the_bytes(area: Path) -> None:
    (area / "one").write_bytes(b"bytes")
    os.link(area / "one", area / "two")
    (area / "one").unlink()
    assert os.stat(area / "two").st_nlink == 1
    assert (area / "two").read_bytes() == b"bytes"
    (area / "two").unlink()
    assert list(area.iterdir()) == []


def test_renaming_one_hard_link_over_the_other_does_nothing(area: Path) -> None:
    (area / "one").write_bytes(b"bytes")
    os.link(area / "one", area / "two")
    os.rename(area / "one", area / "two")
    assert sorted(os.listdir(area)) == ["one", "two"]
    assert os.stat(area / "one").st_nlink == 2


def test_a_hard_link_between_roots_is_refused_as_crossing_devices(shared: Mounted) -> None:
    (shared.uploads / "cross").write_bytes(b"x")
    with failing(errno.EXDEV):
        os.link(shared.uploads / "cross", shared.resources / "main" / "cross")
    assert not (shared.resources / "main" / "cross").exists()


def test_a_directory_cannot_be_hard_linked(area: Path) -> None:
    (area / "d").mkdir()
    with pytest.raises(PermissionError):
        os.link(area / "d", area / "e")


def test_symlinks_keep_their_target_byte_for_byte(area: Path) -> None:
    targets = [b"one", b"../up", b"/absolute/\xff\xfe", b"dangling" * 100, b"x" * 4000]
    for number, target in enumerate(targets):
        os.symlink(target, os.fsencode(area / f"link{number}"))
    assert [os.readlink(os.fsencode(area / f"link{n}")) for n in range(len(targets))] == targets
    assert [os.lstat(area / f"link{n}").st_size for n in range(len(targets))] == [len(t) for t in targets]
    (area / "one").write_bytes(b"through")
    assert (area / "link0").read_bytes() == b"through"


def test_a_removed_file_lives_on_for_those_who_have_it_open(area: Path) -> None:
    with open(area / "gone", "w+b") as file:
        file.write(b"before")
        file.flush()
        os.unlink(area / "gone")
        assert os.listdir(area) == []
        file.write(b" and after")
        file.seek(0)
        assert file.read() == b"before and after"
        assert os.fstat(file.fileno()).st_nlink == 0
        file.truncate(6)
        os.fchmod(file.fileno(), 0o600)
        assert os.fstat(file.fileno()).st_size == 6
        (area / "gone").write_bytes(b"a new one")
        file.seek(0)
        assert file.read() == b"before"
    assert (area / "gone").read_bytes() == b"a new one"


def test_a_removed_directory_stays_a_valid_place_to_stand_and_takes_nothing_new(area: Path) -> None:
    (area / "d").mkdir()
    handle = os.open(area / "d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.rmdir(area / "d")
        assert os.listdir(handle) == []
        with pytest.raises(FileNotFoundError):
            os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=handle)
    finally:
        os.close(handle)
