"""What a method is, who may call it, and how one request becomes exactly one reply.

The table of all methods is `control.table`; each collection's methods are in the module of its name. A method is a
plain function, answered at once and in order, or a coroutine function, which runs beside others and may report
progress. Whatever happens in it, `answer` returns one line: an unknown name, data of the wrong shape, a missing
permission and a crash are replies too. What crosses the border: paths and names as text (see `protocol`), plain dicts
and lists back.
"""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Protocol

import msgspec
import structlog

from fusestore import errors
from fusestore.control.protocol import encode_error, encode_reply, readable_name
from fusestore.core.rights import Asker
from fusestore.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

    from fusestore.control.events import Feed
    from fusestore.control.jobs import Jobs
    from fusestore.control.known import Known
    from fusestore.control.protocol import Request
    from fusestore.model import Inode, InodeNo, Owner
    from fusestore.service.asking import Answer

log = structlog.get_logger()

Report = Callable[[int, int, str], None]  # done, total, unit
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]  # of a move, a seq or an epoch


class Presence(Protocol):
    """What there was after the event `seq`, to be closed as soon as it is read; it may be read with pauses."""

    seq: int
    epoch: int

    @property
    def partial(self) -> Collection[str]: ...  # roots of which something may be missing, as far as it was read
    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def by_id(self) -> Iterator[tuple[bytes, int, Inode]]: ...  # id and last event of each object, by ids
    def describe(self, inode: Inode) -> dict[str, Any] | None: ...  # None: no name leads to it
    def close(self) -> None: ...


