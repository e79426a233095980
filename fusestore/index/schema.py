"""The tables of the index: their keys, their records, and the invariants that hold between them.

Keys are packed big-endian, so that LMDB's byte order is the numeric order and a prefix scan is a range. `u64` and
`u32` are unsigned; `name` is the raw bytes of one component and always comes last. Records are one version byte and a
msgpack array (fields are only ever added at the end, with a default). A row elsewhere, in a batch or in the redo log,
is addressed by its table's number (one byte) and its key; the numbers below are therefore part of the on-disk format
and never reused.

    table       key                          value                what it says
    inodes      inode u64                    Inode                attributes, id, version, hash, backing
    ids         id 16                        inode u64            public id -> inode
    dentries    parent u64, name             inode u64            a name in a directory
    parents     inode u64, parent u64, name  -                    the same, from the other end
    xattrs      inode u64, name              raw                  extended attributes that no disk object carries
    placements  inode u64                    (Spot, ...)          where the bytes are, when the names do not say it
    occupants   root u32, directory u64,     inode u64            who lies at a tree spot of a placement or skeleton
                name
    skeletons   root u32, inode u64          Spot                 a further realization of a directory on a root
    intents     key u64                      Intent               what was about to be done to a disk
    identities  root u32, st_ino u64,        inode u64            backing -> inode
                btime_ns i64
    stamps      directory u64                Stamp                its disk when it was last listed in full
    hashes      algorithm, NUL, digest,      -                    present content -> inodes that hold it
                inode u64
    moves       move u64                     Move                 every move, for ever
    open_moves  inode u64, move u64          -                    those that are not over
    events      seq u64                      Event                the feed; retention cuts at its front
    journal     id 16, record u64, line u16  JournalEntry         an object's history; outlives the object
    roots       root u32                     RootRecord           every root ever declared, and what is doubted of it
    vanished    inode u64                    time_ns u64          lost its disk object to someone outside
    vanishings  time_ns u64, inode u64       -                    the same, oldest first
    meta        text                         raw                  format, uuid, run, clean, lost, applied, numbers,
                                                                  copies, drain, scrub, consumer, unnoted
    replicas    inode u64, root u32          Replica              a further copy of a file, in that root's id area
    due         root u32, inode u64          -                    a copy to be made or made again; of a directory: of
                                                                  each file below it; root 0: on which is not chosen
    verified    inode u64                    Verified             when its bytes were last read again, and what that
                                                                  showed
    trash       root u32, until_ns u64,      Trashed              bytes that wait for their end, the next one first
                inode u64

Of what is not sound there is a further `verified` row, without a value, under its inode with the highest bit set
(`damaged_key`), so that these are found without a search.

An intent's key comes from a counter; that of a `Writing` intent is its inode with the highest bit set
(`writing_key`), so that it is found without a search and there is one per inode at most.

Invariants, executed by `index.check`:

I1   `inodes` and `ids` agree: every inode is found under its id, every id leads to an inode that has it.
I2   `dentries` and `parents` agree, row by row.
I3   The inode of every dentry exists; its parent exists and is a directory.
I4   Every inode beyond the skeleton has a name, or is vanished, or is covered by an intent.
I5   A directory has one parent at most, and going up from it never comes back to it.
I6   `placements` and `occupants` agree; a placement row is not empty and all its spots lie on one root.
I7   `skeletons` and `occupants` agree; only directories have skeletons, one per root and on that root.
I8   No orphans: every row of `xattrs`, `placements`, `skeletons`, `identities`, `stamps`, `hashes`, `open_moves`,
     `vanished`, `verified`, `replicas` and `due` has its inode, and every root that a row names is in `roots`. Exempt:
     `journal` and `moves` are history, `intents` and `trash` may speak of an inode that does not exist yet or any more.
I9   `identities` and the inodes' backings agree.
I10  `hashes` and the inodes' present digests agree.
I11  Seqs are consecutive up to the last one given out, but for the jump that an `epoch` event records.
I12  Every inode number and seq lies below its durable high-water mark, and every inode number below the next one. No
     inode has a seq beyond the last one.
I13  `open_moves` and the states in `moves` agree; `vanished` and `vanishings` agree.
I14  Every row can be read.
I15  Only regular files have replicas, never on the root of their place; a current one is of the present version; all
     others, and no current one, are in `due`.
I16  A `trash` row is found under its own root, time and inode, no two name the same file, and none is an inode's.
I17  Only regular files have `verified` rows, and a `damaged_key` row exactly if the other says that they are not sound.
I18  No consumer has acknowledged more than was given out, nor an event under another epoch than it has.
"""

