"""The values every layer speaks about: inodes, spots, roots, moves and events.

Plain data, no behaviour that needs a disk, an index or a clock. The records that the index stores are msgspec
structs with `array_like=True`: new fields go at the end and get a default, so that old rows stay readable.
"""

from __future__ import annotations

import stat
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, NewType, Self, get_args

from msgspec import Struct

if TYPE_CHECKING:
    import os

InodeNo = NewType("InodeNo", int)
RootNo = NewType("RootNo", int)
MoveNo = NewType("MoveNo", int)

# The skeleton of every store. Numbers below FIRST_INODE are fixed for ever and never removed or renamed.
MOUNT_ROOT: Final = InodeNo(1)
UPLOADS: Final = InodeNo(2)
DOWNLOADS: Final = InodeNo(3)
RESOURCES: Final = InodeNo(4)
CONTROL_DIR: Final = InodeNo(5)
BY_ID_DIR: Final = InodeNo(6)
MOVES_DIR: Final = InodeNo(7)
BY_HASH_DIR: Final = InodeNo(8)
HASH_DIRS: Final = {"blake3": InodeNo(9), "sha256": InodeNo(10)}
EVENTS_FILE: Final = InodeNo(11)
FIRST_INODE: Final = InodeNo(256)

CONTROL_NAME: Final = b".fusestore"  # reserved: the virtual directory in the mount, the marker directory on a root
NAME_MAX: Final = 255  # bytes in one component, as in limits.h


class Layout(StrEnum):
    """How a root lays bytes out on its disk."""

    TREE = "tree"  # at the same path as in the mount
    ID = "id"  # under the id; names and directories live in the index only


class Outside(StrEnum):
    """Who else touches a root's disk."""

    NONE = "none"
    READERS = "readers"
    WRITERS = "writers"


class Watching(StrEnum):
    """When a root is watched for changes by others."""

    LISTENERS = "listeners"  # while somebody listens for events
    ALWAYS = "always"
    NEVER = "never"


class State(IntEnum):
    """Where an inode's content stands."""

    READY = 0
    WRITING = 1  # a writer has it open, or had, and its bytes are not known to be durable yet
    INTERRUPTED = 2  # cut off by a crash, or lost by its disk: kept, never taken for complete


class Backing(Struct, array_like=True, frozen=True):
    """The disk object that carries an inode: what tells it from a later one under the same name.

    `root` is where it was last registered; ext4 reuses `st_ino` at once, so the birth time belongs to the identity.
    """

    root: RootNo
    st_ino: int
    btime_ns: int  # 0 where the file system has none


class Spot(Struct, array_like=True, frozen=True):
    """One physical name: where an inode's disk object lies on a root.

    `directory` is the inode whose directory on `root` holds it; 0 means the root's own id area, where the name
    follows from the id (`name` is b""). In an `id` root only regular files exist on disk.
    """

    root: RootNo
    directory: InodeNo
    name: bytes

    @property
    def by_id(self) -> bool:
        return self.directory == 0


class Inode(Struct, array_like=True):
    """One file, directory, symlink or special file; number and id last for its whole life.

    Attributes are the last seen ones: the disk is the authority for an inode that has a disk object on an online
    root, the index for all others (directories, symlinks and special files of an `id` root, the skeleton).
    """

    number: InodeNo
    id: bytes  # 16 bytes, UUIDv7
    mode: int  # full st_mode, type included
    uid: int
    gid: int
    rdev: int
    size: int
    nlink: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    created_ns: int
    version: int = 1  # grows once per writing period
    state: State = State.READY
    hash: bytes = b""  # digest of version `hash_version`; b"" when none is known
    hash_version: int = 0
    hash_algorithm: str = ""
    target: bytes = b""  # of a symlink
    backing: Backing | None = None
    seq: int = 0  # of the last event about it; 0: none in this index

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def current_hash(self) -> bytes:
        """The digest of the present content, b"" when it is not known."""
        return self.hash if self.hash_version == self.version else b""


