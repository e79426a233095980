"""The label on a disk object: read back as written, and not believed on any other object."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusestore.config import RootConfig
from fusestore.model import Backing, InodeNo, Layout, Outside, RootNo
from fusestore.roots import identity
from fusestore.roots.local import LocalRoot

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

U64 = st.integers(0, 2**64 - 1)
LABELS = st.builds(
    identity.Label,
    st.binary(min_size=16, max_size=16),
    U64.map(InodeNo),
    st.binary(min_size=16, max_size=16),
    st.builds(Backing, st.just(RootNo(0)), U64, st.integers(-(2**63), 2**63 - 1)),
)


@given(LABELS)
def test_a_label_reads_back_as_it_was_written(label: identity.Label) -> None:
    assert identity.decode(identity.encode(label)) == label


@given(LABELS, st.binary())
def test_what_is_not_a_label_is_nobody(label: identity.Label, noise: bytes) -> None:
    value = identity.encode(label)
    assert identity.decode(noise) is None
    assert identity.decode(value + b"x") is None
    assert identity.decode(b"\x02" + value[1:]) is None


def test_a_copy_carries_a_label_that_is_not_its_own(tmp_path: Path) -> None:
    spec = RootConfig("hot", tmp_path / "hot", Outside.WRITERS)
    root = LocalRoot.attach(RootNo(4), spec, Layout.TREE, uuid4().bytes, create=True)
    os.close(root.create(root.top, b"file", 0o600, os.geteuid(), os.getegid()))
    assert identity.read(root, root.top, b"file") is None
    backing = root.backing(root.top, b"file")
    label = identity.Label(uuid4().bytes, InodeNo(300), root.uuid, backing)
    assert identity.write(root, root.top, b"file", label)

    shutil.copy2(root.path / "file", root.path / "copy")
    mine, copied = identity.read(root, root.top, b"file"), identity.read(root, root.top, b"copy")
    assert mine is not None
    assert mine == copied
    assert (mine.id, mine.inode) == (label.id, label.inode)
    assert mine.belongs_to(backing, root.uuid)
    assert not mine.belongs_to(backing, uuid4().bytes)
    assert not mine.belongs_to(root.backing(root.top, b"copy"), root.uuid)
    root.close()


def test_an_open_file_is_labelled_the_same(tmp_path: Path) -> None:
    label = identity.Label(bytes(16), InodeNo(300), bytes(16), Backing(RootNo(0), 5, 6))
    with (tmp_path / "file").open("wb") as file:
        assert identity.write_fd(file.fileno(), label)
    assert identity.decode(os.getxattr(tmp_path / "file", identity.IDENTITY_XATTR)) == label


def test_an_object_that_cannot_carry_a_label_goes_without(tmp_path: Path) -> None:
    spec = RootConfig("hot", tmp_path / "hot", Outside.WRITERS)
    root = LocalRoot.attach(RootNo(4), spec, Layout.TREE, uuid4().bytes, create=True)
    root.symlink(root.top, b"link", b"x", os.geteuid(), os.getegid())
    label = identity.Label(uuid4().bytes, InodeNo(300), root.uuid, root.backing(root.top, b"link"))
    assert not identity.write(root, root.top, b"link", label)
    assert identity.read(root, root.top, b"link") is None
    root.close()
