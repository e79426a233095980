"""Extended attributes: the object's own, wherever it lies, and the virtual ones."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest

from fusestore.errors import NoAttribute, NotSupported, Protected
from fusestore.service import xattrs
from tests.support.calls import ME

if TYPE_CHECKING:
    from tests.support.opened import Opened

PLACES = pytest.mark.parametrize("path", ["uploads/a", "uploads/d", "resources/hot/a", "resources/hot/d"])


def make(opened: Opened, path: str) -> int:
    return opened.mkdir(path) if path.endswith("d") else opened.write(path, b"x")


@PLACES
def test_an_objects_own_attributes_are_set_listed_and_removed(opened: Opened, path: str) -> None:
    make(opened, path)
    number = opened.find(path)
    xattrs.put(opened.store, number, b"user.colour", b"blue", ME)
    assert xattrs.get(opened.store, number, b"user.colour") == b"blue"
    assert xattrs.names(opened.store, number) == [b"user.colour"]
    xattrs.remove(opened.store, number, b"user.colour", ME)
    with pytest.raises(NoAttribute):
        xattrs.get(opened.store, number, b"user.colour")
    with pytest.raises(NoAttribute):
        xattrs.remove(opened.store, number, b"user.colour", ME)


@PLACES
def test_the_virtual_ones_tell_what_the_index_knows(opened: Opened, path: str) -> None:
    make(opened, path)
    opened.settle()
    number = opened.find(path)
    told = {
        name: xattrs.get(opened.store, number, b"user.fusestore." + name)
        for name in (b"id", b"path", b"root", b"state", b"name")
    }
    top, _, name = path.rpartition("/")
    assert told == {
        b"id": str(uuid.UUID(bytes=opened.stat(path).id)).encode(),
        b"path": path.encode(),
        b"root": top.rpartition("/")[2].encode(),
        b"state": b"ready",
        b"name": name.encode(),
    }
    assert xattrs.names(opened.store, number) == []


def test_ours_cannot_be_changed_and_the_label_cannot_be_seen(opened: Opened) -> None:
    number = opened.write("resources/hot/a", b"x")
    for name in (b"user.fusestore.id", b"user.fusestore"):
        with pytest.raises(Protected):
            xattrs.put(opened.store, number, name, b"x", ME)
    with pytest.raises(NoAttribute):
        xattrs.get(opened.store, number, b"user.fusestore")
    assert b"user.fusestore" in [os.fsencode(name) for name in os.listxattr(opened.disks["hot"] / "a")]


def test_file_capabilities_are_neither_kept_nor_asked_for(opened: Opened) -> None:
    number = opened.write("resources/hot/a", b"x")
    with pytest.raises(NotSupported):
        xattrs.put(opened.store, number, b"security.capability", b"x", ME)
    with pytest.raises(NoAttribute):
        xattrs.get(opened.store, number, b"security.capability")


@pytest.mark.parametrize("name", ["a", "d"])
def test_attributes_travel_with_the_object(opened: Opened, name: str) -> None:
    make(opened, f"uploads/{name}")
    number = opened.find(f"uploads/{name}")
    xattrs.put(opened.store, number, b"user.colour", b"blue", ME)
    for old, new in [("uploads", "resources/cold"), ("resources/cold", "resources/hot"), ("resources/hot", "uploads")]:
        opened.rename(f"{old}/{name}", f"{new}/{name}")
        assert xattrs.get(opened.store, number, b"user.colour") == b"blue"
        opened.rest()
        assert xattrs.get(opened.store, number, b"user.colour") == b"blue"
        assert xattrs.names(opened.store, number) == [b"user.colour"]
    opened.assert_at_home()
