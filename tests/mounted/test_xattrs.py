"""Extended attributes: the users' own are kept, ours are told and never listed."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.daemon import eventually
from tests.support.tools import failing, tool

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(60)
OURS = ("id", "version", "root", "state", "path", "socket")


def make(area: Path, kind: str) -> Path:
    path = area / kind
    if kind == "file":
        path.write_bytes(b"x")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_user_attributes_are_set_listed_read_and_removed(area: Path, kind: str) -> None:
    path = make(area, kind)
    values = {"user.empty": b"", "user.binary": bytes(range(256)), "user.ünï": b"y" * 2000}
    for name, value in values.items():
        os.setxattr(path, name, value)
    assert sorted(os.listxattr(path)) == sorted(values)
    assert {name: os.getxattr(path, name) for name in values} == values
    os.setxattr(path, "user.empty", b"no more")
    assert os.getxattr(path, "user.empty") == b"no more"
    os.removexattr(path, "user.binary")
    assert sorted(os.listxattr(path)) == ["user.empty", "user.ünï"]


def test_create_and_replace_flags_are_obeyed(area: Path) -> None:
    path = make(area, "file")
    with failing(errno.ENODATA):
        os.setxattr(path, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)
    assert os.getxattr(path, "user.a") == b"1"


def test_an_attribute_that_is_not_there_is_enodata(area: Path) -> None:
    path = make(area, "file")
    for attempt in (lambda: os.getxattr(path, "user.none"), lambda: os.removexattr(path, "user.none")):
        with failing(errno.ENODATA):
            attempt()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets labels")
def test_a_label_is_kept_and_where_there_is_none_ls_asks_no_further(area: Path) -> None:
    path = make(area, "file")
    with failing(errno.ENOTSUP):
        os.getxattr(path, "security.selinux")
    os.setxattr(path, "security.selinux", b"a label")
    assert os.getxattr(path, "security.selinux") == b"a label"
    assert os.listxattr(path) == ["security.selinux"]
    os.removexattr(path, "security.selinux")
    assert tool("ls", "-l", area).count("file") == 1


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_our_attributes_are_readable_and_not_listed(area: Path, kind: str) -> None:
    path = make(area, kind)
    told = {name: os.getxattr(path, f"user.fusestore.{name}") for name in OURS}
    assert uuid.UUID(told["id"].decode()).version == 7
    assert told["path"].decode() == str(path.relative_to(area.parents[1 if area.parent.name == "uploads" else 2]))
    assert told["root"].decode() == area.parent.name
    assert Path(told["socket"].decode()).is_socket()
    assert int(told["version"]) >= 1
    assert os.listxattr(path) == []


def test_the_hash_appears_when_the_content_is_known(area: Path) -> None:
    path = make(area, "file")
    told = eventually(lambda: read_or_none(path, "user.fusestore.hash"), "a hash") or b""
    algorithm, _, digest = told.decode().partition(":")
    assert algorithm == "blake3"
    assert len(bytes.fromhex(digest)) == 32
    assert os.getxattr(path, "user.fusestore.state") == b"ready"


def read_or_none(path: Path, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name)
    except OSError as trouble:
        if trouble.errno != errno.ENODATA:
            raise
        return None


def test_our_attributes_cannot_be_forged_or_removed(area: Path) -> None:
    path = make(area, "file")
    before = os.getxattr(path, "user.fusestore.id")
    attempts: list[Callable[[], object]] = [
        lambda: os.setxattr(path, "user.fusestore.id", b"0" * 36),
        lambda: os.removexattr(path, "user.fusestore.id"),
        lambda: os.setxattr(path, "user.fusestore", b"x"),
    ]
    for attempt in attempts:
        with failing():
            attempt()
    assert os.getxattr(path, "user.fusestore.id") == before


def test_getfattr_and_cp_carry_user_attributes_and_give_the_copy_its_own_id(area: Path, plain: Path) -> None:
    path = make(area, "file")
    os.setxattr(path, "user.sample", b"42")
    tool("cp", "-a", path, area / "copy")
    tool("cp", "-a", path, plain / "file")
    assert 'user.sample="42"' in tool("getfattr", "-d", area / "copy")
    assert os.getxattr(path, "user.fusestore.id") != os.getxattr(area / "copy", "user.fusestore.id")
    (plain / "copy").write_bytes(b"")
    tool("cp", "-a", path, plain / "copy")
    assert_same(plain, area, ignore=frozenset({"mtime_ns"}))
