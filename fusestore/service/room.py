"""Room on the roots: what is promised to moves, what copies on their way need yet, and what is left for others.

A rename that sends one file to another root promises it room there; whatever else is copied takes only what no promise
needs. Roots on one file system share its room. What a copy has written is not free any more, so the disk counts it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.core.moves import NO_INODES, NO_ROOM
from fusestore.errors import FusestoreError, NoRoom
from fusestore.model import ReplicaState, counted
from fusestore.roots import freeing
from fusestore.service import trash, walking

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from fusestore.core.ports import Driver, Space
    from fusestore.model import Inode, MoveNo, RootNo
    from fusestore.service.store import Store

SIZE_BUDGET_NS: Final = 3_000_000  # how long a rename may look for the size of a directory
GROWTH_BYTES: Final = 1 << 20  # how much more room a disk must have before it is believed to take what it refused


class Copying:
    """Room that one copy on its way needs yet.

    Attributes:
        left: bytes; a thread that copies counts it down.
    """

    __slots__ = ("found", "left", "move", "promised", "root")

    def __init__(self, root: RootNo, move: MoveNo, left: int, promised: int, found: int) -> None:
        self.root = root
        self.move = move
        self.left = left
        self.promised = promised  # bytes that its rename was promised, given back if it comes to nothing
        self.found = found  # bytes it could have had


class Reserved:
    """What is spoken for on one root: promises by move, and the copies that have begun."""

    def __init__(self) -> None:
        self._promises: dict[MoveNo, int] = {}
        self._copies: set[Copying] = set()
        self._promised = 0  # the sum, because there may be thousands

    def __iter__(self) -> Iterator[MoveNo]:
        return iter(self._promises)

    @property
    def copying(self) -> int:
        """Bytes that copies need yet."""
        return sum(copy.left for copy in self._copies)

    @property
    def total(self) -> int:
        """Bytes that are spoken for."""
        return self._promised + self.copying

    def promise(self, move: MoveNo, size: int) -> None:
        self._promised += size - self._promises.get(move, 0)
        self._promises[move] = size

    def give_back(self, move: MoveNo) -> None:
        self._promised -= self._promises.pop(move, 0)

    def promised(self, move: MoveNo) -> int:
        return self._promises.get(move, 0)

    def begin(self, copy: Copying) -> None:
        """A copy takes over what its move was promised."""
        if copy.promised:
            self.promise(copy.move, 0)
        self._copies.add(copy)

    def end(self, copy: Copying, *, whole: bool) -> None:
        """A copy is on the disk, or it is not and its promise stands again, if its move is not over."""
        self._copies.discard(copy)
        if not whole and copy.promised and copy.move in self._promises:
            self.promise(copy.move, copy.promised)


class Shortage(NamedTuple):
    """Why something cannot be copied now, and how much has to be free on which root before it is tried again."""

    reason: str
    root: RootNo
    bytes: int
    promised: bool = False  # the room that was promised counts


def check(store: Store, inode: Inode, target: Driver) -> None:
    """Refuse a rename whose bytes cannot fit on `target`.

    Exact for a file. For a directory what the index knows in 3 ms counts; a shortage that shows later makes the move
    wait.

    Raises:
        NoRoom
    """
    if not target.online:
        return
    taken = _spoken_for(store, target)
    if _fits(store, taken + _known_size(store, inode, lambda each: each.size)[0], target):
        return
    needed, is_all = _known_size(store, inode, lambda each: needs(store, each, target))
    if not _fits(store, taken + needed, target) and not (freeing.wait() and _fits(store, taken + needed, target)):
        raise NoRoom(target.name, f"{'' if is_all else 'more than '}{counted(needed, 'byte')} needed")


def _fits(store: Store, needed: int, target: Driver) -> bool:
    return needed <= target.space().available + trash.held_bytes(store, target)


def _known_size(store: Store, inode: Inode, size: Callable[[Inode], int]) -> tuple[int, bool]:
    """The bytes of a file, or those counted below a directory in 3 ms, and whether all were."""
    if not inode.is_dir:
        return size(inode) if inode.is_regular else 0, True
    deadline = time.monotonic_ns() + SIZE_BUDGET_NS
    known = 0
    for each in walking.below(store, inode.number):
        if each.is_regular:
            known += size(each)
        if time.monotonic_ns() > deadline:
            return known, False
    return known, True


def needs(store: Store, inode: Inode, target: Driver) -> int:
    """Bytes that bringing a file to `target` takes there: none for its holes, and none where there is a replica."""
    record = store.index.replica(inode.number, target.number)
    if record is not None and record.state is ReplicaState.CURRENT:
        return 0
    return occupied(store, inode)


def occupied(store: Store, inode: Inode) -> int:
    """Bytes of a file without its holes; its size where its disk cannot tell."""
    try:
        at = store.place(inode.number)
        return written(at.driver.stat(at.directory, at.name))
    except (OSError, FusestoreError):
        return inode.size


def written(status: os.stat_result) -> int:
    """The same of what a disk says of a file."""
    return min(status.st_size, status.st_blocks * 512)


def begin(store: Store, move: MoveNo, target: Driver, size: int) -> Copying | Shortage:
    """Reserve the room that a copy of `size` bytes takes on `target`; `end` gives it back.

    Whoever was promised room takes it, though others were promised some that is not there; anybody else takes what no
    promise needs.

    Raises:
        RootOffline; OSError as the disk says.
    """
    reserved = store.reserved[target.number]
    promised = reserved.promised(move)
    space = target.space()
    found = _found(store, target, space, promised=promised > 0)
    if size > found:
        return Shortage(NO_ROOM, target.number, size, promised > 0)
    if _lacks_inodes(space):
        return Shortage(NO_INODES, target.number, size, promised > 0)
    copy = Copying(target.number, move, size, promised, found)
    reserved.begin(copy)
    return copy


def end(store: Store, copy: Copying, *, whole: bool) -> None:
    """Give back what a copy had reserved; `whole`: it is on the disk, which counts it now."""
    store.reserved[copy.root].end(copy, whole=whole)


def free(store: Store, target: Driver, *, promised: bool) -> int:
    """Bytes that whoever was promised room, or was not, can have on `target`; -1 if not even an empty file.

    Raises:
        RootOffline; OSError as the disk says.
    """
    space = target.space()
    return -1 if _lacks_inodes(space) else _found(store, target, space, promised=promised)


def refused(store: Store, target: Driver, copy: Copying | None) -> Shortage:
    """What `target` lacks, after it has refused something although there seemed to be room.

    Args:
        copy: what was refused, if it was one.

    Raises:
        RootOffline; OSError as the disk says.
    """
    space = target.space()
    if _lacks_inodes(space):
        return Shortage(NO_INODES, target.number, 0)
    if copy is not None:
        return Shortage(NO_ROOM, target.number, copy.found + GROWTH_BYTES, copy.promised > 0)
    return Shortage(NO_ROOM, target.number, _found(store, target, space, promised=False) + GROWTH_BYTES)


def _lacks_inodes(space: Space) -> bool:
    """Whether a disk that has room has no inodes; some have none to count, others count them by the room."""
    return space.files > 0 and space.files_free == 0 and space.available > 0


def _found(store: Store, target: Driver, space: Space, *, promised: bool) -> int:
    taken = sum(each.copying for each in _sharing(store, target)) if promised else _spoken_for(store, target)
    return max(0, space.available - taken)


def _spoken_for(store: Store, target: Driver) -> int:
    return sum(each.total for each in _sharing(store, target))


def _sharing(store: Store, target: Driver) -> list[Reserved]:
    """What is reserved on the file system of `target`."""
    return [store.reserved[root.number] for root in store.roots.values() if root.device == target.device]
