"""Which daemon a command speaks to, and what its PATH|ID argument stands for there.

A path inside a mount finds its daemon by itself. Anything else goes to `--socket` or $FUSESTORE_SOCKET, and without
these to the mount around the working directory.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from fusestore import config
from fusestore.cli.mountpoint import GONE
from fusestore.client import Client
from fusestore.control.locate import Location, locate
from fusestore.errors import NoDaemon, UsageError

_ID: Final = re.compile(r"[0-9a-fA-F]{8}[0-9a-fA-F-]{0,28}")
_BY_ID: Final = ".fusestore/by-id/"


class Target(NamedTuple):
    """A daemon and one object there."""

    client: Client
    what: dict[str, str]  # {"path": …} or {"id": …}, as requests take it


def connect(given: str | None, *, near: str = ".") -> Client:
    """The daemon of a command whose arguments do not say which one.

    Args:
        given: --socket or $FUSESTORE_SOCKET.
        near: where to look for a mount otherwise.

    Raises:
        NoDaemon: nothing says which.
    """
    if given:
        path = Path(given)
        return Client(path / "control.sock" if path.is_dir() else path)
    location = _located(Path(os.path.abspath(near)))
    if location is None:
        raise NoDaemon("no store is mounted here; say which daemon with --socket STORE/control.sock")
    return Client(location.socket)


def reach(where: str | None, given: str | None) -> Client:
    """The daemon of a store, or of the mount that a path lies in; without either as `connect`.

    Raises:
        StoreError: the store's config cannot be read; NoDaemon.
    """
    if where is None:
        return connect(given)
    if (Path(where) / config.CONFIG_NAME).is_file():
        return connect(str(config.load(Path(where)).socket))
    return connect(None, near=where)


def find(what: str, given: str | None) -> Target:
    """The object that a PATH|ID argument names, and its daemon.

    Raises:
        UsageError: it is neither inside a mount nor an id.
        NoDaemon: its daemon does not answer.
    """
    if not what:
        raise UsageError("an empty PATH names nothing")
    path = Path(os.path.abspath(what))
    looks_like_id = _ID.fullmatch(what) is not None
    if looks_like_id and not os.path.lexists(path):
        return Target(connect(given), {"id": what})
    location = _located(path)
    if location is None:
        raise UsageError(f"{what} is not inside a mount" + ("" if os.path.lexists(path) else ", and is not an id"))
    client = Client(location.socket)
    if location.path.startswith(_BY_ID):
        return Target(client, {"id": location.path.removeprefix(_BY_ID)})
    return Target(client, {"path": location.path})


def _located(path: Path) -> Location | None:
    try:
        return locate(path)
    except OSError as error:
        if error.errno in GONE:
            raise NoDaemon(f"the daemon behind {path} is gone; mount the store again to clear the dead mount") from None
        raise
