"""Names, inodes and places: the reads that every handler makes, about a microsecond each.

Everything goes through the open write transaction, so a read sees every batch applied so far.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from fusestore.index import schema
from fusestore.index.schema import read_u64, u32, u64
from fusestore.index.tables import Tables
from fusestore.model import InodeNo, RootNo, Spot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusestore.core.intents import Intent, Writing
    from fusestore.model import Backing, Inode, RootRecord, Stamp

_unpack_inode = schema.INODE.unpack
_unpack_placement = schema.PLACEMENT.unpack


class Rows(Tables):
    """The present state of the tree; conforms to `core.ports.Catalog`."""

    # The names last asked for: one change asks for those of its inode again and again.
    _named: tuple[InodeNo, tuple[tuple[InodeNo, bytes], ...]] | None = None

    def _begin(self) -> None:
        super()._begin()
        self._named = None

    def _write(self, rows: Mapping[bytes, bytes | None]) -> None:
        self._named = None
        super()._write(rows)

    # -- inodes and names -------------------------------------------------------------------------------------------

    def inode(self, number: InodeNo) -> Inode | None:
        raw = self._get(u64(number), None, self._inodes)
        return _unpack_inode(raw) if raw is not None else None

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
        if self._named is not None and self._named[0] == number:
            return self._named[1]
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
        self._named = number, names
        return names

    def xattr(self, number: InodeNo, name: bytes) -> bytes | None:
        return self._get(u64(number) + name, None, self._xattrs)

    def xattrs(self, number: InodeNo) -> list[bytes]:
        """The names of an inode's extended attributes."""
        return [key[8:] for key, _ in self.scan(schema.XATTRS, u64(number))]

    # -- places -----------------------------------------------------------------------------------------------------

    def placement(self, number: InodeNo) -> tuple[Spot, ...] | None:
        raw = self._get(u64(number), None, self._placements)
        return _unpack_placement(raw) if raw is not None else None

    def occupant(self, spot: Spot) -> InodeNo | None:
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
        raw = self._get(u64(number), None, self._vanished)
        return read_u64(raw) if raw is not None else None

    # -- the store --------------------------------------------------------------------------------------------------

    def intents(self) -> list[tuple[int, Intent]]:
        """Everything begun and not settled, with its key, in the order it was begun; `Writing` intents last."""
        return [(read_u64(key), schema.INTENT.unpack(value)) for key, value in self.scan(schema.INTENTS)]

    def writing(self, number: InodeNo) -> Writing | None:
        """The writing period of an inode that is not settled yet."""
        raw = self._get(u64(schema.writing_key(number)), None, self._intents)
        return schema.INTENT.unpack(raw) if raw is not None else None  # type: ignore[return-value]  # by its key

    def roots(self) -> list[RootRecord]:
        return [schema.ROOT.unpack(value) for _, value in self.scan(schema.ROOTS)]
