"""The values every layer speaks about: inodes, spots, roots, moves and events.

Plain data, no behaviour that needs a disk, an index or a clock. The records that the index stores are msgspec
structs with `array_like=True`: new fields go at the end and get a default, so that old rows stay readable.
"""

from __future__ import annotations

import stat
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, NewType

from msgspec import Struct

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


class RootRecord(Struct, array_like=True):
    """What the index remembers of a root; the config says where it is today."""

    number: RootNo
    name: str
    uuid: bytes
    layout: Layout
    top: InodeNo  # the directory in the mount that shows it


class Stamp(Struct, array_like=True, frozen=True):
    """A directory's disk as it was when it was last listed in full: its ctime, 0 when not to be trusted."""

    root: RootNo
    ctime_ns: int


class FileStamp(NamedTuple):
    """What tells whether an object on a disk is still as it was: neither its bytes nor its attributes have changed."""

    size: int
    mtime_ns: int
    ctime_ns: int


class MoveState(StrEnum):
    """The life of a move; `core.moves.TRANSITIONS` says what may follow what."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # for a writer's close, for room, for a root, for an operator; `reason` says which
    DONE = "done"
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


class Cause(StrEnum):
    """Why a change happened."""

    USER = "user"
    MOVE = "move"
    ADOPT = "adopt"
    OUTSIDE = "outside"
    RECOVER = "recover"


class Operation(StrEnum):
    """The four words for a change (docs/control-protocol.md)."""

    INSERT = "insert"
    UPDATE = "update"
    REMOVE = "remove"
    MOVE = "move"


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
    """Who asked: the calling process of a kernel request, or the peer of a socket."""

    uid: int
    gid: int
    pid: int = 0
