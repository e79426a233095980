"""Small indexes to test with."""

from __future__ import annotations

import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from fusestore.index.batch import Batch
from fusestore.index.store import Index
from fusestore.model import (
    MOUNT_ROOT,
    RESOURCES,
    Backing,
    Event,
    Inode,
    InodeNo,
    Layout,
    Operation,
    RootNo,
    RootRecord,
    Spot,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE: Final = stat.S_IFREG | 0o644
DIRECTORY: Final = stat.S_IFDIR | 0o755
MAIN: Final = RootNo(1)
COLD: Final = RootNo(2)


@contextmanager
def witnesses() -> Iterator[Path]:
    """A place for witnesses that only a power cut, or the test, empties."""
    place = Path(tempfile.mkdtemp(prefix="fusestore-test-", dir="/dev/shm"))
    try:
        yield place
    finally:
        shutil.rmtree(place)


@pytest.fixture
def place() -> Iterator[Path]:
    with witnesses() as directory:
        yield directory


@pytest.fixture
def made(tmp_path: Path, place: Path) -> Path:
    """The directory of an index that was made, furnished and closed."""
    index = Index.open(tmp_path / "index", create=True, witnesses=place)
    furnish(index)
    index.close()
    return tmp_path / "index"


def inode(number: int, mode: int = FILE, **fields: Any) -> Inode:
    """An inode whose id and backing follow from its number."""
    backing = None if stat.S_ISDIR(mode) else Backing(MAIN, 10_000 + number, 1)
    plain: dict[str, Any] = {
        "id": number.to_bytes(16, "big"), "uid": 0, "gid": 0, "rdev": 0, "size": 0, "nlink": 1,
        "atime_ns": 1, "mtime_ns": 2, "ctime_ns": 3, "created_ns": 4, "backing": backing,
    }  # fmt: skip
    return Inode(number=InodeNo(number), mode=mode, **(plain | fields))


def event(of: Inode, kind: str = "created") -> Event:
    kind_of_file = stat.S_IFMT(of.mode)
    return Event(
        Operation.INSERT, kind, of.number, of.id, kind_of_file, b"resources/x", "main", of.version, of.size, of.mtime_ns
    )


def spot(name: bytes, directory: int = RESOURCES, root: RootNo = MAIN) -> Spot:
    return Spot(root, InodeNo(directory), name)


def furnish(index: Index) -> None:
    """Give a new index two roots and the top of a tree."""
    batch = Batch()
    batch.root(RootRecord(MAIN, "main", b"m" * 16, Layout.TREE, RESOURCES))
    batch.root(RootRecord(COLD, "cold", b"c" * 16, Layout.TREE, RESOURCES))
    batch.put_inode(inode(MOUNT_ROOT, DIRECTORY))
    batch.put_inode(inode(RESOURCES, DIRECTORY))
    batch.link(MOUNT_ROOT, b"resources", RESOURCES)
    index.apply(batch)


def create(index: Index, name: bytes, mode: int = FILE, parent: int = RESOURCES, **fields: Any) -> Inode:
    """Create a file with its event."""
    made = inode(index.new_inode(), mode, **fields)
    batch = Batch(grows=True)
    batch.put_inode(made)
    batch.link(InodeNo(parent), name, made.number)
    batch.event(event(made))
    index.apply(batch)
    return made


def remove(index: Index, name: bytes, parent: int = RESOURCES) -> None:
    number = index.dentry(InodeNo(parent), name)
    assert number is not None
    gone = index.inode(number)
    assert gone is not None
    batch = Batch()
    batch.unlink(InodeNo(parent), name, number)
    batch.drop_inode(gone)
    batch.event(event(gone, "removed"))
    index.apply(batch)
