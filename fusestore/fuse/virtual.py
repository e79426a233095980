"""`.fusestore`: the directory at the mountpoint's top that is not on any disk and not listed.

    .fusestore/by-id/<uuid>    a symlink to a present path of that id

Symlinks, because one node under two paths would bypass the rights of directories and break `cwd`. Their targets
change with every rename, so the kernel may not remember them.
"""

from __future__ import annotations

import os
import stat
import time
import uuid
from typing import TYPE_CHECKING, Final

from fusestore.errors import NotFound, Protected
from fusestore.model import BY_ID_DIR, CONTROL_DIR, CONTROL_NAME, MOUNT_ROOT, Inode, InodeNo
from fusestore.service.looking import Seen

if TYPE_CHECKING:
    from fusestore.service.store import Store

BY_ID_NAME: Final = b"by-id"
LINK_BIT: Final = 1 << 62  # the symlink to inode N is node N with this bit; no counter gets that far
UP: Final = b"../../"


def is_virtual(number: int) -> bool:
    """Whether a node is one of these, not one of the index's."""
    return number in (CONTROL_DIR, BY_ID_DIR) or bool(number & LINK_BIT)


class Virtual:
    """The nodes below `.fusestore`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._born_ns = time.time_ns()

    def lookup(self, parent: InodeNo, name: bytes) -> Seen | None:
        """The virtual node of a name; None if it is not a virtual name's place.

        Raises:
            NotFound
        """
        if parent == MOUNT_ROOT and name == CONTROL_NAME:
            return self.see(CONTROL_DIR)
        if parent == CONTROL_DIR:
            if name == BY_ID_NAME:
                return self.see(BY_ID_DIR)
            raise NotFound(name)
        if parent == BY_ID_DIR:
            try:
                number = self._store.index.by_id(uuid.UUID(name.decode("ascii")).bytes)
            except ValueError:
                raise NotFound(name) from None
            if number is None or self._store.path(number) is None:
                raise NotFound(name)
            return self.see(InodeNo(number | LINK_BIT))
        return None

    def see(self, number: InodeNo) -> Seen:
        """The attributes of a virtual node."""
        target = self.readlink(number) if number & LINK_BIT else b""
        mode = stat.S_IFLNK | 0o777 if number & LINK_BIT else stat.S_IFDIR | 0o555
        inode = Inode(
            number=number,
            id=bytes(16),
            mode=mode,
            uid=os.geteuid(),
            gid=os.getegid(),
            rdev=0,
            size=len(target),
            nlink=1 if target else 2,
            atime_ns=self._born_ns,
            mtime_ns=self._born_ns,
            ctime_ns=self._born_ns,
            created_ns=self._born_ns,
        )
        return Seen(inode, None, None)

    def readlink(self, number: InodeNo) -> bytes:
        """Where a by-id symlink leads.

        Raises:
            NotFound: the id has no name any more.
        """
        path = self._store.path(InodeNo(number & ~LINK_BIT))
        if path is None:
            raise NotFound(number)
        return UP + path

    def listing(self, number: InodeNo) -> list[tuple[bytes, InodeNo]]:
        """What a virtual directory lists: ids are looked up, never listed."""
        return [(BY_ID_NAME, BY_ID_DIR)] if number == CONTROL_DIR else []

    def refuse(self, *numbers: InodeNo) -> None:
        """Nothing can be changed here.

        Raises:
            Protected
        """
        for number in numbers:
            if is_virtual(number):
                raise Protected(".fusestore")
