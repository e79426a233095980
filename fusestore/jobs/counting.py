"""How much a move has to do and has done, for whoever watches.

What the index knows is counted before the walk; a directory that no disk was asked for yet is counted when the walk
has listed it. The `carrier` says what arrives.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from fusestore.errors import FusestoreError
from fusestore.model import Layout, State
from fusestore.service import looking, walking

if TYPE_CHECKING:
    from fusestore.model import Inode, InodeNo, Move
    from fusestore.service.store import Store


async def count(store: Store, move: Move) -> None:
    """Count everything below a move's object, directories apart, that the index knows of."""
    counted = replace(move, files_total=0, files_done=0, bytes_total=0, bytes_done=0)
    counts = True
    for position, inode in enumerate(walking.below(store, move.inode), 1):
        if position % walking.PAGE == 0:
            await trio.lowlevel.checkpoint()
        if inode.is_dir:
            counts = is_known(store, inode.number)
        elif counts:
            _add(store, counted, inode)
    move.files_total, move.files_done = counted.files_total, counted.files_done
    move.bytes_total, move.bytes_done = counted.bytes_total, counted.bytes_done
    move.started_bytes = counted.bytes_done


async def count_found(store: Store, move: Move, directory: InodeNo) -> None:
    """Add the files of a directory that has just been listed for the first time."""
    for position, inode in enumerate(walking.children(store, directory), 1):
        if not inode.is_dir:
            _add(store, move, inode)
        if position % walking.PAGE == 0:
            await trio.lowlevel.checkpoint()


def is_known(store: Store, directory: InodeNo) -> bool:
    """Whether all that is in a directory is in the index."""
    root = store.placement.default_root(directory)
    return root is None or store.layouts[root] is Layout.ID or looking.is_listed(store, directory, root)


class Tally:
    """What a move has brought home; also for the threads that copy."""

    def __init__(self, move: Move) -> None:
        self._move = move
        self._copied: dict[InodeNo, int] = {}  # bytes of copies on their way, in the move's count
        self._lock = threading.Lock()

    def copied(self, number: InodeNo, size: int) -> None:
        """Have `size` bytes of a copy be in the move's count."""
        with self._lock:
            self._move.bytes_done += size - self._copied.get(number, 0)
            self._move.bytes_total = max(self._move.bytes_total, self._move.bytes_done)  # it may have grown
            self._copied[number] = size

    def arrived(self, number: InodeNo, size: int) -> None:
        """An object is at home, with so many bytes."""
        self.copied(number, size)
        self._move.files_done += 1
        del self._copied[number]


def _add(store: Store, move: Move, inode: Inode) -> None:
    move.files_total += 1
    size = size_now(store, inode)
    move.bytes_total += size
    if store.placement.is_home(inode.number):
        move.files_done += 1
        move.bytes_done += size


def size_now(store: Store, inode: Inode) -> int:
    """How many bytes a file has; the record of one that is written, or has just been, does not know it yet."""
    if inode.state is not State.WRITING:
        return inode.size
    try:
        return looking.see(store, inode).inode.size
    except (OSError, FusestoreError):
        return inode.size
