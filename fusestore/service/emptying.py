"""How the files of a root that is to be empty leave it: what each needs next, and what all of them do.

A file leaves when a copy elsewhere, on no such root, was read back: that copy becomes its place, and no name changes
(`service.dropping`). One whose home is elsewhere, because the copy there was given up, goes home if it can, by a move.
Directories, symlinks and special files have no content: the index knows them, and they stay.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from fusestore.core import moves
from fusestore.core.replicas import choose
from fusestore.errors import FusestoreError
from fusestore.model import InodeNo, MoveState, ReplicaState, State
from fusestore.service import draining, dropping, moving, replicas, room, verifying, walking
from fusestore.service.looking import see
from fusestore.service.places import is_object

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from fusestore.core.ports import Driver
    from fusestore.model import Inode, Replica, RootNo
    from fusestore.service.store import Store

PAGE: Final = 500
BLOCK: Final = 4096  # files take room by the block
NO_ROOT: Final = "no other root has room for it"
NO_DISK: Final = "it is gone from its disk, and this is the last copy"
OPEN_FOR_WRITING: Final = "open for writing"
ON_ITS_WAY: Final = "on its way with a move"
NOT_WHOLE: Final = "its other copy is not what was verified"
HIDDEN: Final = "the disk has a file here that the index cannot take over; rename or remove it there"
PASSING: Final = frozenset({OPEN_FOR_WRITING, ON_ITS_WAY})
SHOWN: Final = 20


class Needs(Enum):
    COPY = "copy"  # on the root that the step names
    MOVE = "move"  # to that root, which is its home
    PATIENCE = "patience"  # a copy is being made, or something passes by itself
    NOTHING = "nothing"  # it can leave
    HELP = "help"


class Step(NamedTuple):
    """What a file that has a copy on a root needs next, so that the copy can go."""

    needs: Needs
    root: RootNo | None = None
    reason: str = ""


class Progress:
    """How far a root is, for whoever watches.

    Attributes:
        files_left, bytes_left: on the root, as far as is known; 0 before the first look.
        files_gone, bytes_gone: since the daemon was started.
        held: why files are still there after the last pass, by path; the first of them.
        stuck: nothing will go on without help, as the last pass has shown.
        passes: how many are over, by whatever.
        news: how often a file turned up on its disk.
    """

    def __init__(self) -> None:
        self.files_left = self.bytes_left = self.files_gone = self.bytes_gone = 0
        self.held: dict[bytes, str] = {}
        self.stuck = False
        self.news = self.passes = 0
        self._sizes: dict[InodeNo, int] = {}
        self._held = self._helpless = 0

    def begin(self, sizes: dict[InodeNo, int]) -> None:
        """A pass begins, with these files and their sizes on the root."""
        self.files_left, self.bytes_left, self._sizes = len(sizes), sum(sizes.values()), sizes
        self._held = self._helpless = 0
        self.held = {}

    def gone(self, number: InodeNo) -> None:
        size = self._sizes.pop(number, None)
        if size is not None:
            self.files_left -= 1
            self.bytes_left -= size
            self.files_gone += 1
            self.bytes_gone += size

    def hold(self, path: bytes, reason: str) -> None:
        self._held += 1
        self._helpless += reason not in PASSING
        if len(self.held) < SHOWN:
            self.held[path] = reason

    def end(self) -> None:
        """A pass is over."""
        self.stuck = 0 < self._held == self._helpless >= self.files_left


class Chooser:
    """Chooses roots for copies, each with what was put on its disk before in mind.

    Args:
        to: the roots that may be chosen; none: all.
    """

    def __init__(self, store: Store, to: tuple[RootNo, ...]) -> None:
        self._store = store
        self._to = to
        self._candidates = list(draining.candidates(store, to))
        self._taken: Counter[int] = Counter()  # bytes by device

    @property
    def lack(self) -> str:
        """Why there may be no root to choose."""
        away = [root.name for number in self._to if not (root := self._store.roots[number]).online]
        return f"root {away[0]} is offline" if away else NO_ROOT

    def choose(self, inode: Inode, devices: set[int], avoid: Collection[RootNo]) -> RootNo | None:
        size = -(-inode.size // BLOCK) * BLOCK
        left = [
            each._replace(available=each.available - self._taken[each.device])
            for each in self._candidates
            if each.root not in avoid and self._store.roots[each.root].online
        ]
        root = choose(left, devices, size)
        if root is None:  # but holes need no room
            size = room.occupied(self._store, inode)
            root = choose(left, devices, size)
        if root is not None:
            self._taken[self._store.roots[root].device] += size
        return root


# -- one file ---------------------------------------------------------------------------------------------------------


def is_on(store: Store, inode: Inode, root: RootNo) -> bool:
    """Whether a file has its place, or a replica of whatever state, on a root."""
    return inode.is_regular and dropping.has_copy(store, inode.number, root)


def step(
    store: Store, inode: Inode, root: Driver, chooser: Chooser, going: Collection[InodeNo], avoid: Collection[RootNo]
) -> Step:
    """What a file needs to leave `root`.

    Args:
        going: the objects of moves that go on by themselves.
        avoid: roots that have refused it.
    """
    number = inode.number
    own = store.index.replica(number, root.number)
    if own is not None and own.state is not ReplicaState.CURRENT and own.version == 0:
        return Step(Needs.NOTHING)  # it was only wanted
    spots = store.placement.spots(number)
    if not spots:
        return Step(Needs.HELP, reason=NO_DISK)
    if own is None:
        if store.files.has_writer(number) or inode.state is State.WRITING:
            return Step(Needs.PATIENCE, reason=OPEN_FOR_WRITING)
        if store.placement.home(number) != root.number and _is_moving(store, number, going):
            return Step(Needs.PATIENCE, reason=ON_ITS_WAY)
    others = store.index.replicas(number)
    good = {each for each, record in others if record.state is ReplicaState.CURRENT and _is_safe(store, each)}
    if own is not None and _is_safe(store, spots[0].root):
        good.add(spots[0].root)
    good.discard(root.number)
    home = store.placement.home(number)
    wanted = max(1, store.copies.get(home, 1) if home is not None else 1)
    if len(good) >= wanted:
        return Step(Needs.NOTHING)
    if own is not None and own.state is not ReplicaState.CURRENT and good:
        return Step(Needs.NOTHING)  # it holds nothing that counts
    pending = [each for each, record in others if _is_pending(store, number, each, record) and each not in avoid]
    if any(_is_safe(store, each) for each in pending):
        return Step(Needs.PATIENCE)
    on_to = _on_to(store, inode, root, chooser, good, avoid)
    if on_to is not None:
        return on_to
    if good:
        return Step(Needs.NOTHING)  # fewer copies than it should have, but it does not hang on this one
    return Step(Needs.HELP, reason=_held_by(store, inode, root, avoid) or chooser.lack)


def _on_to(
    store: Store, inode: Inode, root: Driver, chooser: Chooser, good: set[RootNo], avoid: Collection[RootNo]
) -> Step | None:
    """Where a file, or a copy of it, can go: one that is not on its way to its home goes there, if that takes it."""
    number, home = inode.number, store.placement.home(inode.number)
    devices = {root.device} | {store.roots[each].device for each in good}
    holding = {root.number, *(each for each, _ in store.index.replicas(number))}
    if home is not None and _is_stranded(store, number, root.number):
        chosen = chooser.choose(inode, devices, store.roots.keys() - {home})
        if chosen is not None:
            return Step(Needs.MOVE, chosen)
    chosen = chooser.choose(inode, devices, {*replicas.roots_of(store, number), *holding, *avoid})
    return Step(Needs.COPY, chosen) if chosen is not None else None


def _is_stranded(store: Store, number: InodeNo, root: RootNo) -> bool:
    """Whether a file has its place on a root, its home on another, and no move that brings it there."""
    is_placed = store.index.replica(number, root) is None
    return is_placed and store.placement.home(number) != root and moving.open_above(store, number) is None


def _held_by(store: Store, inode: Inode, root: Driver, avoid: Collection[RootNo]) -> str:
    """What keeps a file on a root for which there may be room elsewhere; "" when nothing is known."""
    number = inode.number
    reasons = [store.troubles[number, each] for each in avoid if (number, each) in store.troubles]
    if store.placement.home(number) != root.number:
        reasons = [move.reason for move in store.index.open_moves_of(number)] + reasons
    return reasons[-1] if reasons else ""


def _is_safe(store: Store, root: RootNo) -> bool:
    """Whether a copy on a root can be relied on: it can be read now, and the root is not to be empty itself."""
    return store.roots[root].online and root not in store.drains


def _is_pending(store: Store, number: InodeNo, root: RootNo, record: Replica) -> bool:
    return record.state is not ReplicaState.CURRENT and (number, root) not in store.troubles


def _is_moving(store: Store, number: InodeNo, going: Collection[InodeNo]) -> bool:
    """Whether a file, or a directory above it, is the object of one of these moves."""
    return bool(going) and (number in going or any(each in going for each in walking.above(store, number)))


def going_on(store: Store) -> set[InodeNo]:
    """The objects of the moves that go on by themselves."""
    open_moves = store.index.moves(open_only=True)
    return {move.inode for move in open_moves if move.state is not MoveState.WAITING or move.reason in moves.PASSING}


async def is_whole(store: Store, inode: Inode, root: RootNo) -> bool:
    """Whether a file's place still holds what its current replica on `root` was verified with, read from its disk.

    Raises:
        RootOffline; OSError as the disk says.
    """
    record, spots = store.index.replica(inode.number, root), store.placement.spots(inode.number)
    if record is None or record.state is not ReplicaState.CURRENT or not spots or not _is_safe(store, spots[0].root):
        return True  # then it does not count, or the place does not
    at = store.place(inode.number)
    if inode.backing is None or not is_object(at, inode.backing):
        return False
    if await verifying.read_at_once(store, at, record.algorithm) == record.digest:
        return True
    now = store.index.inode(inode.number)  # written over meanwhile: then the replica is not current any more
    return now is None or now.version != inode.version


# -- all of them ------------------------------------------------------------------------------------------------------


async def files_on(store: Store, root: RootNo) -> dict[InodeNo, int]:
    """The number and size of every file that has a copy on a root, whatever its name, in the order of their numbers."""
    found: dict[InodeNo, int] = {}
    async for inode in _all(store):
        if is_on(store, inode, root):
            found[inode.number] = inode.size
    return found


async def _all(store: Store) -> AsyncIterator[Inode]:
    after = InodeNo(0)
    while numbers := store.index.numbers_after(after, PAGE):
        after = numbers[-1]
        for number in numbers:
            inode = store.index.inode(number)
            if inode is not None:
                yield inode
        await trio.lowlevel.checkpoint()


async def remember(store: Store, root: Driver) -> None:
    """Record the attributes of what stays on a root, so that it looks the same when the disk is gone."""
    async for inode in _all(store):
        if _stays(store, inode, root.number):
            try:
                seen = see(store, inode).inode
            except (OSError, FusestoreError):
                continue  # it is going
            batch = store.batch()
            batch.put_inode(seen)
            store.index.apply(batch)


async def elsewhere(store: Store, root: Driver) -> int:
    """How many files have a name below a root's directory, and lie on others."""
    count = 0
    async for inode in _all(store):
        if inode.is_regular and store.placement.home(inode.number) == root.number:
            count += not is_on(store, inode, root.number)
    return count


