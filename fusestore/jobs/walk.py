"""The order in which a tree is brought home: files in handfuls, each directory when nothing is left behind in it.

    directory: begun at its target ─► its files wait for a handful ─► its directories, the same way
    a handful is full, or the tree is over: the files go by the `carrier`, then the directories that ended, bottom-up

A handful shares the syncs of its disks, however many directories its files are from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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


class Walk:
    """One way through the tree of a move.

    Args:
        goes_on: whether there is still somebody who wants that.
        give_way: called with the bytes of each handful before it goes.

    Attributes:
        held: what did not get home.
    """

    def __init__(
        self,
        store: Store,
        move: Move,
        carrier: Carrier,
        goes_on: Callable[[], bool],
        give_way: Callable[[int], Awaitable[None]],
    ) -> None:
        self._store = store
        self._move = move
        self._carrier = carrier
        self._goes_on = goes_on
        self._give_way = give_way
        self._files: list[InodeNo] = []
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
            self.held += await self._carrier.bring([top])
            return
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
        if self._files and (len(self._files) == HANDFUL or self._bytes + size >= HANDFUL_BYTES):
            await self._bring()
        self._files.append(number)
        self._bytes += size

    async def _bring(self) -> None:
        """Bring the handful home, and the directories that end with it."""
        files, size, ended = self._files, self._bytes, self._ended
        self._files, self._bytes, self._ended = [], 0, []
        await self._give_way(size)
        if files and self._goes_on():
            self.held += await self._carrier.bring(files)
        if ended and self._goes_on():
            blocked = await directories.bring_home(self._store, self._move, ended)
            self.held += [Held(directory, reason) for directory, reason in blocked.items()]
