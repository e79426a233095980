"""A root that is no longer what was opened is noticed, whatever still answers under its path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from fusestore.config import RootConfig
from fusestore.errors import RootOffline, RootUnavailable
from fusestore.model import Layout, Outside, RootNo
from fusestore.roots.health import probe
from fusestore.roots.local import LocalRoot
from tests.support.disks import can_loop, loop_disk, unmount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def attach(place: Path) -> LocalRoot:
    spec = RootConfig("hot", place, Outside.WRITERS)
    return LocalRoot.attach(RootNo(1), spec, Layout.TREE, uuid4().bytes, create=True)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[LocalRoot]:
    root = attach(tmp_path / "hot")
    yield root
    root.close()


def test_a_root_as_it_was_is_online_and_nothing_is_left_open(root: LocalRoot) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert probe(root) == ""
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_root_whose_path_is_gone_is_another_until_it_is_back(root: LocalRoot) -> None:
    away = root.path.with_name("away")
    root.path.rename(away)
    assert "cannot be opened" in probe(root)
    away.rename(root.path)
    assert probe(root) == ""


def test_looking_at_a_root_changes_nothing(root: LocalRoot) -> None:
    """It runs in a thread, perhaps long after nobody waits for its answer any more."""
    away = root.path.with_name("away")
    root.path.rename(away)
    probe(root)
    assert root.online
    root.online = False
    away.rename(root.path)
    probe(root)
    assert not root.online
    with pytest.raises(RootOffline):
        root.stat(root.top, b"file")


def test_a_root_whose_disk_was_given_back_is_taken_up_again_under_the_same_numbers(root: LocalRoot) -> None:
    before = len(os.listdir("/proc/self/fd"))
    top, incoming = root.top, root.incoming()
    root.detach()
    for fd in (top, incoming):
        with pytest.raises(NotADirectoryError):
            os.stat("x", dir_fd=fd)
    assert probe(root) == ""
    root.reopen()
    assert (root.top, root.incoming()) == (top, incoming)
    assert os.path.samestat(os.fstat(top), root.path.stat())
    assert len(os.listdir("/proc/self/fd")) == before + 1


def test_a_root_that_somebody_else_took_meanwhile_is_not_taken_up(root: LocalRoot) -> None:
    root.detach()
    other = LocalRoot.attach(
        RootNo(1), RootConfig("hot", root.path, Outside.WRITERS), Layout.TREE, uuid4().bytes, create=False, take=True
    )
    with pytest.raises(RootUnavailable, match="in use"):
        root.reopen()
    other.close()
    with pytest.raises(RootUnavailable, match="another store"):
        root.reopen()
    assert not root.online


def test_another_directory_under_the_path_is_offline(root: LocalRoot) -> None:
    root.path.rename(root.path.with_name("away"))
    root.path.mkdir()
    assert "another directory" in probe(root)


def test_a_root_without_its_own_marker_is_offline(root: LocalRoot) -> None:
    other = attach(root.path.with_name("cold"))
    marker, others = (place.path / ".fusestore" / "root.toml" for place in (root, other))
    kept = marker.read_bytes()
    marker.write_bytes(others.read_bytes())
    assert "another root" in probe(root)
    marker.write_bytes(b"?")
    assert "cannot be understood" in probe(root)
    marker.unlink()
    assert "no readable marker" in probe(root)
    marker.write_bytes(kept)
    assert probe(root) == ""
    other.close()


@pytest.mark.skipif(not can_loop("ext4"), reason="loop disks need root")
def test_a_disk_that_was_unmounted_lazily_is_offline_although_its_descriptors_still_work() -> None:
    with loop_disk("ext4") as disk:
        root = attach(disk)
        unmount(disk, lazy=True)
        assert os.fstat(root.top).st_dev == root.device
        assert "another directory" in probe(root)
        root.close()
