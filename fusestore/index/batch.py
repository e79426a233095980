"""A change on its way into the index: its rows are gathered here and handed over in one call.

What may not happen here: writing. Nothing is visible before `Index.apply`, which resolves the batch against the rows
as they are then, so that no caller can forget a row that follows from another one:

* ids, hashes and identities follow from an inode; dropping an inode takes its xattrs, stamp, place, writing intent,
  replicas, verified and vanished rows along;
* an inode knows the seq of the last event about it;
* a new version of an inode makes its replicas stale; which of them are due follows from their states;
* an occupant row follows from a placement or skeleton; whoever leaves a spot never takes away a row
  that the same batch gives to another.

The last word on a row wins, so the order of calls matters only where two of them speak about the same thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fusestore.core import moves
from fusestore.index import schema
from fusestore.index.schema import TAG, u32, u64
from fusestore.model import Outcome, ReplicaState

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
        Replica,
        RootNo,
        RootRecord,
        ScrubPass,
        Spot,
        Stamp,
        Trashed,
        Verified,
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
_REPLICA: Final = TAG[schema.REPLICAS]
_DUE: Final = TAG[schema.DUE]


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
        left: once it is resolved, the old records of those that are dropped, or have their bytes on another root now.
    """

    __slots__ = (
        "_entries",
        "_left",
        "_placed",
        "_realized",
        "_replicas",
        "_touched",
        "events",
        "following",
        "grows",
        "inodes",
        "left",
        "rows",
    )

    def __init__(self, *, grows: bool = False) -> None:
        self.grows = grows
        self.rows: dict[bytes, bytes | None] = {}
        self.inodes: dict[InodeNo, Inode | None] = {}
        self.events: list[Event] = []
        self.following: list[Callable[[], object]] = []
        self.left: list[Inode] = []
        self._touched: set[InodeNo] = set()
        self._entries: list[tuple[bytes, JournalEntry]] = []
        self._placed: dict[InodeNo, tuple[Spot, ...] | None] = {}
        self._realized: dict[tuple[RootNo, InodeNo], Spot | None] = {}
        self._left: list[Spot] = []
        self._replicas: dict[tuple[InodeNo, RootNo], Replica | None] = {}

    # -- inodes and names -------------------------------------------------------------------------------------------

    def put_inode(self, inode: Inode) -> None:
        self.inodes[inode.number] = inode
        self._touched.discard(inode.number)

    def touch_inode(self, inode: Inode) -> None:
        """The same, at half the cost, for an inode in the index whose id, backing and present digest stay."""
        if inode.number not in self.inodes:
            self._touched.add(inode.number)
        self.inodes[inode.number] = inode

    def drop_inode(self, inode: Inode) -> None:
        self.inodes[inode.number] = None
        self._touched.discard(inode.number)

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

    def replica(self, number: InodeNo, root: RootNo, replica: Replica | None) -> None:
        """Set or drop the record of a further copy."""
        self._replicas[number, root] = replica

    def due(self, root: RootNo, number: InodeNo, *, due: bool = True) -> None:
        """Say that copies are due which have no record yet: of each file below a directory, or wherever there is room.

        `due=False`: not any more.
        """
        self.rows[_DUE + schema.due_key(root, number)] = b"" if due else None

    def stamp(self, number: InodeNo, stamp: Stamp | None) -> None:
        self.rows[_STAMP + u64(number)] = schema.STAMP.pack(stamp) if stamp is not None else None

    def vanish(self, number: InodeNo, at_ns: int) -> None:
        self.rows[_VANISHED + u64(number)] = u64(at_ns)
        self.rows[_VANISHING + u64(at_ns) + u64(number)] = b""

    def unvanish(self, number: InodeNo, at_ns: int) -> None:
        self.rows[_VANISHED + u64(number)] = None
        self.rows[_VANISHING + u64(at_ns) + u64(number)] = None

    def verified(self, number: InodeNo, verified: Verified | None) -> None:
        """Take down what reading a file again has shown; None: it is gone, or was never read."""
        raw = schema.VERIFICATION.pack(verified) if verified is not None else None
        is_sound = verified is None or verified.outcome is Outcome.SOUND
        self.rows[TAG[schema.VERIFIED] + u64(number)] = raw
        self.rows[TAG[schema.VERIFIED] + schema.damaged_key(number)] = None if is_sound else b""

    def scrub_pass(self, scrub: ScrubPass) -> None:
        self.rows[TAG[schema.META] + schema.SCRUB_ROW] = schema.SCRUB.pack(scrub)

    def trash(self, trashed: Trashed) -> None:
        """Take bytes down as lying in a trash."""
        self.rows[TAG[schema.TRASH] + schema.trash_key(trashed)] = schema.TRASHED.pack(trashed)

    def drop_trash(self, trashed: Trashed) -> None:
        self.rows[TAG[schema.TRASH] + schema.trash_key(trashed)] = None

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

    def meta(self, row: bytes, value: bytes | None) -> None:
        self.rows[TAG[schema.META] + row] = value

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
        seq = numbers.last_seq
        for event in self.events:
            seq += 1
            event.seq, event.epoch, event.time_ns = seq, numbers.epoch, now_ns
            rows[_EVENT + u64(seq)] = schema.EVENT.pack(event)
            self._note(index, event)
        if self.inodes:
            self._derive(index)
        if self._left or self._placed or self._realized:
            self._occupy()
        for (number, root), replica in self._replicas.items():
            rows[_REPLICA + schema.replica_key(number, root)] = schema.REPLICA.pack(replica) if replica else None
            self.due(root, number, due=replica is not None and replica.state is not ReplicaState.CURRENT)
        for line, (id, entry) in enumerate(self._entries):
            rows[_JOURNAL + schema.journal_key(id, record, line)] = schema.ENTRY.pack(entry)
        return rows

    def _note(self, index: Rows, event: Event) -> None:
        """Have the inode that an event is about know it; that of one that goes needs not."""
        number = event.inode
        inode = self.inodes[number] if number in self.inodes else index.inode(number)
        if inode is not None:
            inode.seq = event.seq
            if number not in self.inodes:
                self.touch_inode(inode)

    def _derive(self, index: Rows) -> None:
        """Add the rows that follow from the inodes: first all that go, then all that come."""
        rows = self.rows
        come: dict[bytes, bytes] = {}
        for number, new in self.inodes.items():
            address = _INODE + u64(number)
            if number in self._touched:
                rows[address] = schema.INODE.pack(new)  # type: ignore[arg-type]  # what is touched is there
                continue
            old = index.inode(number)
            if new is not None:
                rows[address] = schema.INODE.pack(new)
            elif old is not None:
                rows[address] = None
                self._take_along(index, old)
            if old is not None:
                if new is not None and new.version != old.version:
                    self._outdate(index, number)
                if new is not None and _same_followers(old, new):
                    continue
                if new is None or _root(old) != _root(new):
                    self.left.append(old)
                for key in _followers(old):
                    rows[key] = None
            if new is not None:
                come |= _followers(new)
        rows |= come

    def _outdate(self, index: Rows, number: InodeNo) -> None:
        for root, replica in index.replicas(number):
            if replica.state is ReplicaState.CURRENT and (number, root) not in self._replicas:
                self._replicas[number, root] = replace(replica, state=ReplicaState.STALE)

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
        for root, _ in index.replicas(number):
            self._replicas[number, root] = None
        for root in index.due_roots():
            self.due(root, number, due=False)
        if index.verified(number) is not None:
            self.verified(number, None)
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


def _root(inode: Inode) -> RootNo | None:
    return inode.backing.root if inode.backing is not None else None


def _same_followers(old: Inode, new: Inode) -> bool:
    return old.id == new.id and old.backing == new.backing and schema.hash_key(old) == schema.hash_key(new)
