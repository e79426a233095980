"""The order in which a tree is brought home: files in handfuls, each directory when nothing is left behind in it.

    directory: begun at its target ─► its files wait for a handful ─► its directories, the same way
    a handful is full, or the tree is over: the files go by the `carrier`, then the directories that ended, bottom-up

A handful shares the syncs of its disks, however many directories its files are from. Two are in hand at a time: while
one takes its place, which is the loop's work, the other is copied, which is the disks'.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import trio

from fusestore.jobs import counting
from fusestore.jobs.held import Held
from fusestore.service import directories, refreshing, walking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fusestore.jobs.carrier import Carrier
    from fusestore.model import InodeNo, Move
    from fusestore.service.store import Store

HANDFUL: Final = 512  # files, and directories
HANDFUL_BYTES: Final = 64 << 20
IN_HAND: Final = 2  # handfuls at a time, with the bytes of one together: large files are a disk's best work one by one


class Handful:
    """Files on their way home, and the directories that end with them."""

    __slots__ = ("after", "directories", "files", "over", "size")

    def __init__(
        self, files: dict[InodeNo, None], size: int, directories: list[InodeNo], after: trio.Event | None
    ) -> None:
        self.files = files
        self.size = size
        self.directories = directories
        self.after = after  # when the one before is over
        self.over = trio.Event()


class Beside(Protocol):
    """Something that runs tasks, such as a nursery."""

    def start_soon(self, work: Callable[[Handful], Awaitable[None]], handful: Handful, /) -> None: ...


class Walk:
    """One way through the tree of a move.

    Args:
        carrier: makes one for a handful.
        beside: what handfuls are carried in.
        goes_on: whether there is still somebody who wants that.
        must_give_way: whether others are to have this move's place before a handful of so many bytes goes.
        give_way: lets them have it.

    Attributes:
        held: what did not get home.
    """

    def __init__(
        self,
        store: Store,
        move: Move,
        carrier: Callable[[], Carrier],
        beside: Beside,
        goes_on: Callable[[], bool],
        must_give_way: Callable[[int], bool],
        give_way: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._move = move
        self._carrier = carrier
        self._beside = beside
        self._goes_on = goes_on
        self._must_give_way = must_give_way
        self._give_way = give_way
        self._in_hand: deque[Handful] = deque()
        self._trouble: Exception | None = None  # that ends the walk
        self._files: dict[InodeNo, None] = {}
        self._bytes = 0
        self._ended: list[InodeNo] = []  # directories all of whose files are in this handful or went before it
        self.held: list[Held] = []

    async def go(self, top: InodeNo) -> None:
        """Bring everything from `top` down home.

        Raises:
            Conflict, RootOffline, RootReadOnly; OSError as the disks say, of directories.
        """
        inode = self._store.index.inode(top)
        if inode is None:
            return
        if not inode.is_dir:
            self.held += await self._carrier().bring([top])
            return
        try:
            await self._go_through(top)
        except Exception as error:  # noqa: BLE001  (raised once nothing is in hand)
            self._trouble = error
        await self._leave_in_hand(0)

    async def _go_through(self, top: InodeNo) -> None:
        todo = [(top, False)]  # directory, and whether its content was seen to
        while todo and self._goes_on():
            directory, seen_to = todo.pop()
            if self._store.index.inode(directory) is None:
                continue
            if seen_to:
                self._ended.append(directory)
                if len(self._ended) >= HANDFUL:
                    await self._bring()
                continue
            todo.append((directory, True))
            todo += [(each, False) for each in await self._look_into(directory)]
        await self._bring()

    async def _look_into(self, directory: InodeNo) -> list[InodeNo]:
        """Take the files of a directory into the handful; returns its directories."""
        store = self._store
        known = counting.is_known(store, directory)
        await refreshing.refresh(store, directory)
        if not known:
            await counting.count_found(store, self._move, directory)
        directories.begin(store, directory)
        found: list[InodeNo] = []
        for position, child in enumerate(walking.children(store, directory), 1):
            if child.is_dir:
                found.append(child.number)
            elif not store.placement.is_home(child.number):
                await self._take(child.number, counting.size_now(store, child))
            if position % walking.PAGE == 0:
                await trio.lowlevel.checkpoint()
                if not self._goes_on():
                    break
        await trio.lowlevel.checkpoint()
        return found

    async def _take(self, number: InodeNo, size: int) -> None:
        """Take a file into the handful; a huge one goes by itself."""
        if any(number in handful.files for handful in self._in_hand):  # under another of its names
            return
        if self._files and (len(self._files) == HANDFUL or self._bytes + size >= HANDFUL_BYTES):
            await self._bring()
        self._files[number] = None
        self._bytes += size

    async def _bring(self) -> None:
        """Bring the handful home, and the directories that end with it."""
        if self._must_give_way(self._bytes):
            await self._leave_in_hand(0)
            await self._give_way()
        is_little = sum(each.size for each in self._in_hand) + self._bytes < HANDFUL_BYTES
        await self._leave_in_hand(IN_HAND - 1 if is_little else 0)
        after = self._in_hand[-1].over if self._in_hand else None
        handful = Handful(self._files, self._bytes, self._ended, after)
        self._files, self._bytes, self._ended = {}, 0, []
        self._in_hand.append(handful)
        self._beside.start_soon(self._carry, handful)

    async def _leave_in_hand(self, count: int) -> None:
        """Wait until no more handfuls than these are in hand.

        Raises:
            what one of them met.
        """
        while len(self._in_hand) > count:
            await self._in_hand[0].over.wait()
            self._in_hand.popleft()
        if self._trouble is not None:
            raise self._trouble

    async def _carry(self, handful: Handful) -> None:
        try:
            if handful.files and self._goes_on():
                self.held += await self._carrier().bring(list(handful.files))
            if handful.after is not None:
                await handful.after.wait()  # its directories may have files there, too
            if handful.directories and self._goes_on():
                blocked = await directories.bring_home(self._store, self._move, handful.directories)
                self.held += [Held(directory, reason) for directory, reason in blocked.items()]
        except Exception as error:  # noqa: BLE001  (raised by the walk, for the move)
            self._trouble = error
        finally:
            handful.over.set()
