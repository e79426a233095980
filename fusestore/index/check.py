"""The invariants of `index.schema`, executed: what `fusestore check` runs, and every test that touched a store.

What may not happen here: changing anything, or holding more of the index in memory than one row and its neighbours
(intents excepted; there are few). Nothing may be applied while a check is being iterated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from fusestore.core import moves
from fusestore.core.placement import Placement
from fusestore.errors import IndexFault
from fusestore.index import schema
from fusestore.index.schema import read_u32, read_u64, u32, u64
from fusestore.model import FIRST_INODE, InodeNo, Outcome, ReplicaState, RootNo, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusestore.index.schema import Record
    from fusestore.index.store import Index
    from fusestore.model import Inode, Spot

T = TypeVar("T")


class Violation(NamedTuple):
    """One place where an invariant does not hold."""

    invariant: str
    text: str


def check(index: Index) -> Iterator[Violation]:
    """Find everything that is wrong with an index; nothing when all invariants hold."""
    for number, find in enumerate(INVARIANTS, 1):
        for text in find(index):
            yield Violation(f"I{number}", text)


# -- inodes and names -------------------------------------------------------------------------------------------------


def _ids(index: Index) -> Iterator[str]:
    for number, inode in _inodes(index):
        if index.by_id(inode.id) != number:
            yield f"inode {number} is not found under its id {inode.id.hex()}"
        if inode.number != number:
            yield f"inode {number} calls itself {inode.number}"
    for id, value in index.scan(schema.IDS):
        found = _inode(index, read_u64(value))
        if found is None or found.id != id:
            yield f"id {id.hex()} leads to inode {read_u64(value)}, which does not have it"


def _names(index: Index) -> Iterator[str]:
    for key, value in index.scan(schema.DENTRIES):
        if index.get(schema.PARENTS, value + key) is None:
            yield f"dentry {_dentry(key)} of inode {read_u64(value)} has no parents row"
    for key, _ in index.scan(schema.PARENTS):
        if index.get(schema.DENTRIES, key[8:]) != key[:8]:
            yield f"inode {read_u64(key[:8])} claims the name {_dentry(key[8:])}, which is not its own"


def _dentries_lead_somewhere(index: Index) -> Iterator[str]:
    known = b""
    for key, value in index.scan(schema.DENTRIES):
        if index.get(schema.INODES, value) is None:
            yield f"dentry {_dentry(key)} leads to inode {read_u64(value)}, which does not exist"
        if key[:8] != known:
            known = key[:8]
            parent = _inode(index, read_u64(known))
            if parent is None or not parent.is_dir:
                yield f"inode {read_u64(known)} has dentries and is no directory"


def _nothing_is_lost(index: Index) -> Iterator[str]:
    covered = {intent.inode for _, intent in _readable(index, schema.INTENTS, schema.INTENT)}
    for key, _ in index.scan(schema.INODES):
        number = read_u64(key)
        if (
            number >= FIRST_INODE
            and number not in covered
            and not index.has_prefix(schema.PARENTS, key)
            and index.get(schema.VANISHED, key) is None
        ):
            yield f"inode {number} has no name, has not vanished, and no intent speaks of it"


def _tree(index: Index) -> Iterator[str]:
    for number, inode in _inodes(index):
        if not inode.is_dir:
            continue
        names = index.parents(number)
        if len(names) > 1:
            yield f"directory {number} has {counted(len(names), 'name')}"
        passed = {number}
        while names:
            above = names[0][0]
            if above in passed:
                if above == number == min(passed):  # each cycle is told once
                    yield f"directory {number} lies below itself"
                break
            passed.add(above)
            names = index.parents(above)


# -- places -----------------------------------------------------------------------------------------------------------


def _placements(index: Index) -> Iterator[str]:
    for key, spots in _readable(index, schema.PLACEMENTS, schema.PLACEMENT):
        number = InodeNo(read_u64(key))
        if len({spot.root for spot in spots}) != 1:
            yield f"the placement of inode {number} is not on one root: {spots}"
        yield from _not_occupying(index, number, spots)
    for key, value in index.scan(schema.OCCUPANTS):
        number = InodeNo(read_u64(value))
        if not any(schema.spot_key(spot) == key for spot in _spots(index, number)):
            root, directory = schema.read_place(key)
            yield f"inode {number} is said to be on root {root} in directory {directory} as {key[12:]!r}, and is not"


def _skeletons(index: Index) -> Iterator[str]:
    for key, spot in _readable(index, schema.SKELETONS, schema.SPOT):
        root, directory = schema.read_place(key)
        number = InodeNo(directory)
        if spot.root != root:
            yield f"the skeleton of inode {number} on root {root} lies on root {spot.root}"
        inode = _inode(index, number)
        if inode is not None and not inode.is_dir:
            yield f"inode {number} has a skeleton and is no directory"
        yield from _not_occupying(index, number, (spot,))


def _not_occupying(index: Index, number: InodeNo, spots: tuple[Spot, ...]) -> Iterator[str]:
    for spot in spots:
        if not spot.by_id and index.occupant(spot) != number:
            yield f"inode {number} lies at {spot}, and nobody knows"


# -- rows that follow from others -------------------------------------------------------------------------------------


def _orphans(index: Index) -> Iterator[str]:
    for table, owner in OWNERS.items():
        for key, value in index.scan(table):
            if index.get(schema.INODES, owner(key, value)) is None:
                yield f"{schema.NAMES[table]} has a row of inode {read_u64(owner(key, value))}, which does not exist"
    roots = {key for key, _ in index.scan(schema.ROOTS)}
    for table in (schema.OCCUPANTS, schema.SKELETONS, schema.IDENTITIES, schema.TRASH):
        for key, _ in index.scan(table):
            if key[:4] not in roots:
                yield f"{schema.NAMES[table]} names root {read_u32(key[:4])}, which does not exist"
    for table, of in ((schema.REPLICAS, slice(8, 12)), (schema.DUE, slice(4))):
        for key, _ in index.scan(table):
            if key[of] not in roots and any(key[of]):
                yield f"{schema.NAMES[table]} names root {read_u32(key[of])}, which does not exist"
    for key, spots in _readable(index, schema.PLACEMENTS, schema.PLACEMENT):
        yield from (_no_root(key, spot.root) for spot in spots if u32(spot.root) not in roots)
    for key, stamp in _readable(index, schema.STAMPS, schema.STAMP):
        if u32(stamp.root) not in roots:
            yield _no_root(key, stamp.root)


def _no_root(key: bytes, root: RootNo) -> str:
    return f"inode {read_u64(key)} has to do with root {root}, which does not exist"


def _identities(index: Index) -> Iterator[str]:
    for number, inode in _inodes(index):
        if inode.backing is not None and index.by_backing(inode.backing) != number:
            yield f"inode {number} is not found under its {inode.backing}"
    for key, value in index.scan(schema.IDENTITIES):
        found = _inode(index, read_u64(value))
        if found is not None and (found.backing is None or schema.identity_key(found.backing) != key):
            yield f"a disk object is said to carry inode {found.number}, which has {found.backing}"


def _hashes(index: Index) -> Iterator[str]:
    for number, inode in _inodes(index):
        key = schema.hash_key(inode)
        if key is not None and index.get(schema.HASHES, key) is None:
            yield f"inode {number} is not found under its hash"
    for key, _ in index.scan(schema.HASHES):
        found = _inode(index, read_u64(key[-8:]))
        if found is not None and schema.hash_key(found) != key:
            yield f"inode {found.number} is found under a hash that it does not have"


# -- history ----------------------------------------------------------------------------------------------------------


def _seqs(index: Index) -> Iterator[str]:
    seq, epoch = 0, 0
    for key, event in _readable(index, schema.EVENTS, schema.EVENT):
        if read_u64(key) != event.seq:
            yield f"event {read_u64(key)} calls itself {event.seq}"
        is_jump = event.kind == "epoch" and event.epoch > epoch and event.seq > seq
        if seq and not is_jump and (event.seq, event.epoch) != (seq + 1, epoch):
            yield f"after event {seq} of epoch {epoch} comes {event.seq} of epoch {event.epoch}"
        seq, epoch = event.seq, event.epoch
    if seq and (seq, epoch) != (index.last_seq, index.epoch):
        yield f"the last event is {seq} of epoch {epoch}, but {index.last_seq} of epoch {index.epoch} was given out"


def _limits(index: Index) -> Iterator[str]:
    numbers = index.numbers
    last = index.last_key(schema.INODES)
    if last is not None and read_u64(last) >= numbers.next_inode:
        yield f"inode {read_u64(last)} exists, but {numbers.next_inode} would be given out next"
    if numbers.next_inode > numbers.inode_limit:
        yield f"inode {numbers.next_inode - 1} was given out beyond the limit {numbers.inode_limit}"
    if numbers.last_seq > numbers.seq_limit:
        yield f"seq {numbers.last_seq} was given out beyond the limit {numbers.seq_limit}"
    for number, inode in _inodes(index):
        if inode.seq > numbers.last_seq:
            yield f"the last event of inode {number} is {inode.seq}, but {numbers.last_seq} is the last one of all"


def _second_ways(index: Index) -> Iterator[str]:
    for key, move in _readable(index, schema.MOVES, schema.MOVE):
        is_listed = index.get(schema.OPEN_MOVES, u64(move.inode) + key) is not None
        if is_listed is not (move.state in moves.OPEN):
            yield f"move {move.number} is {move.state} and {'is' if is_listed else 'is not'} among the open ones"
    for key, _ in index.scan(schema.OPEN_MOVES):
        if index.get(schema.MOVES, key[8:]) is None:
            yield f"move {read_u64(key[8:])} is open and does not exist"
    for key, value in index.scan(schema.VANISHED):
        if index.get(schema.VANISHINGS, value + key) is None:
            yield f"inode {read_u64(key)} vanished at {read_u64(value)}, and is not found by that time"
    for key, _ in index.scan(schema.VANISHINGS):
        if index.get(schema.VANISHED, key[8:]) != key[:8]:
            yield f"inode {read_u64(key[8:])} is found as vanished at {read_u64(key[:8])}, when it did not"


def _replicas(index: Index) -> Iterator[str]:
    roots = [root for _, root in _readable(index, schema.ROOTS, schema.ROOT)]
    placement = Placement(
        index, {root.top: root.number for root in roots}, {root.number: root.layout for root in roots}
    )
    for key, replica in _readable(index, schema.REPLICAS, schema.REPLICA):
        number, root = InodeNo(read_u64(key[:8])), RootNo(read_u32(key[8:]))
        inode = _inode(index, number)
        if inode is None:
            continue  # an orphan, or unreadable
        if not inode.is_regular:
            yield f"inode {number} has a replica on root {root} and is no regular file"
        if replica.state is not ReplicaState.WANTED and root in {
            spot.root for spot in _places(index, placement, number)
        }:
            yield f"inode {number} has its place and a replica on root {root}"
        is_current = replica.state is ReplicaState.CURRENT
        if is_current and replica.version != inode.version:
            yield f"inode {number} has version {inode.version}, its current replica on root {root} {replica.version}"
        if is_current is index.is_due(root, number):
            due = "due" if is_current else "not due"
            yield f"the replica of inode {number} on root {root} is {replica.state.name.lower()} and {due}"
    for key, _ in index.scan(schema.DUE):
        of, due_number = schema.read_place(key)
        inode = _inode(index, due_number)
        wanted = index.get(schema.REPLICAS, schema.replica_key(due_number, of)) is not None
        if of and inode is not None and not inode.is_dir and not wanted:
            yield f"a replica of inode {due_number} on root {of} is due and not wanted"


def _places(index: Index, placement: Placement, number: InodeNo) -> tuple[Spot, ...]:
    try:
        return placement.spots(number)
    except IndexFault:
        return ()


def _trash(index: Index) -> Iterator[str]:
    named: set[tuple[int, bytes]] = set()
    for key, trashed in _readable(index, schema.TRASH, schema.TRASHED):
        what = f"{trashed.name!r} in the trash of root {trashed.root}"
        if schema.trash_key(trashed) != key:
            yield f"{what} is not found under its own root, time and inode"
        if (trashed.root, trashed.name) in named:
            yield f"{what} is there twice"
        if index.by_backing(trashed.backing) is not None:
            yield f"{what} carries inode {index.by_backing(trashed.backing)}"
        named.add((trashed.root, trashed.name))


def _verified(index: Index) -> Iterator[str]:
    unsound = set(index.unsound())
    for key, value in index.scan(schema.VERIFIED):
        number = InodeNo(read_u64(key) & ~schema.DAMAGED)
        if read_u64(key) & schema.DAMAGED:
            if index.get(schema.VERIFIED, u64(number)) is None:
                yield f"inode {number} is said not to be sound, and was never verified"
            continue
        inode = _inode(index, number)
        if inode is not None and not inode.is_regular:
            yield f"inode {number} was verified and is no regular file"
        try:
            is_sound = schema.VERIFICATION.unpack(value).outcome is Outcome.SOUND
        except IndexFault:
            continue
        if is_sound is (number in unsound):
            yield f"inode {number} is {'sound' if is_sound else 'not sound'} and found among the others"


def _consumers(index: Index) -> Iterator[str]:
    for key, raw in index.scan(schema.META, schema.CONSUMER_ROW):
        try:
            consumer = schema.CONSUMER.unpack(raw)
            event = next(iter(index.events(max(0, consumer.seq - 1), 1)), None)
        except IndexFault as fault:
            yield f"{key.decode()}: {fault}"
            continue
        acked = f"{key.decode()} has acknowledged event {consumer.seq} of epoch {consumer.epoch}"
        if consumer.seq > index.last_seq or consumer.epoch > index.epoch:
            yield f"{acked}, but {index.last_seq} of epoch {index.epoch} was the last"
        elif event is not None and event.seq == consumer.seq and event.epoch != consumer.epoch:
            yield f"{acked}, which has epoch {event.epoch}"


def _unreadable(index: Index) -> Iterator[str]:
    for table, record in RECORDS.items():
        for key, value in index.scan(table):
            if table == schema.VERIFIED and read_u64(key) & schema.DAMAGED:
                continue  # has no value
            try:
                record.unpack(value)
            except IndexFault as fault:
                yield f"row {key.hex()} of {schema.NAMES[table]}: {fault}"


INVARIANTS: Final[tuple[Callable[[Index], Iterator[str]], ...]] = (
    _ids, _names, _dentries_lead_somewhere, _nothing_is_lost, _tree, _placements, _skeletons, _orphans, _identities,
    _hashes, _seqs, _limits, _second_ways, _unreadable, _replicas, _trash, _verified,
    _consumers,
)  # fmt: skip

# Which inode a row belongs to, as its key in `inodes`.
OWNERS: Final[dict[int, Callable[[bytes, bytes], bytes]]] = {
    schema.XATTRS: lambda key, _: key[:8],
    schema.PLACEMENTS: lambda key, _: key,
    schema.SKELETONS: lambda key, _: key[4:],
    schema.IDENTITIES: lambda _, value: value,
    schema.STAMPS: lambda key, _: key,
    schema.HASHES: lambda key, _: key[-8:],
    schema.OPEN_MOVES: lambda key, _: key[:8],
    schema.VANISHED: lambda key, _: key,
    schema.REPLICAS: lambda key, _: key[:8],
    schema.DUE: lambda key, _: key[4:],
    schema.VERIFIED: lambda key, _: u64(read_u64(key) & ~schema.DAMAGED),
}

RECORDS: Final[dict[int, Record[Any]]] = {
    schema.INODES: schema.INODE,
    schema.PLACEMENTS: schema.PLACEMENT,
    schema.SKELETONS: schema.SPOT,
    schema.INTENTS: schema.INTENT,
    schema.STAMPS: schema.STAMP,
    schema.MOVES: schema.MOVE,
    schema.EVENTS: schema.EVENT,
    schema.JOURNAL: schema.ENTRY,
    schema.ROOTS: schema.ROOT,
    schema.REPLICAS: schema.REPLICA,
    schema.VERIFIED: schema.VERIFICATION,
    schema.TRASH: schema.TRASHED,
}


# -- reading what may be damaged --------------------------------------------------------------------------------------


def _readable(index: Index, table: int, record: Record[T]) -> Iterator[tuple[bytes, T]]:
    """The rows of a table that can be read; I14 tells of the others."""
    for key, value in index.scan(table):
        try:
            row = record.unpack(value)
        except IndexFault:
            continue
        yield key, row


def _inodes(index: Index) -> Iterator[tuple[InodeNo, Inode]]:
    for key, inode in _readable(index, schema.INODES, schema.INODE):
        yield InodeNo(read_u64(key)), inode


def _inode(index: Index, number: int) -> Inode | None:
    try:
        return index.inode(InodeNo(number))
    except IndexFault:
        return None


def _spots(index: Index, number: InodeNo) -> list[Spot]:
    """Every spot that an inode's placement and skeleton rows name."""
    try:
        return [*(index.placement(number) or ()), *index.skeletons(number)]
    except IndexFault:
        return []


def _dentry(key: bytes) -> str:
    return f"({read_u64(key[:8])}, {key[8:]!r})"
