"""Reserved files: those that somebody on the socket relies on stay until they are released.

A reservation belongs to a connection, and ends with it, so none outlives the program that made it; it is in memory
only. It keeps a file's names from being removed and its content from being replaced by a rename. It does not keep the
file from being written or renamed, and what others do on its disk nobody can forbid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.core.rights import WRITE, may
from fusestore.errors import Forbidden, Reserved, TooMany
from fusestore.service import looking, writing
from fusestore.service.reservations import MOST

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
        NotFound, IsADirectory, InvalidRequest (not a regular file), Forbidden, TooMany.
    """
    for number in numbers:
        inode = looking.getattr(store, number).inode
        writing.check_regular(store, inode)
        if not may(asker, inode, WRITE):
            raise Forbidden(store.path(number) or b"")
    if not store.reservations.add(holder, {(number, owner) for number in numbers}):
        raise TooMany(f"a connection can have {MOST} reservations")


def check(store: Store, number: InodeNo, name: bytes) -> None:
    """Refuse to remove or replace a reserved file.

    Raises:
        Reserved
    """
    owners = store.reservations.owners(number)
    if owners:
        raise Reserved(name, "by " + ", ".join(owners))
