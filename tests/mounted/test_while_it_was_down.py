"""What others did on a root's disk while no daemon ran, after an orderly end and after a kill."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.daemon import Mounted, Root, mounted
from tests.support.disks import can_loop, loop_disk
from tests.support.tools import library, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)
ONLY_HERE = frozenset({"top", "xattrs"})


@pytest.fixture(params=["umount", "kill9"])
def stop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def subject(tmp_path: Path, deadline_s: float) -> Iterator[tuple[Mounted, Path, Path]]:
    """(store, its root in the mount, the root's directory), on ext4 where that can be had."""
    if not can_loop("ext4"):
        pytest.skip("loop disks need root")
    with (
        loop_disk("ext4", 200) as disk,
        mounted(tmp_path / "own", {"shared": Root(disk / "root", "writers")}) as store,
        store.deadline(deadline_s),
    ):
        yield store, store.resources / "shared", disk / "root"


def identity(path: Path) -> bytes:
    return os.getxattr(path, "user.fusestore.id")


def ids(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): identity(path) for path in top.rglob("*") if not path.is_symlink()}


def test_whatever_was_done_meanwhile_is_seen_for_what_it_is(subject: tuple[Mounted, Path, Path], stop: str) -> None:
    store, shown, disk = subject
    for name in ("appended", "replaced", "removed", "renamed", "remade", "secret"):
        (shown / name).write_bytes(name.encode())
    for name in ("directory", "gone", "emptied"):
        (shown / name / "sub").mkdir(parents=True)
        (shown / name / "sub" / "file").write_bytes(name.encode())
    store.wait("--all")
    before = ids(shown)
    version = store.record(shown / "secret")["version"]
    getattr(store, stop)()

    with open(disk / "appended", "ab") as file:
        file.write(b" and more")
    (disk / "new").write_bytes(b"another")
    (disk / "new").rename(disk / "replaced")
    (disk / "removed").unlink()
    (disk / "renamed").rename(disk / "directory" / "moved")
    (disk / "directory").rename(disk / "elsewhere")
    (disk / "remade").unlink()
    (disk / "remade").write_bytes(b"REMADE")
    times = (disk / "secret").stat()
    with open(disk / "secret", "r+b") as file:
        file.write(b"SECRET")
    os.utime(disk / "secret", ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.rmtree(disk / "gone")
    shutil.rmtree(disk / "emptied")
    (disk / "emptied").mkdir()
    tool("cp", "-a", disk / "appended", disk / "copy")

    store.mount()
    assert_same(disk, shown, ignore=ONLY_HERE)
    after = ids(shown)
    kept = {"appended": "appended", "secret": "secret", "directory": "elsewhere", "renamed": "elsewhere/moved"}
    kept |= {"directory/sub": "elsewhere/sub", "directory/sub/file": "elsewhere/sub/file"}
    assert {new: after[new] for new in kept.values()} == {new: before[old] for old, new in kept.items()}
    assert not {after[name] for name in ("replaced", "remade", "emptied", "copy")} & set(before.values())
    assert len(set(after.values())) == len(after)
    store.wait("--all")
    record = store.record(shown / "secret")
    assert record["version"] == version + 1
    assert store.json("verify", "--root", "shared")["bad"] == []


def test_a_tree_that_tools_have_worked_on_is_whole(
    subject: tuple[Mounted, Path, Path], stop: str, tmp_path: Path
) -> None:
    store, shown, disk = subject
    library(tmp_path / "library")
    tool("cp", "-a", tmp_path / "library", shown / "library")
    tool("ls", "-lR", shown)
    before = ids(shown)
    store.wait("--all")
    getattr(store, stop)()

    shutil.rmtree(tmp_path / "library" / "json")
    (tmp_path / "library" / "email" / "new.py").write_text("new")
    tool("rsync", "-a", "--delete", f"{tmp_path / 'library'}/", disk / "library")
    tool("cp", "-a", disk / "library", disk / "copy")
    tool("tar", "-C", disk, "-cf", tmp_path / "archive.tar", "library/xml")
    tool("tar", "-C", disk, "-xf", tmp_path / "archive.tar")

    store.mount()
    assert_same(disk, shown, ignore=ONLY_HERE)
    after = ids(shown)
    for name, id in before.items():
        if name in after and not name.startswith("library/xml/"):
            assert after[name] == id, name
    assert len(set(after.values())) == len(after)


def test_tools_outside_are_seen_within_a_second_while_it_runs(
    subject: tuple[Mounted, Path, Path], tmp_path: Path
) -> None:
    store, shown, disk = subject
    library(tmp_path / "library")
    for _ in range(3):
        tool("rsync", "-a", "--delete", f"{tmp_path / 'library'}/", disk / "mirror")
        tool("cp", "-a", disk / "mirror" / "json", disk / "mirror" / "json-copy")
        tool("sleep", "1.1")  # what the kernel may remember
        assert_same(disk, shown, ignore=ONLY_HERE)
        after = ids(shown)
        assert len(set(after.values())) == len(after)
        shutil.rmtree(tmp_path / "library" / "json")
        shutil.copytree(tmp_path / "library" / "email", tmp_path / "library" / "json")
    for name in ("kept", "kept too"):
        tool("cp", "-a", disk / "mirror", disk / name)
    tool("rm", "-rf", disk / "mirror")
    tool("sleep", "1.1")
    assert sorted(os.listdir(shown)) == ["kept", "kept too"]
    assert store.json("status")["health"] == "ok"
