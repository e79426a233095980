"""`.fusestore`: the directory at the mountpoint's top that is not on any disk and not listed.

    .fusestore/by-id/<uuid>                a symlink to a present path of that id
    .fusestore/by-hash/<algorithm>/<hex>   a symlink to a file whose finished content has that hash
    .fusestore/moves/<number>              how far a move is, as text; those that are not over are listed
    .fusestore/events                      the event log, one JSON object a line (`events_file`)

Symlinks, because one node under two paths would bypass the rights of directories and break `cwd`. Their targets
change with every rename, and moves go on, so the kernel may not remember them. A move's page is made when it is
opened; who made the move may read it.
"""

from __future__ import annotations

import os
import stat
import time
import uuid
from typing import TYPE_CHECKING, Final

from fusestore.core.rights import READ, may
from fusestore.errors import Forbidden, IsADirectory, NotFound, Protected
from fusestore.fuse.events_file import ALWAYS
from fusestore.model import (
    BY_HASH_DIR,
    BY_ID_DIR,
    CONTROL_DIR,
    CONTROL_NAME,
    EVENTS_FILE,
    HASH_DIRS,
    MOUNT_ROOT,
    MOVES_DIR,
    Inode,
    InodeNo,
    Move,
    MoveNo,
    State,
)
from fusestore.service import listing, move_text, moving
from fusestore.service.looking import Seen

if TYPE_CHECKING:
    from pyfuse3 import PollHandle, RequestContext

    from fusestore.core.rights import Asker
    from fusestore.fuse.events_file import EventsFile
    from fusestore.model import Owner
    from fusestore.service.store import Store

LINK_BIT: Final = 1 << 62  # the symlink by id to inode N is node N with this bit; no counter gets that far
MOVE_BIT: Final = 1 << 61  # the page of move N is node N with this bit
HASH_BIT: Final = 1 << 60  # the symlink by hash to inode N is node N with this bit
_VOLATILE: Final = LINK_BIT | MOVE_BIT | HASH_BIT
_CHILDREN: Final = {
    CONTROL_DIR: {b"by-id": BY_ID_DIR, b"by-hash": BY_HASH_DIR, b"moves": MOVES_DIR, b"events": EVENTS_FILE},
    BY_HASH_DIR: {name.encode(): number for name, number in HASH_DIRS.items()},
}
_FIXED: Final = frozenset((CONTROL_DIR, *(number for below in _CHILDREN.values() for number in below.values())))
_ALGORITHMS: Final = {number: name for name, number in HASH_DIRS.items()}


def is_virtual(number: int) -> bool:
    """Whether a node is one of these, not one of the index's."""
    return number in _FIXED or bool(number & _VOLATILE)


def is_volatile(number: int) -> bool:
    """Whether a node changes, or ends, without the kernel's doing."""
    return number == EVENTS_FILE or bool(number & _VOLATILE)


