"""What must hold of a store: its invariants, what a program sees of it, and what lies on its disks at rest."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fusestore.core.intents import Discard, Writing
from fusestore.index import schema
from fusestore.index.check import check
from fusestore.model import MOUNT_ROOT, InodeNo, Layout
from tests.support.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPS: Final = ("uploads", "downloads", "resources/main", "resources/hot", "resources/warm", "resources/cold")


class Proofs(Calls):
    """Looks at a store and its disks, and changes neither.

    Attributes:
        disks: where each root's directory is.
    """

    disks: dict[str, Path]

    def check(self) -> None:
        """Prove the invariants of the index, and that nothing begun is left but what jobs and writers have in hand."""
        assert list(check(self.store.index)) == []
        left = [intent for _, intent in self.store.index.intents() if not isinstance(intent, Writing | Discard)]
        assert left == []

    def walk(self, top: str = "") -> Iterator[tuple[str, InodeNo]]:
        """Every path below `top` with its inode, a directory before its content; the skeleton left out."""
        for name in self.names(top):
            path = f"{top}/{name}" if top else name
            if path not in TOPS and path != "resources":
                yield path, self.store.index.dentry(self.find(top), name.encode()) or MOUNT_ROOT
            if self.stat(path).is_dir:
                yield from self.walk(path)

    def snapshot(self) -> dict[str, tuple[InodeNo, int, int, str | bytes]]:
        """All a program can see: by path the inode, mode, link count (not of directories) and content."""
        found = {}
        for path, number in self.walk():
            inode = self.stat(path)
            what: str | bytes = "special"
            if inode.is_dir:
                what = "directory"
            elif inode.is_regular:
                what = self.read(path)
                assert len(what) == inode.size, path
            elif stat.S_ISLNK(inode.mode):
                what = "-> " + self.readlink(path)
            found[path] = (number, inode.mode, 0 if inode.is_dir else inode.nlink, what)
        return found

    def assert_at_home(self) -> None:
        """Prove that nothing is on its way: each disk holds what its names say and nothing else, and no row is left."""
        index, placement = self.store.index, self.store.placement
        assert not index.has_open_moves()
        writing = {number for number in self.handles.values() if self.store.files.has_writer(number)}
        assert [intent for _, intent in index.intents() if intent.inode not in writing] == []
        guests = set()
        expected: dict[str, dict[str, str | bytes]] = {root.name: {} for root in self.store.roots.values()}
        for path, (number, mode, _, what) in self.snapshot().items():
            assert placement.is_home(number), path
            if len({placement.home(parent) for parent, _ in index.parents(number)}) > 1:
                guests.add(number)
            home = placement.home(number)
            assert home is not None
            root = self.store.roots[home]
            top = next(top for top in TOPS if path.startswith(top + "/"))
            if root.name != top.rpartition("/")[2]:
                continue  # the name of a guest: its bytes are where another name of it is
            if root.layout is Layout.TREE:
                expected[root.name][path[len(top) + 1 :]] = what
            elif stat.S_ISREG(mode):
                expected[root.name][os.fsdecode(root.id_area_path(self.store.inode(number).id))] = what
        assert {name: self.on_disk(name) for name in expected} == expected
        assert index.counts()["skeletons"] == 0
        assert {schema.read_u64(key) for key, _ in index.scan(schema.PLACEMENTS)} <= guests
        assert {schema.read_u64(value) for _, value in index.scan(schema.OCCUPANTS)} <= guests

    def on_disk(self, root: str) -> dict[str, str | bytes]:
        """Everything that lies on a root's disk but its marker: content of files, "directory", or "-> target"."""
        found: dict[str, str | bytes] = {}
        top = os.fspath(self.disks[root])
        for directory, names, files in os.walk(top):
            for name in names + files:
                path = os.path.join(directory, name)
                found[os.path.relpath(path, top)] = _what(path)
        return {path: what for path, what in found.items() if not _is_own(path, what)}


def _what(path: str) -> str | bytes:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "-> " + os.readlink(path)
    if stat.S_ISDIR(mode):
        return "directory"
    return Path(path).read_bytes() if stat.S_ISREG(mode) else "special"


def _is_own(path: str, what: str | bytes) -> bool:
    """The daemon's own directories and its marker, which are there when nothing else is."""
    parts = path.split("/")
    if parts[0] == ".fusestore":
        return (what == "directory" and len(parts) <= 3) or parts[1:] == ["root.toml"]
    return parts[0] == "files" and what == "directory" and len(parts) <= 2