from __future__ import annotations

import struct
from typing import Final, Generic, TypeVar

from msgspec import DecodeError, Struct, msgpack

from fusestore.core.intents import Intent
from fusestore.errors import IndexFault
from fusestore.model import (
    Backing,
    Consumer,
    Drain,
    Event,
    Inode,
    InodeNo,
    JournalEntry,
    Move,
    Replica,
    RootRecord,
    ScrubPass,
    Spot,
    Stamp,
    Trashed,
    Verified,
)

FORMAT: Final = 3

INODES: Final = 0
IDS: Final = 1
DENTRIES: Final = 2
PARENTS: Final = 3
XATTRS: Final = 4
PLACEMENTS: Final = 5
OCCUPANTS: Final = 6
SKELETONS: Final = 7
INTENTS: Final = 8
IDENTITIES: Final = 9
STAMPS: Final = 10
HASHES: Final = 11
MOVES: Final = 12
OPEN_MOVES: Final = 13
EVENTS: Final = 14
JOURNAL: Final = 15
ROOTS: Final = 16
VANISHED: Final = 17
VANISHINGS: Final = 18
META: Final = 19
REPLICAS: Final = 20
VERIFIED: Final = 21
DUE: Final = 22
TRASH: Final = 23

NAMES: Final = (
    "inodes", "ids", "dentries", "parents", "xattrs", "placements", "occupants", "skeletons", "intents", "identities",
    "stamps", "hashes", "moves", "open_moves", "events", "journal", "roots", "vanished", "vanishings", "meta",
    "replicas", "verified", "due", "trash",
)  # fmt: skip
TAG: Final = tuple(bytes([table]) for table in range(len(NAMES)))  # what a row's address begins with

# meta rows
FORMAT_ROW: Final = b"format"
UUID_ROW: Final = b"uuid"  # of this index; names its witness and its log
RUN_ROW: Final = b"run"  # random, new at each start; the witness must hold the same
CLEAN_ROW: Final = b"clean"  # b"1" from a clean close to the next start
LOST_ROW: Final = b"lost"  # from a start that found something lost to the next clean close: `lost_ns`
APPLIED_ROW: Final = b"applied"  # number of the last log record that is in this commit
NUMBERS_ROW: Final = b"numbers"
DRAIN_ROW: Final = b"drain"  # and a root that is to be empty: `Drain`
COPIES_ROW: Final = b"copies"  # and a root: how many copies of each of its files were asked for (u64)
CONSUMER_ROW: Final = b"consumer."  # and a name: `Consumer`
UNNOTED_ROW: Final = b"unnoted"  # events up to this seq are not noted in the inodes that they are about
SCRUB_ROW: Final = b"scrub"  # the last pass, or the one that goes on

_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_IDENTITY: Final = struct.Struct(">IQq")
_PLACE: Final = struct.Struct(">IQ")
_REPLICA: Final = struct.Struct(">QI")

u32: Final = _U32.pack
u64: Final = _U64.pack
WRITING: Final = 1 << 63  # marks the key of a Writing intent
DAMAGED: Final = 1 << 63  # marks the second `verified` row of what is not sound

# -- keys -------------------------------------------------------------------------------------------------------------


def read_u32(raw: bytes) -> int:
    number: int = _U32.unpack(raw)[0]
    return number


def read_u64(raw: bytes) -> int:
    number: int = _U64.unpack(raw)[0]
    return number


def spot_key(spot: Spot) -> bytes:
    """Of `occupants`, whose rows are tree spots."""
    return _PLACE.pack(spot.root, spot.directory) + spot.name


def directory_prefix(root: int, directory: int) -> bytes:
    """Of all `occupants` in one directory on one root."""
    return _PLACE.pack(root, directory)


def skeleton_key(root: int, number: int) -> bytes:
    return _PLACE.pack(root, number)


