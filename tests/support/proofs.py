"""What must hold of a store: its invariants, what a program sees of it, and what lies on its disks at rest."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fusestore.core.intents import Arrive, Discard, Relocate, Rename, Replicate, Writing
from fusestore.index import schema
from fusestore.index.check import check
from fusestore.model import MOUNT_ROOT, InodeNo, Layout, ReplicaState, RootNo
from fusestore.roots.hashing import Hasher
from tests.support.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.core.intents import Intent

TOPS: Final = ("uploads", "downloads", "resources/main", "resources/hot", "resources/warm", "resources/cold")


def is_kept(intent: Intent) -> bool:
    """Whether an intent is carried out, and kept only until its disk is durable."""
    return isinstance(intent, Arrive | Discard | Relocate | Rename | Replicate) and intent.done


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
        assert [intent for intent in left if not is_kept(intent)] == []
        for key, raw in self.store.index.scan(schema.REPLICAS):
            self._check_replica(InodeNo(schema.read_u64(key[:8])), RootNo(schema.read_u32(key[8:])), raw)

    def _check_replica(self, number: InodeNo, root: RootNo, raw: bytes) -> None:
        """Prove that a replica that is said to be current is what was verified."""
        record, driver = schema.REPLICA.unpack(raw), self.store.roots[root]
        if record.state is ReplicaState.CURRENT and driver.online:
            content = self.path_aside(root, number).read_bytes()
            assert (digest(record.algorithm, content), len(content)) == (record.digest, record.size), number

    def path_aside(self, root: RootNo, number: InodeNo) -> Path:
        """Where an inode lies in a root's id area, if it does."""
        return self.disks[self.store.roots[root].name] / self._aside(root, number)

    def _aside(self, root: RootNo, number: InodeNo) -> str:
        return os.fsdecode(self.store.roots[root].id_area_path(self.store.inode(number).id))

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
        """Prove that nothing is on its way: each disk holds what its names say, and nothing else but replicas.

        No row is left but theirs, and those of what was given up at home.
        """
        index, placement = self.store.index, self.store.placement
        assert not index.has_open_moves()
        writing = {number for number in self.handles.values() if self.store.files.has_writer(number)}
        left = [intent for _, intent in index.intents() if intent.inode not in writing]
        assert [intent for intent in left if not is_kept(intent)] == []
        guests = set()
        expected: dict[str, dict[str, str | bytes]] = {root.name: {} for root in self.store.roots.values()}
        for path, (number, mode, _, what) in self.snapshot().items():
            home = placement.home(number)
            assert home is not None
            replicas = index.replicas(number)
            current = sum(record.state is ReplicaState.CURRENT for _, record in replicas)
            assert not stat.S_ISREG(mode) or current + 1 >= self.store.copies.get(home, 1), path
            for other, record in replicas:
                if record.state is ReplicaState.CURRENT:
                    expected[self.store.roots[other].name][self._aside(other, number)] = what
            if not placement.is_home(number):  # given up at home, and its place is where a replica was
                (spot,) = placement.spots(number)
                assert spot.by_id, path
                expected[self.store.roots[spot.root].name][self._aside(spot.root, number)] = what
                guests.add(number)
                continue
            if len({placement.home(parent) for parent, _ in index.parents(number)}) > 1:
                guests.add(number)
            root = self.store.roots[home]
            top = next(top for top in TOPS if path.startswith(top + "/"))
            if root.name != top.rpartition("/")[2]:
                continue  # the name of a guest: its bytes are where another name of it is
            if root.layout is Layout.TREE:
                expected[root.name][path[len(top) + 1 :]] = what
            elif stat.S_ISREG(mode):
                expected[root.name][self._aside(root.number, number)] = what
        assert {name: self.on_disk(name) for name in expected} == expected
        assert {name: self.in_trash(name) for name in self.disks} == {
            root.name: {os.fsdecode(each.name) for each in index.trash(root.number)}
            for root in self.store.roots.values()
        }
        assert index.counts()["skeletons"] == 0
        assert {schema.read_u64(key) for key, _ in index.scan(schema.PLACEMENTS)} <= guests
        assert {schema.read_u64(value) for _, value in index.scan(schema.OCCUPANTS)} <= guests

    def in_trash(self, root: str) -> set[str]:
        """The names of what lies in a root's trash."""
        trash = self.disks[root] / ".fusestore" / "trash"
        return set(os.listdir(trash)) if trash.exists() else set()

    def on_disk(self, root: str) -> dict[str, str | bytes]:
        """Everything on a root's disk but its marker and manifest: content of files, "directory", or "-> target"."""
        found: dict[str, str | bytes] = {}
        top = os.fspath(self.disks[root])
        for directory, names, files in os.walk(top):
            for name in names + files:
                path = os.path.join(directory, name)
                found[os.path.relpath(path, top)] = _what(path)
        return {path: what for path, what in found.items() if not _is_own(path, what)}


def digest(algorithm: str, content: bytes) -> bytes:
    hasher = Hasher(algorithm)
    hasher.update(content)
    return hasher.digest()


def _what(path: str) -> str | bytes:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "-> " + os.readlink(path)
    if stat.S_ISDIR(mode):
        return "directory"
    return Path(path).read_bytes() if stat.S_ISREG(mode) else "special"


def _is_own(path: str, what: str | bytes) -> bool:
    """The daemon's own directories, its marker and manifest, there when nothing else is, and what is in the trash."""
    parts = path.split("/")
    if parts[0] == ".fusestore":
        own = (["root.toml"], ["manifest"], ["manifest.new"])
        return (what == "directory" and len(parts) <= 3) or parts[1:] in own or parts[1] == "trash"
    return parts[0] == "files" and what == "directory" and len(parts) <= 2
