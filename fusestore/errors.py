"""Every deliberate error, grouped by who must act. Errors carry facts; the class docstring is the sentence.

Which errno a program sees is decided in one table, `ERRNO`; which error code a client sees, in `control.methods`.
An `OSError` that a root's disk answered is not wrapped: it is the disk's own answer and passes through with its errno.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class FusestoreError(Exception):
    """Base of every deliberate error."""

    def __str__(self) -> str:
        sentence = (type(self).__doc__ or "").strip().splitlines()[0].rstrip(".")
        facts = ", ".join(_readable(fact) for fact in self.args)
        return f"{sentence}: {facts}" if facts else sentence


def _readable(fact: object) -> str:
    return repr(fact)[1:] if isinstance(fact, bytes) else str(fact)


class NamespaceError(FusestoreError):
    """The calling program asked for something the tree cannot do."""


class NotFound(NamespaceError):
    """No such file or directory."""


class Gone(NotFound):
    """What this inode number stood for is gone; its name may lead to something else by now."""


class NoRoot(NotFound):
    """There is no such root."""


class NoMove(NotFound):
    """There is no such move."""


class NoConsumer(NotFound):
    """There is no consumer of that name."""


class AlreadyExists(NamespaceError):
    """The name is taken."""


class NotADirectory(NamespaceError):
    """Not a directory."""


class IsADirectory(NamespaceError):
    """Is a directory."""


class NotEmpty(NamespaceError):
    """The directory is not empty."""


class NameTooLong(NamespaceError):
    """The name is longer than 255 bytes."""


class BadName(NamespaceError):
    """The name cannot be used."""


class InvalidRequest(NamespaceError):
    """The request makes no sense for this object."""


class Protected(NamespaceError):
    """This name belongs to the store's own skeleton and stays."""


class Forbidden(NamespaceError):
    """Permission denied."""


class Reserved(NamespaceError):
    """It is reserved and stays until it is released, or the connection that reserved it ends."""


class TooMany(NamespaceError):
    """No more are taken."""


class CrossesRoots(NamespaceError):
    """A hard link cannot join two roots."""


class MoveRefused(NamespaceError):
    """The move stays as it is."""


class NoAttribute(NamespaceError):
    """No such extended attribute."""


class NotSupported(NamespaceError):
    """The operation is not supported here."""


class ReplicaError(FusestoreError):
    """The bytes cannot be had now; an operator may have to act."""


class RootOffline(ReplicaError):
    """The root is offline."""


class Covered(RootOffline):
    """Another file system is mounted over it; what lies below cannot be reached."""


class RootReadOnly(ReplicaError):
    """The root is read-only."""


class RootDrained(ReplicaError):
    """The root is being emptied, or is empty (fusestore drain), and takes nothing; `drain --stop` ends that."""


class NoRoom(ReplicaError):
    """The target root has no room for it."""


class Conflict(ReplicaError):
    """Something the index does not know is in the way on the disk; nothing was overwritten."""


class UselessCopy(ReplicaError):
    """A copy cannot be used."""


class LastCopy(ReplicaError):
    """This is the last good copy; fusestore replicate makes another, --force-last gives it and the file up."""


class InUse(ReplicaError):
    """It is being written now."""


class Stopped(ReplicaError):
    """The move was paused, cancelled or overtaken in the middle of it, or the daemon ends."""


class IndexFull(ReplicaError):
    """The index has no room for new entries; removals still work."""


class IndexFault(FusestoreError):
    """The index cannot be trusted or written; the store is read-only from here."""


class ControlError(FusestoreError):
    """A request on the control socket is wrong; `code` is stable and meant for programs."""

    def __init__(self, code: str, text: str, hint: str = "", *, errno: int = 0, path: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.hint, self.errno, self.path = code, text, hint, errno, path

    def __str__(self) -> str:
        return self.text


class StartupError(FusestoreError):
    """The command cannot be carried out; says what and what to do, and ends with `exit_code`."""

    exit_code = 1

    def __str__(self) -> str:
        return str(self.args[0])


class UsageError(StartupError):
    """The command line or the config is wrong."""

    exit_code = 2


class MountpointError(StartupError):
    """The mountpoint cannot be used."""

    exit_code = 3


class StoreError(StartupError):
    """The store cannot be used: not a store, in use, or of a newer format."""

    exit_code = 4


class NewerFormat(StoreError):
    """The store was written by a newer version."""


class Unsound(StartupError):
    """A rebuilt index does not hold: our bug, or its disks changed meanwhile. It is not put in place."""


class RootUnavailable(StartupError):
    """A root of the store cannot be reached or belongs to another store."""

    exit_code = 5


class NoDaemon(StartupError):
    """No daemon answers."""

    exit_code = 6


# The one table that decides what errno a program sees, through the mount and on the socket.
ERRNO: Final[Mapping[type[FusestoreError], int]] = {
    NotFound: errno.ENOENT,
    Gone: errno.ESTALE,  # the kernel walks the path again, once (`retry_estale` in fs/namei.h)
    AlreadyExists: errno.EEXIST,
    NotADirectory: errno.ENOTDIR,
    IsADirectory: errno.EISDIR,
    NotEmpty: errno.ENOTEMPTY,
    NameTooLong: errno.ENAMETOOLONG,
    BadName: errno.EINVAL,
    InvalidRequest: errno.EINVAL,
    NamespaceError: errno.EINVAL,
    Protected: errno.EPERM,
    Forbidden: errno.EACCES,
    Reserved: errno.EBUSY,
    TooMany: errno.ENOLCK,
    CrossesRoots: errno.EXDEV,
    NoAttribute: errno.ENODATA,
    NotSupported: errno.EOPNOTSUPP,
    RootOffline: errno.EIO,
    RootReadOnly: errno.EROFS,
    RootDrained: errno.EROFS,
    NoRoom: errno.ENOSPC,
    Conflict: errno.EIO,
    LastCopy: errno.EPERM,
    InUse: errno.EBUSY,
    IndexFull: errno.ENOSPC,
    IndexFault: errno.EROFS,
    UsageError: errno.EINVAL,
}


def errno_of(error: FusestoreError) -> int:
    """The errno of a deliberate error: that of its class, or of the nearest one above it."""
    return next((ERRNO[kind] for kind in type(error).__mro__ if kind in ERRNO), errno.EIO)