def read_place(raw: bytes) -> tuple[int, int]:
    """Root and inode (or directory) at the front of an `occupants`, `skeletons` or `due` key."""
    root, number = _PLACE.unpack_from(raw)
    return root, number


def copies_row(root: int) -> bytes:
    return COPIES_ROW + u32(root)


def drain_row(root: int) -> bytes:
    return DRAIN_ROW + u32(root)


def consumer_row(name: str) -> bytes:
    return CONSUMER_ROW + name.encode()


def replica_key(number: int, root: int) -> bytes:
    return _REPLICA.pack(number, root)


def due_key(root: int, number: int) -> bytes:
    return _PLACE.pack(root, number)


def trash_key(trashed: Trashed) -> bytes:
    return _PLACE.pack(trashed.root, trashed.until_ns) + _U64.pack(trashed.inode)


def identity_key(backing: Backing) -> bytes:
    return _IDENTITY.pack(backing.root, backing.st_ino, backing.btime_ns)


def hash_prefix(algorithm: str, digest: bytes) -> bytes:
    """Of all inodes that hold this content."""
    return algorithm.encode() + b"\0" + digest


def hash_key(inode: Inode) -> bytes | None:
    """The `hashes` key of an inode's present content; None while its digest is not known."""
    digest = inode.current_hash
    return hash_prefix(inode.hash_algorithm, digest) + u64(inode.number) if digest else None


def journal_key(id: bytes, record: int, line: int) -> bytes:
    """Of the entry number `line` that the log record `record` brings, so that keys grow in the order of events."""
    return id + u64(record) + _U16.pack(line)


def writing_key(number: InodeNo) -> int:
    return WRITING | number


def damaged_key(number: InodeNo) -> bytes:
    return _U64.pack(DAMAGED | number)


# -- records ----------------------------------------------------------------------------------------------------------

T = TypeVar("T")
_encode: Final = msgpack.Encoder().encode


class Record(Generic[T]):
    """A value's form on disk: the version byte and the msgpack array."""

    __slots__ = ("_decode",)

    def __init__(self, decoder: msgpack.Decoder[T]) -> None:
        self._decode = decoder.decode

    def pack(self, value: T) -> bytes:
        return b"\x01" + _encode(value)

    def unpack(self, raw: bytes) -> T:
        """Read a row back.

        Raises:
            IndexFault: the row is damaged, or of a version this program does not know.
        """
        try:
            if raw[0] != 1:
                raise IndexFault(f"record of version {raw[0]}")
            return self._decode(raw[1:])
        except (DecodeError, IndexError) as error:
            raise IndexFault(f"unreadable record: {error}") from error


class Numbers(Struct, array_like=True):
    """The counters that must never go back; see `index.numbers`."""

    next_inode: int
    last_seq: int
    epoch: int
    inode_limit: int  # every inode number given out is below it
    seq_limit: int  # no seq given out is above it
    last_move: int = 0  # of the index that this one was rebuilt for; no move here has its number or a lower one


INODE: Final = Record(msgpack.Decoder(Inode))
PLACEMENT: Final = Record(msgpack.Decoder(tuple[Spot, ...]))
SPOT: Final = Record(msgpack.Decoder(Spot))
# A union of structs is no `type` to the checker, though the decoder takes it.
INTENT: Final[Record[Intent]] = Record(msgpack.Decoder(Intent))
STAMP: Final = Record(msgpack.Decoder(Stamp))
MOVE: Final = Record(msgpack.Decoder(Move))
EVENT: Final = Record(msgpack.Decoder(Event))
ENTRY: Final = Record(msgpack.Decoder(JournalEntry))
REPLICA: Final = Record(msgpack.Decoder(Replica))
CONSUMER: Final = Record(msgpack.Decoder(Consumer))
DRAIN: Final = Record(msgpack.Decoder(Drain))
ROOT: Final = Record(msgpack.Decoder(RootRecord))
VERIFICATION: Final = Record(msgpack.Decoder(Verified))
SCRUB: Final = Record(msgpack.Decoder(ScrubPass))
TRASHED: Final = Record(msgpack.Decoder(Trashed))
NUMBERS: Final = Record(msgpack.Decoder(Numbers))