class Virtual:
    """The nodes below `.fusestore`.

    Attributes:
        events: set before requests are served.
    """

    events: EventsFile

    def __init__(self, store: Store) -> None:
        self._store = store
        self._born_ns = time.time_ns()
        self._pages: dict[int, bytes] = {}  # of moves, as they were when they were opened
        self._next_handle = MOVE_BIT  # no file of the store has one

    def lookup(self, parent: InodeNo, name: bytes, asker: Asker | None = None) -> Seen | None:
        """The virtual node of a name; None if it is not a virtual name's place.

        Args:
            asker: learns by a hash of no file that it may not read; None may read all.

        Raises:
            NotFound
        """
        if parent == MOUNT_ROOT and name == CONTROL_NAME:
            return self.see(CONTROL_DIR)
        if parent in _CHILDREN:
            if name not in _CHILDREN[parent]:
                raise NotFound(name)
            return self.see(_CHILDREN[parent][name])
        if parent == BY_ID_DIR:
            try:
                number = self._store.index.by_id(uuid.UUID(name.decode("ascii")).bytes)
            except ValueError:
                raise NotFound(name) from None
            if number is None or self._store.path(number) is None:
                raise NotFound(name)
            return self.see(InodeNo(number | LINK_BIT))
        if parent in _ALGORITHMS:
            return self.see(InodeNo(self._with_hash(_ALGORITHMS[parent], name, asker) | HASH_BIT))
        if parent == MOVES_DIR:
            if not (name.isdigit() and len(name) < 19 and name == b"%d" % int(name)):
                raise NotFound(name)
            return self.see(InodeNo(int(name) | MOVE_BIT))
        return None

    def _with_hash(self, algorithm: str, name: bytes, asker: Asker | None) -> InodeNo:
        """A file whose finished content has the hash that a name says in small hex digits.

        Raises:
            NotFound
        """
        index = self._store.index
        try:
            digest = bytes.fromhex(name.decode("ascii"))
        except ValueError:
            raise NotFound(name) from None
        for number in index.by_hash(algorithm, digest) if name == digest.hex().encode() else ():
            inode = index.inode(number)
            if inode is None or inode.state is not State.READY or not may(asker, inode, READ):
                continue
            if listing.path_for(self._store, number, asker) is not None:
                return number
        raise NotFound(name)

    def see(self, number: InodeNo) -> Seen:
        """The attributes of a virtual node.

        Raises:
            NotFound: its object has no name any more, or there is no such move.
        """
        if number & (LINK_BIT | HASH_BIT):
            return self._seen(number, stat.S_IFLNK | 0o777, len(self.readlink(number)))
        if number & MOVE_BIT:
            move = self._move(number)
            return self._seen(number, stat.S_IFREG | 0o440, len(self._page(move)), move)
        if number == EVENTS_FILE:
            log = self.events.log
            return self._seen(number, stat.S_IFREG | log.mode, log.size, changed_ns=log.changed_ns)
        return self._seen(number, stat.S_IFDIR | 0o555, 0)

    async def up_to_date(self, number: InodeNo) -> None:
        """Before a node is seen: the log's size is known only when its lines have been counted."""
        if number == EVENTS_FILE:
            await self.events.log.measure()

    def _seen(
        self, number: InodeNo, mode: int, size: int, move: Move | None = None, *, changed_ns: int | None = None
    ) -> Seen:
        made_ns = move.created_ns if move is not None else changed_ns or self._born_ns
        inode = Inode(
            number=number,
            id=bytes(16),
            mode=mode,
            uid=move.uid if move is not None and move.uid >= 0 else os.geteuid(),
            gid=os.getegid(),
            rdev=0,
            size=size,
            nlink=2 if stat.S_ISDIR(mode) else 1,
            atime_ns=made_ns,
            mtime_ns=made_ns,
            ctime_ns=made_ns,
            created_ns=made_ns,
        )
        return Seen(inode, None, None)

    def readlink(self, number: InodeNo, asker: Asker | None = None) -> bytes:
        """Where a symlink by id or by hash leads.

        Raises:
            NotFound: its object has no name any more. Forbidden: the asker gets to none of them.
        """
        target = InodeNo(number & ~_VOLATILE)
        path = listing.path_for(self._store, target, asker)
        if path is None:
            raise NotFound(number) if self._store.path(target) is None else Forbidden(b"")
        return b"../" * (3 if number & HASH_BIT else 2) + path

    def open(self, number: InodeNo, owner: Owner, ctx: RequestContext) -> int:
        """Open the page of a move as it is now, or the log; returns a handle.

        Raises:
            NotFound: there is no such move; IsADirectory; FUSEError: the log is not for this user.
        """
        fh = self._next_handle
        if number == EVENTS_FILE:
            self.events.open(fh, owner, ctx)
        elif number & MOVE_BIT:
            self._pages[fh] = self._page(self._move(number))
        else:
            raise IsADirectory(number)
        self._next_handle += 1
        return fh

    def has(self, fh: int) -> bool:
        """Whether a handle is one of these."""
        return fh >= MOVE_BIT

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        if self.events.has(fh):
            return await self.events.read(fh, offset, size)
        return self._pages[fh][offset : offset + size]

    def poll(self, fh: int, handle: PollHandle | None) -> int:
        """What of poll(2) is true of a handle now, whosoever it is."""
        return self.events.poll(fh, handle) if self.events.has(fh) else ALWAYS

    def release(self, fh: int) -> None:
        if self.events.has(fh):
            self.events.release(fh)
        else:
            del self._pages[fh]

    def _move(self, number: InodeNo) -> Move:
        move = self._store.index.move(MoveNo(number & ~MOVE_BIT))
        if move is None:
            raise NotFound(number)
        return moving.current(self._store, move)

    def _page(self, move: Move) -> bytes:
        return move_text.page(move, moving.held_path(self._store, move))

    def listing(self, number: InodeNo) -> list[tuple[bytes, InodeNo]]:
        """What a virtual directory lists: ids and hashes are looked up, never listed."""
        if number in _CHILDREN:
            return list(_CHILDREN[number].items())
        if number == MOVES_DIR:
            return [(b"%d" % each, InodeNo(each | MOVE_BIT)) for each in self._store.index.open_numbers()]
        return []

    def refuse(self, *numbers: InodeNo) -> None:
        """Nothing can be changed here.

        Raises:
            Protected
        """
        for number in numbers:
            if is_virtual(number):
                raise Protected(".fusestore")
