"""Which names may be made, changed and removed; pure rules over inodes and names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.errors import (
    AlreadyExists,
    BadName,
    InvalidRequest,
    IsADirectory,
    NameTooLong,
    NotADirectory,
    NotFound,
    Protected,
)
from fusestore.model import CONTROL_NAME, FIRST_INODE, NAME_MAX

if TYPE_CHECKING:
    from collections.abc import Container

    from fusestore.model import Inode, InodeNo


def check_name(name: bytes) -> None:
    """Refuse what no directory can hold.

    Raises:
        NameTooLong, BadName.
    """
    if len(name) > NAME_MAX:
        raise NameTooLong(name[:32] + b"...")
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise BadName(name)


def check_parent(parent: Inode | None, name: bytes, tops: Container[InodeNo]) -> Inode:
    """Refuse a new name where there can be none: outside the roots, or a root's own marker directory.

    Raises:
        NotFound, NotADirectory, Protected.
    """
    if parent is None:
        raise NotFound(name)
    if not parent.is_dir:
        raise NotADirectory(name)
    is_top = parent.number in tops
    if (parent.number < FIRST_INODE and not is_top) or (is_top and name == CONTROL_NAME):
        raise Protected(name)
    return parent


def check_removable(number: InodeNo, name: bytes, tops: Container[InodeNo]) -> None:
    """Refuse to remove or rename the skeleton.

    Raises:
        Protected.
    """
    if number < FIRST_INODE or number in tops:
        raise Protected(name)


def check_replace(source: Inode, target: Inode, name: bytes, *, allowed: bool) -> None:
    """Refuse a rename onto `target` that rename(2) would refuse, but for a directory's emptiness.

    Raises:
        AlreadyExists: replacing is not `allowed` (RENAME_NOREPLACE).
        IsADirectory, NotADirectory: one is a directory, the other is not.
    """
    if not allowed:
        raise AlreadyExists(name)
    if target.is_dir and not source.is_dir:
        raise IsADirectory(name)
    if source.is_dir and not target.is_dir:
        raise NotADirectory(name)


def check_flags(flags: int, known: int) -> None:
    """Refuse flags that nobody here knows, rather than ignore them.

    Raises:
        InvalidRequest.
    """
    if flags & ~known:
        raise InvalidRequest(f"flags {flags:#x}")
