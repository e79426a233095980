"""A change on its way into the index: its rows are gathered here and handed over in one call.

What may not happen here: writing. Nothing is visible before `Index.apply`, which resolves the batch against the rows
as they are then, so that no caller can forget a row that follows from another one:

* ids, hashes and identities follow from an inode; dropping an inode takes its xattrs, stamp, place, writing intent and
  vanished rows along;
* an occupant row follows from a placement or skeleton; whoever leaves a spot never takes away a row
  that the same batch gives to another.

The last word on a row wins, so the order of calls matters only where two of them speak about the same thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fusestore.core import moves
from fusestore.index import schema
from fusestore.index.schema import TAG, u32, u64

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.core.intents import Intent, Writing
    from fusestore.index.rows import Rows
    from fusestore.index.schema import Numbers
    from fusestore.model import (
        Event,
        Inode,
        InodeNo,
        JournalEntry,
        Move,
        RootNo,
        RootRecord,
        Spot,
        Stamp,
    )

_INODE: Final = TAG[schema.INODES]
_ID: Final = TAG[schema.IDS]
_DENTRY: Final = TAG[schema.DENTRIES]
_PARENT: Final = TAG[schema.PARENTS]
_XATTR: Final = TAG[schema.XATTRS]
_PLACEMENT: Final = TAG[schema.PLACEMENTS]
_OCCUPANT: Final = TAG[schema.OCCUPANTS]
_SKELETON: Final = TAG[schema.SKELETONS]
_INTENT: Final = TAG[schema.INTENTS]
_IDENTITY: Final = TAG[schema.IDENTITIES]
_STAMP: Final = TAG[schema.STAMPS]
_HASH: Final = TAG[schema.HASHES]
_EVENT: Final = TAG[schema.EVENTS]
_JOURNAL: Final = TAG[schema.JOURNAL]
_VANISHED: Final = TAG[schema.VANISHED]
_VANISHING: Final = TAG[schema.VANISHINGS]


class Batch:
    """The rows of one change.

    Args:
        grows: the change makes the index larger for good and may be refused when room runs short; removals and
            switches must not say so.

    Attributes:
        rows: by address (table number, key); None deletes.
        inodes: new states; None drops. A record belongs to the batch until it is applied.
        events: get seq, epoch and time when they are applied.
        following: what memory keeps beside the index (`then`).
    """

    __slots__ = ("_entries", "_left", "_placed", "_realized", "events", "following", "grows", "inodes", "rows")

    def __init__(self, *, grows: bool = False) -> None:
        self.grows = grows
        self.rows: dict[bytes, bytes | None] = {}
        self.inodes: dict[InodeNo, Inode | None] = {}
        self.events: list[Event] = []
        self.following: list[Callable[[], object]] = []
        self._entries: list[tuple[bytes, JournalEntry]] = []
        self._placed: dict[InodeNo, tuple[Spot, ...] | None] = {}
        self._realized: dict[tuple[RootNo, InodeNo], Spot | None] = {}
        self._left: list[Spot] = []

    # -- inodes and names -------------------------------------------------------------------------------------------

    def put_inode(self, inode: Inode) -> None:
        self.inodes[inode.number] = inode

    def drop_inode(self, inode: Inode) -> None:
        self.inodes[inode.number] = None

    def link(self, parent: InodeNo, name: bytes, number: InodeNo) -> None:
        key, value = u64(parent) + name, u64(number)
        self.rows[_DENTRY + key] = value
        self.rows[_PARENT + value + key] = b""

    def unlink(self, parent: InodeNo, name: bytes, number: InodeNo) -> None:
        key, value = u64(parent) + name, u64(number)
        if self.rows.get(_DENTRY + key, value) == value:
            self.rows[_DENTRY + key] = None
        self.rows[_PARENT + value + key] = None

    def xattr(self, number: InodeNo, name: bytes, value: bytes | None) -> None:
        self.rows[_XATTR + u64(number) + name] = value

    # -- places -----------------------------------------------------------------------------------------------------

    def place(self, number: InodeNo, spots: tuple[Spot, ...] | None, was: tuple[Spot, ...] | None) -> None:
        """Set or drop an inode's placement row; `was` is the row it has now."""
        if spots is not None or was is not None or number in self._placed:
            self._placed[number] = spots
            self._left += was or ()

    def skeleton(self, number: InodeNo, spot: Spot) -> None:
        self._realized[spot.root, number] = spot

    def drop_skeleton(self, number: InodeNo, spot: Spot) -> None:
        self._realized[spot.root, number] = None
        self._left.append(spot)

    def stamp(self, number: InodeNo, stamp: Stamp | None) -> None:
        self.rows[_STAMP + u64(number)] = schema.STAMP.pack(stamp) if stamp is not None else None

    def vanish(self, number: InodeNo, at_ns: int) -> None:
        self.rows[_VANISHED + u64(number)] = u64(at_ns)
        self.rows[_VANISHING + u64(at_ns) + u64(number)] = b""

    def unvanish(self, number: InodeNo, at_ns: int) -> None:
        self.rows[_VANISHED + u64(number)] = None
        self.rows[_VANISHING + u64(at_ns) + u64(number)] = None

    # -- intents and history ----------------------------------------------------------------------------------------

    def intent(self, key: int, intent: Intent) -> None:
        self.rows[_INTENT + u64(key)] = schema.INTENT.pack(intent)

    def settle(self, key: int) -> None:
        self.rows[_INTENT + u64(key)] = None

    def writing(self, number: InodeNo, intent: Writing) -> None:
        self.intent(schema.writing_key(number), intent)

    def written(self, number: InodeNo) -> None:
        self.settle(schema.writing_key(number))

    def event(self, event: Event) -> None:
        self.events.append(event)

    def journal(self, id: bytes, entry: JournalEntry) -> None:
        self._entries.append((id, entry))

    def move(self, move: Move) -> None:
        key = u64(move.number)
        self.rows[TAG[schema.MOVES] + key] = schema.MOVE.pack(move)
        self.rows[TAG[schema.OPEN_MOVES] + u64(move.inode) + key] = b"" if move.state in moves.OPEN else None

    # -- the store --------------------------------------------------------------------------------------------------

    def root(self, root: RootRecord) -> None:
        self.rows[TAG[schema.ROOTS] + u32(root.number)] = schema.ROOT.pack(root)

    # -- memory -----------------------------------------------------------------------------------------------------

    def then(self, follow: Callable[[], object]) -> None:
        """Have memory follow: `follow` is called once the change is made, and never when the index refuses it."""
        self.following.append(follow)

    # -- applying ---------------------------------------------------------------------------------------------------

    def resolve(self, index: Rows, numbers: Numbers, record: int, now_ns: int) -> dict[bytes, bytes | None]:
        """All rows of the change, given the index as it is; for `Index.apply` alone.

        Args:
            record: number of the log record that will bring them.
        """
        rows = self.rows
        if self.inodes:
            self._derive(index)
        if self._left or self._placed or self._realized:
            self._occupy()
        seq = numbers.last_seq
        for event in self.events:
            seq += 1
            event.seq, event.epoch, event.time_ns = seq, numbers.epoch, now_ns
            rows[_EVENT + u64(seq)] = schema.EVENT.pack(event)
        for line, (id, entry) in enumerate(self._entries):
            rows[_JOURNAL + schema.journal_key(id, record, line)] = schema.ENTRY.pack(entry)
        return rows

    def _derive(self, index: Rows) -> None:
        """Add the rows that follow from the inodes: first all that go, then all that come."""
        rows = self.rows
        come: dict[bytes, bytes] = {}
        for number, new in self.inodes.items():
            address = _INODE + u64(number)
            old = index.inode(number)
            if new is not None:
                rows[address] = schema.INODE.pack(new)
            elif old is not None:
                rows[address] = None
                self._take_along(index, old)
            if old is not None:
                if new is not None and _same_followers(old, new):
                    continue
                for key in _followers(old):
                    rows[key] = None
            if new is not None:
                come |= _followers(new)
        rows |= come

    def _take_along(self, index: Rows, inode: Inode) -> None:
        number, rows = inode.number, self.rows
        owner = u64(number)
        for name in index.xattrs(number):
            rows[_XATTR + owner + name] = None
        spots = index.placement(number)
        if spots is not None:
            self.place(number, None, spots)
        if index.writing(number) is not None:
            self.written(number)
        vanished = index.vanished_at(number)
        if vanished is not None:
            self.unvanish(number, vanished)
        if inode.is_dir:
            rows[_STAMP + owner] = None
            for spot in index.skeletons(number):
                self.drop_skeleton(number, spot)

    def _occupy(self) -> None:
        """Add the placement, skeleton and occupant rows: first the spots that are left, then those that are taken."""
        rows = self.rows
        for spot in self._left:
            if not spot.by_id:
                rows[_OCCUPANT + schema.spot_key(spot)] = None
        for number, spots in self._placed.items():
            rows[_PLACEMENT + u64(number)] = schema.PLACEMENT.pack(spots) if spots is not None else None
            for spot in spots or ():
                if not spot.by_id:
                    rows[_OCCUPANT + schema.spot_key(spot)] = u64(number)
        for (root, number), realized in self._realized.items():
            rows[_SKELETON + schema.skeleton_key(root, number)] = schema.SPOT.pack(realized) if realized else None
            if realized and not realized.by_id:
                rows[_OCCUPANT + schema.spot_key(realized)] = u64(number)


def _followers(inode: Inode) -> dict[bytes, bytes]:
    """The rows that follow from an inode."""
    owner = u64(inode.number)
    rows = {_ID + inode.id: owner}
    if inode.backing is not None:
        rows[_IDENTITY + schema.identity_key(inode.backing)] = owner
    digest = schema.hash_key(inode)
    if digest is not None:
        rows[_HASH + digest] = b""
    return rows


def _same_followers(old: Inode, new: Inode) -> bool:
    return old.id == new.id and old.backing == new.backing and schema.hash_key(old) == schema.hash_key(new)