class ReplicaState(IntEnum):
    """Where a further copy of a file stands."""

    WANTED = 0  # to be made; there are no bytes yet
    CURRENT = 1  # read back and compared: it holds the present content
    STALE = 2  # it held a content that was written over since; to be refreshed
    BAD = 3  # its bytes are gone or are not what was verified; to be made again


class Replica(Struct, array_like=True, frozen=True):
    """A further copy of a regular file's bytes, in the id area of a root that its place is not on."""

    state: ReplicaState
    version: int = 0  # of the content that was verified; 0: none yet
    algorithm: str = ""
    digest: bytes = b""
    size: int = 0
    verified_ns: int = 0  # when it was last read back and compared
    backing: Backing | None = None
    source: RootNo = RootNo(0)  # whose copy is read to make it, if that can be; 0: no matter which


class Consumer(Struct, array_like=True, frozen=True):
    """A watcher with a name, for which the event log is kept until it has acknowledged."""

    seq: int  # the last event that it has acknowledged, or the last before it came
    epoch: int
    acked_ns: int  # when that was
    lost_seq: int = 0  # the last event that went although it had not acknowledged it; 0: none has

    @property
    def has_lost(self) -> bool:
        """Whether events went that it has not acknowledged yet."""
        return self.lost_seq > self.seq


class Drain(Struct, array_like=True, frozen=True):
    """A resource root that is being emptied, or is empty."""

    uid: int  # who asked for it
    pid: int
    started_ns: int
    to: tuple[RootNo, ...] = ()  # the roots that may take what is on it; none: all others
    finished_ns: int = 0  # since when no file has been on it; 0: there are some yet
    proof: str = ""  # what was found when it was looked through
    released_ns: int = 0  # since when its disk is let go of, there or not; 0: it is in use


class RootRecord(Struct, array_like=True):
    """What the index remembers of a root; the config says where it is today."""

    number: RootNo
    name: str
    uuid: bytes
    layout: Layout
    top: InodeNo  # the directory in the mount that shows it
    doubted_ns: int = 0  # since when it is doubted, and why
    doubt: str = ""


class Absence(NamedTuple):
    """Since when a root is offline, and why."""

    since_ns: int
    reason: str
    is_doubted: bool = False  # it may be there, but is not believed (`service.doubting`)


class Stamp(Struct, array_like=True, frozen=True):
    """A directory's disk as it was when it was last listed in full: its ctime, 0 when not to be trusted."""

    root: RootNo
    ctime_ns: int


class Outcome(IntEnum):
    """What reading a file again has shown."""

    SOUND = 0  # the recorded hash
    DAMAGED = 1  # another one, and nobody has written
    UNREADABLE = 2  # its disk cannot read it


class Verified(Struct, array_like=True, frozen=True):
    """The last time that a file's bytes were read from its disk and compared with the recorded hash."""

    time_ns: int
    version: int
    root: RootNo
    outcome: Outcome
    found: bytes = b""  # the digest, of the algorithm of the recorded hash; b"" when it is that one, or unreadable


class ScrubPass(Struct, array_like=True):
    """One going through all files, to read them again; what is left of it survives a restart."""

    begun_ns: int
    root: str = ""  # only files on this root
    rate: int = 0  # bytes a second; 0: as fast as the disks are
    before_ns: int = 0  # only files that were verified before; 0: all
    after: InodeNo = InodeNo(0)  # what has this number or a lower one is done
    ended_ns: int = 0
    checked: int = 0
    skipped: int = 0  # no hash to compare with, open for writing, changed meanwhile, or away
    bad: int = 0
    read_bytes: int = 0


class Trashed(Struct, array_like=True, frozen=True):
    """A file in its root's trash: bytes that no name leads to, to be destroyed when their grace is over.

    Its row is the decision to destroy them; only the moment is open. They are no copy of anything.
    """

    root: RootNo
    name: bytes  # in the trash
    inode: InodeNo  # what they were
    id: bytes
    path: bytes  # the last one; b"" when it is not known
    backing: Backing
    removed_ns: int
    until_ns: int
    why: str  # "moved", "removed", or "found" there without a row
    size: int = 0
    held_bytes: int = 0  # what its blocks take


