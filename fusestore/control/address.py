"""Where the control socket is: Unix sockets by paths of any length.

The kernel takes at most 107 bytes. A longer path is reached through its directory's descriptor, so binding and
connecting need no change of the working directory.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATH_MAX: Final = 107


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """An address of at most 107 bytes for the socket at `path`, good while the block runs.

    Raises:
        OSError: the directory of a long path cannot be opened.
    """
    if len(os.fsencode(path)) <= PATH_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def connect(path: Path, timeout_s: float | None) -> socket.socket:
    """A connected blocking socket with this timeout.

    Raises:
        OSError: ENOENT: there is no socket; ECONNREFUSED: nobody listens on it; EAGAIN, TimeoutError: it is swamped.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout_s)
        with reachable(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def listen(path: Path, mode: int, group: int, backlog: int) -> socket.socket:
    """A socket that listens at `path` with the permission bits `mode`; one left behind by a dead daemon is replaced.

    Nobody can connect before the mode is set, because nothing listens until then.

    Args:
        group: whose it is; -1 for our own.

    Raises:
        FileExistsError: something else is at `path`, or somebody answers there.
        OSError: the directory cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with reachable(path) as address:
            try:
                listener.bind(address)
            except OSError:
                if not _is_left_behind(path):
                    raise
                os.unlink(path)
                listener.bind(address)
            os.chown(address, -1, group)
            os.chmod(address, mode)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_left_behind(path: Path) -> bool:
    """Whether a dead daemon's socket is at `path`.

    Raises:
        FileExistsError: it is something else, or alive.
    """
    if not path.is_socket():
        if os.path.lexists(path):
            raise FileExistsError(f"{path} is in the way and is not a socket")
        return False
    try:
        connect(path, 0).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # EAGAIN: its backlog is full, so somebody listens
        pass
    raise FileExistsError(f"a daemon answers at {path}")
