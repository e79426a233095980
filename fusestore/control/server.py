"""The control socket: listens, accepts, and keeps every connection's trouble to itself.

`serve` is one task of the daemon's nursery. A connection's failure, ours or its peer's, ends that connection alone.
"""

from __future__ import annotations

import os
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Final, Never

import structlog
import trio

from fusestore.control.address import listen
from fusestore.control.connection import Connection
from fusestore.control.crowd import PLACES, make_room
from fusestore.control.jobs import Jobs
from fusestore.control.lines import Lines
from fusestore.control.protocol import encode_error
from fusestore.control.roles import Roles, group_id, groups_of
from fusestore.control.snapshots import Snapshots
from fusestore.errors import ControlError, StoreError
from fusestore.model import Cause, Owner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusestore.config import Config, Control
    from fusestore.control.methods import Queries

log = structlog.get_logger()

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)


class Connections:
    """Everybody who is connected now, and what is being worked on for them."""

    def __init__(self, queries: Queries, roles: Roles, jobs: Jobs) -> None:
        self.present: set[Connection] = set()
        self.roles = roles
        self.lines = Lines(queries)
        self.snapshots = Snapshots(queries)
        self.jobs = jobs

    def watchers(self) -> int:
        """How many listen."""
        return sum(connection.is_watching for connection in self.present)

    def add(self, connection: Connection) -> None:
        """Give somebody a place, and if need be that of somebody else.

        Raises:
            ControlError: there is none.
        """
        leaving = make_room(self.present, connection.uid, connection.role, trio.current_time())
        if leaving is not None:
            self.present.discard(leaving)
            leaving.make_room()
        self.present.add(connection)

    def settle(self, config: Config) -> Callable[[], None]:
        """Look up who has which role by another config; what is returned gives everybody theirs (`service.reloading`).

        Raises:
            UsageError: it names a user or group that is not there.
        """
        return partial(self._give, Roles(config.control))

    def _give(self, roles: Roles) -> None:
        self.roles = roles
        for connection in self.present:
            connection.take_role(roles)


async def serve(
    path: Path,
    queries: Queries,
    *,
    control: Control,
    held: socket.socket | None = None,
    task_status: trio.TaskStatus[Connections] = trio.TASK_STATUS_IGNORED,
) -> Never:
    """Serve the control socket at `path` until cancelled, then remove it; started once clients can connect.

    Args:
        held: somebody else's socket that listens there already; its rights are theirs to choose, and it stays.

    Raises:
        UsageError: the config names a user or group that is not there.
        StoreError: something else is at `path`, or another daemon answers there.
    """
    roles = Roles(control)
    listener, remove = (held, None) if held is not None else _listen(path, control)
    try:
        async with trio.open_nursery() as nursery:
            connections = Connections(queries, roles, Jobs(nursery))

            async def welcome(stream: trio.SocketStream) -> None:
                await _welcome(stream, queries, connections)

            task_status.started(connections)
            await trio.serve_listeners(welcome, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])
    finally:
        if remove is not None:
            remove()


async def _welcome(stream: trio.SocketStream, queries: Queries, connections: Connections) -> None:
    try:
        pid, uid, gid = _UCRED.unpack(stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        peer = Owner(uid, gid, pid, Cause.API)
        connection = Connection(stream, peer, frozenset(groups_of(stream.socket)), queries, connections)
        try:
            connections.add(connection)
        except ControlError as error:
            with trio.move_on_after(1):
                await stream.send_all(encode_error(None, error))
            return
        try:
            await connection.run()
        finally:
            connections.present.discard(connection)
    except trio.BrokenResourceError:
        pass  # gone before it said anything
    except Exception:  # the boundary: a bug met by one peer must not end the others
        log.exception("control_connection_crashed")
    finally:
        await trio.aclose_forcefully(stream)


def _listen(path: Path, control: Control) -> tuple[socket.socket, Callable[[], None]]:
    """A socket of our own, and what removes it."""
    group = group_id(control.group, "group") if control.group else -1
    try:
        listener = listen(path, control.mode_bits, group, PLACES)
    except OSError as error:
        raise StoreError(f"the control socket cannot be made: {error}") from None
    return listener, partial(_remove, path, os.stat(path))


def _remove(path: Path, ours: os.stat_result) -> None:
    try:
        present = os.lstat(path)
        if (present.st_dev, present.st_ino) == (ours.st_dev, ours.st_ino):
            os.unlink(path)
    except FileNotFoundError:
        pass