class Queries(Protocol):
    """What methods ask of the service: plain `def`, on the trio thread, but for those that take long.

    `what` is a path relative to the mount, or an id as text (a unique prefix of eight hex digits will do).
    """

    @property
    def first_seq(self) -> int: ...  # of the oldest event in the log; last_seq + 1 when it is empty
    @property
    def last_seq(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    def places(self) -> dict[str, str]: ...  # `store` and `mountpoint`
    def roots(self) -> list[dict[str, Any]]: ...
    def status(self) -> dict[str, Any]: ...
    def find(self, what: str, asker: Asker | None = None) -> InodeNo: ...
    def holding(self, hash: tuple[str, bytes]) -> InodeNo: ...
    async def entries(
        self,
        what: str,
        asker: Asker | None,
        wanted: Mapping[str, Any],
        report: Report,
        *,
        recursive: bool,
        after: str | None,
        limit: int,
    ) -> dict[str, Any]: ...
    def reserve(self, ids: list[str], owner: str, holder: object, asker: Asker | None) -> list[str]: ...
    def unreserve(self, ids: list[str], owner: str, holder: object, asker: Asker | None) -> int: ...
    def unreserve_all(self, holder: object) -> None: ...
    def has_reserved(self, holder: object) -> bool: ...
    async def register(
        self, name: str, body: bytes, content_type: str, mode: int, owner: Owner, asker: Asker, *, download: bool
    ) -> dict[str, Any]: ...
    async def write(self, what: str, body: bytes, owner: Owner, asker: Asker) -> dict[str, Any]: ...
    async def unlink(self, what: str, owner: Owner, asker: Asker) -> bool: ...
    async def digest(self, what: str, asker: Asker | None) -> dict[str, Any]: ...
    def record(self, inode: InodeNo) -> dict[str, Any]: ...
    def locations(self, inode: InodeNo) -> list[dict[str, Any]]: ...
    async def reread(self, inode: InodeNo, owner: Owner, report: Report) -> list[dict[str, Any]]: ...
    def replicate(self, what: str, root: str, source: str | None, owner: Owner) -> int: ...
    async def lacking(self, what: str, root: str) -> int: ...
    async def replicas_made(self, what: str, root: str, report: Report) -> list[dict[str, Any]]: ...
    async def drop(self, what: str, root: str, *, force_last: bool, owner: Owner, report: Report) -> dict[str, Any]: ...
    def drain(self, root: str, to: list[str], owner: Owner) -> bool: ...
    def stop_draining(self, root: str, owner: Owner) -> bool: ...
    async def release(self, root: str, owner: Owner) -> dict[str, Any] | None: ...
    async def plan_drain(self, root: str, to: list[str]) -> dict[str, Any]: ...
    async def drained(self, root: str, report: Report) -> dict[str, Any] | None: ...
    def history(self, what: str) -> list[dict[str, Any]]: ...
    async def explain(self, what: str) -> tuple[dict[str, Any], list[Answer]]: ...
    def moves(self, *, all: bool, before: int | None, limit: int) -> list[dict[str, Any]]: ...
    def progress(self) -> list[dict[str, Any]]: ...  # the moves that are worked on
    def move(self, what: str | int) -> dict[str, Any]: ...  # an int is a move's number
    async def steer(self, verb: str, what: str | int | None, owner: Owner) -> list[dict[str, Any]]: ...
    async def cancel(self, what: str | int, owner: Owner) -> dict[str, Any]: ...
    def events(self, since: int, limit: int) -> list[dict[str, Any]]: ...
    def consumers(self) -> list[dict[str, Any]]: ...
    def consumer(self, name: str) -> dict[str, Any]: ...
    def register_consumer(self, name: str, seq: int) -> bool: ...
    def acknowledge(self, name: str, seq: int, epoch: int) -> dict[str, Any]: ...
    def forget_consumer(self, name: str) -> bool: ...
    async def acknowledged(self, name: str, seq: int, report: Report) -> dict[str, Any]: ...
    def listening(self) -> AbstractContextManager[None]: ...  # somebody waits for events while this is held
    async def changed(self, seq: int) -> None: ...  # returns once there is an event after `seq`
    async def present(self, paths: Sequence[str] | None) -> Presence: ...
    def scratch(self) -> IO[bytes]: ...
    async def wait(self, what: str | int | None, report: Report) -> dict[str, Any]: ...  # an int is a move's number
    async def accept_root(self, root: str, report: Report) -> dict[str, Any]: ...
    async def retry_root(self, root: str, report: Report) -> dict[str, Any]: ...
    async def verify(self, what: str | None, root: str | None, owner: Owner, report: Report) -> dict[str, Any]: ...
    def scrub(self) -> dict[str, Any]: ...
    def start_scrub(self, root: str | None, rate: int | None, *, again: bool) -> None: ...
    def stop_scrub(self) -> None: ...
    def trash(self, root: str | None) -> list[dict[str, Any]]: ...
    async def empty_trash(self, root: str | None) -> dict[str, Any]: ...
    async def restore(self, what: str, path: str, owner: Owner) -> dict[str, Any]: ...
    async def reload(self) -> dict[str, list[str]]: ...
    def shutdown(self) -> None: ...


class Role(IntEnum):
    """What a peer may do; each includes those before it."""

    ANYONE = 0
    READER = 1
    OPERATOR = 2
    ADMIN = 3


class Arguments(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The `data` of a request, of which is shown what was given; a method without arguments takes this one."""


@dataclass(frozen=True)
class Method:
    """One row of the table; the handler's docstring is its help."""

    handler: Callable[[Call, Any], Any]
    arguments: type[Arguments] = Arguments
    role: Role = Role.READER

    @property
    def is_long(self) -> bool:
        return inspect.iscoroutinefunction(self.handler)

    @property
    def help(self) -> str:
        return (self.handler.__doc__ or "").strip()


Table = Mapping[str, Mapping[str, Method]]


async def _at_once() -> None:
    """No other answer is on its way."""


@dataclass
class Call:
    """What a handler gets beside its arguments."""

    queries: Queries
    table: Table
    peer: Owner
    groups: frozenset[int]  # further ones of the peer
    role: Role
    connection: object  # the same for all requests of one, and for no others
    feed: Feed
    jobs: Jobs
    known: Known
    watchers: Callable[[], int]  # how many connections listen
    report: Report
    keep_alive: Callable[[], None]  # from now on the peer answers pings
    turn: Callable[[], Awaitable[None]] = _at_once  # who answers much waits till the peer reads it
    then: Callable[[], None] | None = None  # what to do once the reply is on its way

    @property
    def own(self) -> Asker:
        """The peer, with its own rights and no others."""
        return Asker(self.peer.uid, (self.peer.gid, *sorted(self.groups - {self.peer.gid})))

    def asker(self, free: Role) -> Asker | None:
        """With whose rights something is looked at: the peer's own, or None for whoever has the role `free`."""
        return None if self.role >= free else self.own


def lookup(table: Table, request: Request, role: Role) -> Method:
    """The method a request names.

    Raises:
        ControlError: there is none, or the peer may not call it.
    """
    methods = table.get(request.collection)
    if methods is None:
        raise ControlError("unknown_collection", f"there is no collection {request.collection!r}", names(table))
    method = methods.get(request.method)
    if method is None:
        raise ControlError("unknown_method", f"{request.collection} has no method {request.method!r}", names(methods))
    if role < method.role:
        raise ControlError(
            "permission",
            f"{request.name} needs the role {method.role.name.lower()}, this connection has {role.name.lower()}",
            "connect as the user who runs the daemon, as root, or as somebody who has that role in [control]",
            errno=errno.EPERM,
        )
    return method


def names(known: Iterable[str]) -> str:
    """A hint: what there is."""
    return "there are: " + ", ".join(known)


async def answer(method: Method, request: Request, arguments: Arguments, call: Call) -> bytes:
    """Run `method` and return its reply as a line; never raises but when cancelled."""
    try:
        data = method.handler(call, arguments)
        if method.is_long:
            data = await data
        return encode_reply(request.tid, data)
    except Exception as error:  # noqa: BLE001  (the boundary: whatever a method raises, the peer gets one reply)
        return encode_error(request.tid, failure(error, request.name))


def arguments_of(request: Request, method: Method) -> Arguments:
    """What a request gives its method.

    Raises:
        ControlError: that makes no sense.
    """
    try:
        return msgspec.convert({} if request.data is None else request.data, method.arguments)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter of a key with a lone surrogate
        takes = ", ".join(spec.name for spec in msgspec.structs.fields(method.arguments)) or "none"
        raise ControlError("bad_data", f"data: {error}", f"arguments: {takes}", errno=errno.EINVAL) from None


# The stable code of each deliberate error a method can end with; the most derived class counts.
CODES: Final[Mapping[type[errors.FusestoreError], str]] = {
    errors.NotFound: "not_found",
    errors.AlreadyExists: "already_exists",
    errors.NotEmpty: "not_empty",
    errors.NotADirectory: "not_a_directory",
    errors.IsADirectory: "is_a_directory",
    errors.NameTooLong: "name_too_long",
    errors.NotSupported: "not_supported",
    errors.Protected: "protected",
    errors.Forbidden: "forbidden",
    errors.Reserved: "reserved",
    errors.TooMany: "too_many",
    errors.NamespaceError: "invalid",
    errors.RootOffline: "root_offline",
    errors.RootReadOnly: "root_read_only",
    errors.RootDrained: "root_drained",
    errors.NoRoom: "no_room",
    errors.LastCopy: "last_copy",
    errors.InUse: "in_use",
    errors.IndexFull: "index_full",
    errors.ReplicaError: "unavailable",
    errors.IndexFault: "index_fault",
    errors.UsageError: "bad_config",
    errors.StoreError: "bad_config",
}


def failure(error: Exception, method: str) -> ControlError:
    """What the peer is told of `error`; one that nobody meant is a bug, logged with its traceback."""
    if isinstance(error, ControlError):
        return error
    if isinstance(error, errors.FusestoreError):
        for kind in type(error).__mro__:
            if kind in CODES:
                return ControlError(CODES[kind], str(error), errno=errors.errno_of(error), path=_path(error))
    if isinstance(error, OSError):
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        text = f"the disk says: {error.strerror or error}" + (f": {path}" if path else "")
        hint = "it is not where the index has it; see `fusestore verify`" if error.errno == errno.ENOENT else ""
        return ControlError("disk", text, hint, errno=error.errno or errno.EIO, path=path)
    log.error("control_method_crashed", method=method, exc_info=error)
    return ControlError(
        "internal",
        f"{method} crashed: {type(error).__name__}: {error}",
        "the daemon's log has the traceback",
        errno=errno.EIO,
    )


def _path(error: Exception) -> str:
    return next((readable_name(fact) for fact in error.args if isinstance(fact, bytes)), "")
