"""Names, inodes and places: the reads that every handler makes, about a microsecond each.

Everything goes through the open write transaction, so a read sees every batch applied so far.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from fusestore.index import schema
from fusestore.index.begun import Begun
from fusestore.index.schema import (
    DUE,
    OCCUPANTS,
    PARENTS,
    PLACEMENTS,
    REPLICAS,
    SKELETONS,
    VANISHED,
    read_u32,
    read_u64,
    u32,
    u64,
)
from fusestore.model import InodeNo, RootNo, Spot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.model import Backing, Drain, Inode, Replica, RootRecord, ScrubPass, Stamp, Trashed, Verified

_unpack_inode = schema.INODE.unpack
_unpack_placement = schema.PLACEMENT.unpack


MEMORY: Final = 10_000  # inodes whose names are remembered


class Rows(Begun):
    """The present state of the tree; conforms to `core.ports.Catalog`."""

    def _begin(self) -> None:
        super()._begin()
        self._names: dict[InodeNo, tuple[tuple[InodeNo, bytes], ...]] = {}  # as far as they were asked for
        self._followed[PARENTS] = self._forget_names

    def _forget_names(self, key: bytes, _: bytes | None) -> bool:
        self._names.pop(InodeNo(read_u64(key[:8])), None)
        return False

    # -- inodes and names -------------------------------------------------------------------------------------------

    def inode(self, number: InodeNo) -> Inode | None:
        raw = self._get(u64(number), None, self._inodes)
        return _unpack_inode(raw) if raw is not None else None

    def inodes_from(self, start: int, limit: int) -> list[Inode]:
        """At most `limit` inodes with numbers from `start` on, in order."""
        return [_unpack_inode(raw) for _, raw in islice(self.scan(schema.INODES, start=u64(start)), limit)]

    def by_id(self, id: bytes) -> InodeNo | None:
        raw = self._get(id, None, self._ids)
        return InodeNo(read_u64(raw)) if raw is not None else None

    def ids_from(self, start: bytes, limit: int) -> list[tuple[bytes, InodeNo]]:
        """At most `limit` ids from `start` on, in order, with their inodes."""
        found = islice(self.scan(schema.IDS, start=start), limit)
        return [(key, InodeNo(read_u64(value))) for key, value in found]

    def dentry(self, parent: InodeNo, name: bytes) -> InodeNo | None:
        raw = self._get(u64(parent) + name, None, self._dentries)
        return InodeNo(read_u64(raw)) if raw is not None else None

    def dentries(self, parent: InodeNo, after: bytes = b"", limit: int = 0) -> list[tuple[bytes, InodeNo]]:
        """The names of a directory that come after `after`, in byte order; at most `limit` of them unless it is 0."""
        prefix = u64(parent)
        found: list[tuple[bytes, InodeNo]] = []
        for key, value in self.scan(schema.DENTRIES, prefix, prefix + after + b"\0"):
            found.append((key[8:], InodeNo(read_u64(value))))
            if len(found) == limit:
                break
        return found

    def has_dentries(self, parent: InodeNo) -> bool:
        return self.has_prefix(schema.DENTRIES, u64(parent))

    def parents(self, number: InodeNo) -> tuple[tuple[InodeNo, bytes], ...]:
        """Every (parent, name) that leads to `number`, in key order."""
        known = self._names.get(number)
        if known is not None:
            return known
        prefix = u64(number)
        cursor = self._txn.cursor(self._parents)
        found: list[tuple[InodeNo, bytes]] = []
        more = cursor.set_range(prefix)
        while more:
            key = cursor.key()
            if not key.startswith(prefix):
                break
            found.append((InodeNo(read_u64(key[8:16])), key[16:]))
            more = cursor.next()
        names = tuple(found)
        if len(self._names) >= MEMORY:
            self._names.clear()
        self._names[number] = names
        return names

    def xattr(self, number: InodeNo, name: bytes) -> bytes | None:
        return self._get(u64(number) + name, None, self._xattrs)

    def xattrs(self, number: InodeNo) -> list[bytes]:
        """The names of an inode's extended attributes."""
        return [key[8:] for key, _ in self.scan(schema.XATTRS, u64(number))]

    # -- places -----------------------------------------------------------------------------------------------------

    def placement(self, number: InodeNo) -> tuple[Spot, ...] | None:
        if not self._filled[PLACEMENTS]:
            return None
        raw = self._get(u64(number), None, self._placements)
        return _unpack_placement(raw) if raw is not None else None

    def occupant(self, spot: Spot) -> InodeNo | None:
        if not self._filled[OCCUPANTS]:
            return None
        raw = self._get(schema.spot_key(spot), None, self._occupants)
        return InodeNo(read_u64(raw)) if raw is not None else None

    def occupants(self, root: RootNo, directory: InodeNo) -> list[tuple[bytes, InodeNo]]:
        """The names that ghosts and skeletons take in one directory on one root's disk."""
        prefix = schema.directory_prefix(root, directory)
        return [(key[12:], InodeNo(read_u64(value))) for key, value in self.scan(schema.OCCUPANTS, prefix)]

    def any_occupant(self, root: RootNo) -> bool:
        return self.has_prefix(schema.OCCUPANTS, u32(root))

    def skeleton(self, number: InodeNo, root: RootNo) -> Spot | None:
        raw = self._get(schema.skeleton_key(root, number), None, self._skeletons)
        return schema.SPOT.unpack(raw) if raw is not None else None

    def skeletons(self, number: InodeNo) -> list[Spot]:
        """A directory's further realizations, one root each."""
        found: list[Spot] = []
        if not self._filled[SKELETONS]:
            return found
        cursor = self._txn.cursor(self._skeletons)
        more = cursor.first()
        while more:  # one step per root that has skeletons at all, not per row
            root, _ = schema.read_place(cursor.key())
            spot = self.skeleton(number, RootNo(root))
            if spot is not None:
                found.append(spot)
            more = cursor.set_range(schema.skeleton_key(root + 1, 0))
        return found

    def any_skeleton(self, root: RootNo) -> bool:
        return self.has_prefix(schema.SKELETONS, u32(root))

    # -- further copies ---------------------------------------------------------------------------------------------

    def has_placements(self) -> bool:
        """Whether anything may lie elsewhere than its name says."""
        return bool(self._filled[PLACEMENTS])

    def has_replicas(self) -> bool:
        """Whether any file may have one."""
        return bool(self._filled[REPLICAS])

    def replica(self, number: InodeNo, root: RootNo) -> Replica | None:
        if not self._filled[REPLICAS]:
            return None
        raw = self._get(schema.replica_key(number, root), None, self._replicas)
        return schema.REPLICA.unpack(raw) if raw is not None else None

    def replicas(self, number: InodeNo) -> list[tuple[RootNo, Replica]]:
        """The further copies of a file, by root."""
        found = self.scan(REPLICAS, u64(number))
        return [(RootNo(read_u32(key[8:])), schema.REPLICA.unpack(value)) for key, value in found]

    def due(self, root: RootNo, after: InodeNo, limit: int) -> list[InodeNo]:
        """The inodes after `after` of which a copy on `root` is due, in order; at most `limit`."""
        found = islice(self.scan(DUE, u32(root), schema.due_key(root, after + 1)), limit)
        return [InodeNo(read_u64(key[4:])) for key, _ in found]

    def is_due(self, root: RootNo, number: InodeNo) -> bool:
        return bool(self._filled[DUE]) and self.get(DUE, schema.due_key(root, number)) is not None

    def due_roots(self) -> list[RootNo]:
        """The roots on which any copy is due, 0 among them."""
        found: list[RootNo] = []
        while (row := next(self.scan(DUE, start=u32(found[-1] + 1 if found else 0)), None)) is not None:
            found.append(RootNo(read_u32(row[0][:4])))
        return found

    # -- the disk's side --------------------------------------------------------------------------------------------

    def by_backing(self, backing: Backing) -> InodeNo | None:
        raw = self._get(schema.identity_key(backing), None, self._identities)
        return InodeNo(read_u64(raw)) if raw is not None else None

    def stamp(self, number: InodeNo) -> Stamp | None:
        raw = self._get(u64(number), None, self._stamps)
        return schema.STAMP.unpack(raw) if raw is not None else None

    def by_hash(self, algorithm: str, digest: bytes) -> list[InodeNo]:
        """The inodes whose present content has this digest."""
        prefix = schema.hash_prefix(algorithm, digest)
        found = self.scan(schema.HASHES, prefix)
        return [InodeNo(read_u64(key[-8:])) for key, _ in found if len(key) == len(prefix) + 8]

    def vanished(self, before_ns: int, limit: int) -> list[InodeNo]:
        """Inodes that lost their disk object before a time, oldest first."""
        found: list[InodeNo] = []
        for key, _ in self.scan(schema.VANISHINGS):
            if len(found) == limit or read_u64(key[:8]) >= before_ns:
                break
            found.append(InodeNo(read_u64(key[8:])))
        return found

    def vanished_at(self, number: InodeNo) -> int | None:
        if not self._filled[VANISHED]:
            return None
        raw = self._get(u64(number), None, self._vanished)
        return read_u64(raw) if raw is not None else None

    def inodes_after(self, number: InodeNo, limit: int) -> list[InodeNo]:
        """At most `limit` inodes with a number above `number`, in order."""
        found = islice(self.scan(schema.INODES, start=u64(number + 1)), limit)
        return [InodeNo(read_u64(key)) for key, _ in found]

    def verified(self, number: InodeNo) -> Verified | None:
        """The last time that a file's bytes were read again."""
        if not self._filled[schema.VERIFIED]:
            return None
        raw = self.get(schema.VERIFIED, u64(number))
        return schema.VERIFICATION.unpack(raw) if raw is not None else None

    def unsound(self) -> list[InodeNo]:
        """What was not sound when it was last read; it may have been written since."""
        found = self.scan(schema.VERIFIED, start=u64(schema.DAMAGED))
        return [InodeNo(read_u64(key) & ~schema.DAMAGED) for key, _ in found]

    def scrub_pass(self) -> ScrubPass | None:
        """The last going through all files, or the one that goes on."""
        raw = self.get(schema.META, schema.SCRUB_ROW)
        return schema.SCRUB.unpack(raw) if raw is not None else None

    def trash(self, root: RootNo) -> Iterator[Trashed]:
        """What lies in a root's trash, what is to be destroyed next first; nothing may be written meanwhile."""
        return (schema.TRASHED.unpack(value) for _, value in self.scan(schema.TRASH, u32(root)))

    def is_in_trash(self, trashed: Trashed) -> bool:
        """Whether there is a row of it."""
        return self.get(schema.TRASH, schema.trash_key(trashed)) is not None

    # -- the store --------------------------------------------------------------------------------------------------

    def numbers_after(self, after: InodeNo, limit: int) -> list[InodeNo]:
        """The inodes with a number above `after`, in order; at most `limit`."""
        return [InodeNo(read_u64(key)) for key, _ in islice(self.scan(schema.INODES, start=u64(after + 1)), limit)]

    def drains(self) -> dict[RootNo, Drain]:
        """The roots that are to be empty."""
        found = self.scan(schema.META, schema.DRAIN_ROW)
        return {RootNo(read_u32(key[-4:])): schema.DRAIN.unpack(value) for key, value in found}

    def roots(self) -> list[RootRecord]:
        return [schema.ROOT.unpack(value) for _, value in self.scan(schema.ROOTS)]