class Plan(NamedTuple):
    """What draining a root would do, as things are now.

    Attributes:
        targets: by root, how many files of how many bytes would be copied, or go home, there.
        ready: files that have a good copy elsewhere already, and their bytes.
        held: what cannot leave, by path, and why; the first of them.
        held_files, held_bytes: of all that cannot.
        stays: directories, symlinks and special files, which the index keeps.
    """

    targets: dict[RootNo, tuple[int, int]]
    ready: tuple[int, int]
    held: dict[bytes, str]
    held_files: int
    held_bytes: int
    stays: int


async def plan(store: Store, root: Driver, to: tuple[RootNo, ...]) -> Plan:
    """Work out what draining `root` would do; nothing is changed, and no disk is listed that was not before."""
    chooser, going = Chooser(store, to), going_on(store)
    targets: dict[RootNo, tuple[int, int]] = {}
    ready, held_files, held_bytes = (0, 0), 0, 0
    held: dict[bytes, str] = {}
    stays = 0
    async for inode in _all(store):
        if not is_on(store, inode, root.number):
            stays += _stays(store, inode, root.number)
            continue
        each = step(store, inode, root, chooser, going, ())
        if each.root is not None:
            files, size = targets.get(each.root, (0, 0))
            targets[each.root] = files + 1, size + inode.size
        elif not each.reason:
            ready = ready[0] + 1, ready[1] + inode.size
        else:
            held_files, held_bytes = held_files + 1, held_bytes + inode.size
            if len(held) < SHOWN:
                held[store.path(inode.number) or b""] = each.reason
    return Plan(targets, ready, held, held_files, held_bytes, stays)


def _stays(store: Store, inode: Inode, root: RootNo) -> bool:
    """Whether something without content lies on a root's disk."""
    if inode.is_regular or inode.number in store.tops:
        return False
    return any(spot.root == root for spot in store.placement.spots(inode.number))