class FileStamp(NamedTuple):
    """What tells whether an object on a disk is still as it was: neither its bytes nor its attributes have changed."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, seen: os.stat_result) -> Self:
        """What stat(2) has just said of it."""
        return cls(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


class MoveState(StrEnum):
    """The life of a move; `core.moves.TRANSITIONS` says what may follow what."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # for room, for a root, for an operator; `reason` says which
    PAUSED = "paused"  # by an operator, until one resumes it
    DONE = "done"
    CANCELLED = "cancelled"  # the object got its old name back before it arrived
    SUPERSEDED = "superseded"  # the object was renamed to another root, removed or replaced before it arrived


class Move(Struct, array_like=True):
    """A goal: bring everything below `inode` to the root its name says."""

    number: MoveNo
    inode: InodeNo
    id: bytes
    source: str  # root names as they were at the rename
    target: str
    old_path: bytes
    path: bytes
    uid: int
    pid: int
    created_ns: int
    state: MoveState = MoveState.QUEUED
    reason: str = ""
    finished_ns: int = 0
    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    started_ns: int = 0  # when it last began to run; 0: never
    started_bytes: int = 0  # what had been done by then
    held_up: str = ""  # what it waited for last


class Cause(StrEnum):
    """Why a change happened."""

    USER = "user"
    MOVE = "move"
    ADOPT = "adopt"
    OUTSIDE = "outside"
    RECOVER = "recover"
    EXPIRE = "expire"
    SCRUB = "scrub"
    API = "api"  # asked for on the control socket


class Operation(StrEnum):
    """The four words for a change (docs/control-protocol.md)."""

    INSERT = "insert"
    UPDATE = "update"
    REMOVE = "remove"
    MOVE = "move"


# What an event says more exactly than its operation does; an old log may have others.
Kind = Literal[
    "adopted", "arrived", "attributes", "changed", "consumer-lost", "created", "damaged", "drain-done",
    "drain-released", "drain-started", "drain-stopped", "dropped", "epoch", "finalized", "hashed", "interrupted",
    "linked", "mended", "move-cancelled", "move-paused", "move-queued", "move-running", "move-superseded",
    "move-waiting", "moved", "removed", "renamed", "replaced", "replica-bad", "replica-held", "replicated",
    "root-accepted", "root-believed", "root-doubted", "root-offline", "root-online", "vanished",
]  # fmt: skip
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Event(Struct, array_like=True):
    """One committed change. `seq` is given out when the batch that holds it is applied."""

    operation: Operation
    kind: str  # created, finalized, renamed, removed, … (all: docs/control-protocol.md)
    inode: InodeNo
    id: bytes
    type: int  # stat.S_IFMT of the mode
    path: bytes  # relative to the mountpoint, without a leading slash
    root: str
    version: int
    size: int
    mtime_ns: int
    cause: Cause = Cause.USER
    old_path: bytes = b""
    old_root: str = ""
    hash: str = ""  # "blake3:<hex>", "" when not known
    uid: int = -1
    pid: int = 0
    move: int = 0
    detail: str = ""
    seq: int = 0
    epoch: int = 0
    time_ns: int = 0
    tid: int | str | None = None  # of the request on the socket
    other_paths: tuple[bytes, ...] = ()  # of a file with several names


class JournalEntry(Struct, array_like=True):
    """One line of an object's history; kept for ever, apart from the event feed."""

    time_ns: int
    command: str  # move, rename, remove, finalize, adopt, …
    outcome: str  # "begun", "done", or the reason of a failure
    old: bytes = b""  # path, or root name, before
    new: bytes = b""
    old_root: str = ""
    new_root: str = ""
    uid: int = -1
    pid: int = 0
    move: int = 0
    version: int = 0
    hash: str = ""


class Owner(Struct, frozen=True):
    """Who asked: the calling process of a kernel request, or the peer of a socket.

    Attributes:
        cause: of what this brings about.
        tid: of the request, on the socket.
    """

    uid: int
    gid: int
    pid: int = 0
    cause: Cause = Cause.USER
    tid: int | str | None = None


def counted(count: int, one: str, many: str = "") -> str:
    """A number of things for people; `many` is `one` with an s, if it is not given."""
    return f"{count} {one if count == 1 else many or one + 's'}"
