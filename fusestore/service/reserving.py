"""Reserved files: those that somebody on the socket relies on stay until they are released.

A reservation belongs to a connection, and ends with it, so none outlives the program that made it; it is in memory
only. It keeps a file's names from being removed and its content from being replaced by a rename. It does not keep the
file from being written or renamed, and what others do on its disk nobody can forbid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.core.rights import WRITE, may
from fusestore.errors import Forbidden, Reserved
from fusestore.service import looking, writing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusestore.core.rights import Asker
    from fusestore.model import InodeNo
    from fusestore.service.store import Store


def reserve(store: Store, numbers: Sequence[InodeNo], owner: str, holder: object, asker: Asker | None) -> None:
    """Reserve files, all or none of them; nothing changes for those that this owner has reserved already.

    Args:
        owner: what others are told of who it is.
        holder: the connection.
        asker: has to have the right to write them.

    Raises:
        NotFound, IsADirectory, InvalidRequest (not a regular file), Forbidden.
    """
    for number in numbers:
        inode = looking.getattr(store, number).inode
        writing.check_regular(store, inode)
        if not may(asker, inode, WRITE):
            raise Forbidden(store.path(number) or b"")
    for number in numbers:
        store.reservations.setdefault(number, set()).add((holder, owner))


def release(store: Store, numbers: Sequence[InodeNo], owner: str, holder: object) -> int:
    """Give up what this owner has reserved by this connection; returns how many of the files those were."""
    return sum(_release(store, number, {(holder, owner)}) for number in numbers)


def release_all(store: Store, holder: object) -> None:
    """Give up all that a connection has reserved; it has ended."""
    for number, claims in list(store.reservations.items()):
        _release(store, number, {claim for claim in claims if claim[0] is holder})


def has_some(store: Store, holder: object) -> bool:
    """Whether a connection has anything reserved."""
    return any(claim[0] is holder for claims in store.reservations.values() for claim in claims)


def _release(store: Store, number: InodeNo, gone: set[tuple[object, str]]) -> bool:
    claims = store.reservations.get(number, set())
    found = bool(claims & gone)
    claims -= gone
    if not claims:
        store.reservations.pop(number, None)
    return found


def owners(store: Store, number: InodeNo) -> list[str]:
    """Who has a file reserved."""
    return sorted({owner for _, owner in store.reservations.get(number, ())})


def check(store: Store, number: InodeNo, name: bytes) -> None:
    """Refuse to remove or replace a reserved file.

    Raises:
        Reserved
    """
    if number in store.reservations:
        raise Reserved(name, "by " + ", ".join(owners(store, number)))
