"""The manifests follow the index: after any end and any start they say what it says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fusestore.index.store import Index
from fusestore.service.recording import entry_of
from tests.support.daemon import Mounted, eventually
from tests.support.manifests import disks, frames, said, wait_until_noted
from tests.support.objects import plant
from tests.support.tools import library, tool

if TYPE_CHECKING:
    from fusestore.model import InodeNo
    from fusestore.roots.manifest import Entry

pytestmark = pytest.mark.timeout(120)


class _Holder:
    """All of a store that `entry_of` asks for."""

    def __init__(self, index: Index) -> None:
        self.index = index


def indexed(store: Mounted) -> dict[InodeNo, Entry]:
    """What the index says of everything that has a name; of a store that is not mounted."""
    index = Index.open(store.store / "index")
    try:
        holder = _Holder(index)
        inodes = [each for each in index.inodes_from(0, 1 << 20) if each.number == 1 or index.parents(each.number)]
        return {inode.number: entry_of(holder, inode) for inode in inodes}  # type: ignore[arg-type]
    finally:
        index.close(clean=index.was_clean)


def differences(store: Mounted) -> list[str]:
    want, have = indexed(store), said(disks(store))
    assert len(want) > 5
    found = [f"{number} is not said" for number in want.keys() - have.keys()]
    found += [f"{number} is said, and not there: {have[number]}" for number in have.keys() - want.keys()]
    found += [f"{have[n]} is said, {want[n]} is so" for n in want.keys() & have.keys() if want[n] != have[n]]
    return found


def test_after_an_orderly_end_they_say_what_the_index_says(travel: Mounted) -> None:
    for name in ("uploads", "resources/hot", "resources/cold", "resources/main"):
        (travel.mountpoint / name / "place").mkdir()
        plant(travel.mountpoint / name / "place")
    travel.umount()
    assert differences(travel) == []

    travel.mount()
    library(travel.uploads / "library")
    (travel.uploads / "library").rename(travel.resources / "cold" / "library")
    (travel.resources / "hot" / "place" / "a").rename(travel.resources / "cold" / "a")
    (travel.resources / "hot" / "place" / "top").rename(travel.uploads / "top")
    tool("rm", "-r", travel.uploads / "place", travel.resources / "main" / "place" / "a")
    travel.umount()  # in the middle of it
    assert differences(travel) == []

    travel.mount()
    travel.wait("--all")
    travel.umount()
    assert differences(travel) == []


def test_what_is_in_step_is_followed_and_not_written_anew(own: Mounted) -> None:
    (own.uploads / "first").write_bytes(b"1")
    own.remount()
    anew = [frame.change for frame in frames(own.store / "uploads") if frame.anew]
    (own.uploads / "second").write_bytes(b"2")
    wait_until_noted(own)
    own.umount()
    assert [frame.change for frame in frames(own.store / "uploads") if frame.anew] == anew
    assert differences(own) == []


def test_nothing_is_written_where_nothing_is_changed(own: Mounted) -> None:
    own.remount()
    before = {name: (disk / ".fusestore" / "manifest").stat() for name, disk in disks(own).items()}
    own.remount()
    assert {name: (disk / ".fusestore" / "manifest").stat() for name, disk in disks(own).items()} == before


def test_after_a_kill_they_are_written_anew(own: Mounted) -> None:
    own.allow_log("unclean|replay|recover|interrupted|leftover")
    wait_until_noted(own)
    (own.uploads / "last").write_bytes(b"lost by the manifest, not by the index")
    (own.uploads / "mark").unlink()
    own.kill9()
    own.mount()
    number = (own.uploads / "last").stat().st_ino
    uploads = own.store / "uploads"
    eventually(
        lambda: any(e.inode.number == number for f in frames(uploads) if f.anew for e in f.entries), "written anew"
    )
    own.umount()
    assert differences(own) == []


def test_a_torn_end_is_written_over(own: Mounted) -> None:
    own.umount()
    with open(own.store / "main" / ".fusestore" / "manifest", "ab") as manifest:
        manifest.write(os.urandom(100))
    own.mount()
    (own.resources / "main" / "new").write_bytes(b"new")
    own.umount()
    assert differences(own) == []
