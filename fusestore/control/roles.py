"""Who may do what on the socket: the kernel says who connects, the config which users and groups have which role."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import struct
from typing import TYPE_CHECKING, Final

from fusestore.control.methods import Role
from fusestore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import trio

    from fusestore.config import Control
    from fusestore.model import Owner

_PEERGROUPS: Final = getattr(socket, "SO_PEERGROUPS", 59)  # unix(7)
_GROUPS_BYTES: Final = 1024  # as many as Python can ask for: 256 groups
_GROUP_MARK: Final = "@"


class Roles:
    """The roles of one daemon's peers; who runs it and root are always its admins.

    Raises:
        UsageError: a user or group is not known here.
    """

    def __init__(self, control: Control) -> None:
        self._users = {0: Role.ADMIN, os.geteuid(): Role.ADMIN}
        self._groups: dict[int, Role] = {}
        lists = {"readers": Role.READER, "operators": Role.OPERATOR, "admins": Role.ADMIN}
        for key, role in lists.items():
            for name in getattr(control, key):
                is_group = name.startswith(_GROUP_MARK)
                known = self._groups if is_group else self._users
                number = group_id(name.removeprefix(_GROUP_MARK), key) if is_group else _user_id(name, key)
                known[number] = max(known.get(number, Role.ANYONE), role)

    @property
    def others_have_some(self) -> bool:
        """Whether anybody beside who runs the daemon, and root, has a role."""
        return bool(self._groups) or not self._users.keys() <= {0, os.geteuid()}

    def of(self, peer: Owner, groups: Iterable[int]) -> Role:
        """The highest role that a user, or one of its groups, has."""
        by_group = (self._groups.get(gid, Role.ANYONE) for gid in (peer.gid, *groups))
        return max(self._users.get(peer.uid, Role.ANYONE), *by_group)


def groups_of(connection: trio.socket.SocketType) -> Iterator[int]:
    """The further groups that a peer was in when it connected."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, _GROUPS_BYTES)
    except OSError as error:
        if error.errno not in (errno.ERANGE, errno.ENOPROTOOPT):  # too many, or a kernel that does not tell
            raise
        return
    for (gid,) in struct.iter_unpack("I", raw):
        yield gid


def group_id(name: str, key: str) -> int:
    """The number of a group that the config names.

    Raises:
        UsageError: there is none.
    """
    try:
        return int(name) if _is_number(name) else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"control.{key}: there is no group {name!r} on this machine") from None


def _user_id(name: str, key: str) -> int:
    try:
        return int(name) if _is_number(name) else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UsageError(
            f"control.{key}: there is no user {name!r} on this machine; a group is written {_GROUP_MARK}{name}"
        ) from None


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()
