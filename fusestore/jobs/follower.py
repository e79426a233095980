"""Brings a verified copy up to a file that is written all the while, until the one can take the place of the other.

    rounds: copy again what was written meanwhile ─► few blocks left, or no fewer ─► from here writes go to both sides
      ─► copy what is left, a few blocks a turn ─► sync, read back what is new ─► one turn: attributes, and the switch

Writers wait for a turn of the copy's (some milliseconds: a few blocks, or the switch), never for a disk to be synced
or read. So a file that never rests arrives too. What is written from the last sync on is as durable as anything fresh;
whoever syncs it meanwhile syncs both sides (`service.writing.sync`).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import trio

from fusestore.core.moves import CHANGED
from fusestore.errors import UselessCopy
from fusestore.model import FileStamp, Outside
from fusestore.roots import content, copy, repeating
from fusestore.service import arriving
from fusestore.service.following import Following

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from fusestore.jobs.staging import Load
    from fusestore.service.store import Store

BLOCKS_A_TURN: Final = 4  # 4 MiB from the page cache to the page cache: some milliseconds
READS_DIFFERENTLY: Final = "the copy does not read back as it was written"
ROUNDS: Final = 8  # of copying again, at most, before writes go to both sides
PROOFS: Final = 3  # of reading back, at most: what is written at every one of them is fresh for ever


def begin(store: Store, load: Load) -> None:
    """Note from here on what is done to a file that is about to be copied."""
    if load.source is None or not store.inode(load.number).is_regular:
        return
    opened = store.files.get(load.number)
    driver, directory, name = store.place(load.number)
    stamp = FileStamp.of(driver.stat(directory, name)) if driver.outside is Outside.WRITERS else None
    following = Following(
        load.target,
        store.threads[load.target.number],
        stamp=stamp,
        under_way=opened.under_way if opened is not None else 0,
    )
    store.files.follow(load.number, following)


def is_still(store: Store, load: Load) -> bool:
    """Whether nothing was done here to a file since it was copied."""
    following = store.files.followed.get(load.number)
    return following is None or following.is_still


class Follower:
    """One copy, made by `staging` since `begin`, synced and verified; what it holds open is closed with the block."""

    def __init__(self, store: Store, load: Load) -> None:
        """Open both sides.

        Raises:
            Gone, RootOffline; OSError as the disks say.
        """
        self._load = load
        self._following = store.files.followed[load.number]
        self._limiter = store.threads[load.target.number]
        with ExitStack() as stack:
            opened = store.files.get(load.number)
            if opened is not None and opened.writers:
                self._source = content.readable(opened.fd)
            else:
                at = store.place(load.number)
                self._source = at.driver.open(at.directory, at.name, write=False)
            stack.callback(content.close, self._source)
            self._target = arriving.open_copy(load.target, load.staged, write=True)
            stack.callback(content.close, self._target)
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def turn(self) -> AbstractAsyncContextManager[None]:
        return self._following.turn.held()

    async def catch_up(self) -> None:
        """Copy again what was written, until there is nothing more and writes go to both sides.

        Raises:
            UselessCopy: others have written to the file; RootOffline; OSError: as the disks say, or have said to
                somebody who wrote to both.
        """
        following = self._following
        before = 0
        for _ in range(ROUNDS):
            left = len(following.noted)
            if left <= BLOCKS_A_TURN or 0 < before <= left:
                break
            before = left
            await self._repeat(*following.take_notes())
        async with following.turn.held():
            following.mirror(self._target)
        while not following.is_level:
            async with following.turn.held():
                await self._repeat(*following.take_notes(BLOCKS_A_TURN))

    async def _repeat(self, cut_to: int | None, blocks: set[int]) -> None:
        self._check()
        await self._in_thread(lambda: repeating.repeat(self._source, self._target, cut_to, blocks))

    async def prove(self) -> None:
        """Make the copy durable, and compare with the file what was written to it since it was read back last.

        Raises:
            UselessCopy: it reads back differently; and as for `catch_up`.
        """
        following = self._following
        await self._in_thread(lambda: copy.renew_attributes(self._source, self._target))
        for _ in range(PROOFS):
            await self._in_thread(lambda: content.sync(self._target, data_only=False))
            self._check()
            async with following.turn.held():
                blocks = following.take_unproven()
            if not blocks:
                return
            differ = await self._differing(blocks) - following.unproven - following.noted
            while differ:  # written meanwhile where only the end of the file shows it, or wrong
                async with following.turn.held():
                    some = {differ.pop() for _ in range(min(BLOCKS_A_TURN, len(differ)))}
                    if await self._differing(some - following.unproven - following.noted):
                        raise UselessCopy(READS_DIFFERENTLY)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def _differing(self, blocks: set[int]) -> set[int]:
        target, staged = self._load.target, self._load.staged
        found = await trio.to_thread.run_sync(
            repeating.differing, self._source, target.incoming(), staged, blocks, limiter=self._limiter
        )
        self._check()
        return found

    def finish(self) -> FileStamp | None:
        """The last thing before the switch, for whoever has the turn: the attributes as they are now.

        Returns:
            the stamp of the file; None where the copy has to catch up once more.

        Raises:
            as for `catch_up`.
        """
        following = self._following
        following.look(self._source)
        self._check()
        now = content.stat(self._source)
        if not following.is_level or content.stat(self._target).st_size != now.st_size:
            return None
        copy.renew_attributes(self._source, self._target)
        return FileStamp.of(now)

    def _check(self) -> None:
        """See that the copy can still be used.

        Raises:
            see `catch_up`.
        """
        if self._following.trouble is not None:
            raise self._following.trouble
        if self._following.spoilt:
            raise UselessCopy(CHANGED)
