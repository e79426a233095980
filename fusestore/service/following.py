"""What the writers of a file and a copy of it must know of each other while the file goes to another root.

    noting       writes go to the file, and their blocks are noted, to be copied again
    mirroring    writes go to both sides; what is still noted is copied again, a few blocks at a time
    over         the copy has taken the file's place, or is thrown away: writes go where the open file says

Whoever changes the file's bytes takes its *turn* for that, and so does the copy where it must not be overtaken: in the
order of asking, and never for longer than a few milliseconds or one write. Here is only what both sides look at;
`jobs.follower` does the copying. Trouble on the copy's side ends the copy, never the write.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from fusestore.errors import FusestoreError, RootOffline
from fusestore.model import FileStamp
from fusestore.roots import content
from fusestore.roots.repeating import blocks_of

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable

    from fusestore.core.ports import Driver


class Turn:
    """One at a time, in the order of asking. Costs nothing but two assignments as long as nobody else asks."""

    __slots__ = ("_queue", "is_taken")

    def __init__(self) -> None:
        self.is_taken = False
        self._queue: deque[trio.Event] = deque()

    async def take(self) -> None:
        if not self.is_taken:
            self.is_taken = True
            return
        mine = trio.Event()
        self._queue.append(mine)
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():
                self.give()
            else:
                self._queue.remove(mine)
            raise

    def give(self) -> None:
        if self._queue:
            self._queue.popleft().set()  # it stays taken, by the next
        else:
            self.is_taken = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        await self.take()
        try:
            yield
        finally:
            self.give()


class Following:
    """One file that is being copied, and what has happened to it since that began.

    Attributes:
        noted: blocks that the copy has to take over again.
        cut_to: the smallest size that the file was cut to since the copy last took that over; None if it was not.
        unproven: blocks of the copy that were written after it was read back.
        was_written: the bytes are not those any more that were copied first.
        was_touched: nor are the attributes, or the times, by our own doing.
        cutter: whoever has the turn cuts the file, and may do the same to the copy.
        spoilt: somebody else wrote to the file on its disk.
        trouble: what the copy's disk answered; from then on nothing is mirrored.
    """

    __slots__ = (
        "_fd",
        "_is_over",
        "_limiter",
        "_mirroring",
        "_stamp",
        "_under_way",
        "_users",
        "cut_to",
        "cutter",
        "noted",
        "spoilt",
        "target",
        "trouble",
        "turn",
        "unproven",
        "was_touched",
        "was_written",
    )

    def __init__(
        self, target: Driver, limiter: trio.CapacityLimiter, *, stamp: FileStamp | None, under_way: int
    ) -> None:
        """Begin to note.

        Args:
            target: where the copy is; `limiter`: of its threads.
            stamp: of the file now, where others may write to it; None where nobody else does.
            under_way: writes that go on in threads, and began before anything could be noted: they have the turn.
        """
        self.target = target
        self.turn = Turn()
        self.turn.is_taken = under_way > 0
        self.noted: set[int] = set()
        self.cut_to: int | None = None
        self.unproven: set[int] = set()
        self.was_written = under_way > 0
        self.was_touched = False
        self.cutter = False
        self.spoilt = False
        self.trouble: OSError | FusestoreError | None = None
        self._limiter = limiter
        self._stamp = stamp
        self._under_way = under_way
        self._mirroring = False
        self._fd = -1  # of the copy, for writing
        self._users = 0  # threads that write to it for somebody
        self._is_over = False

    @property
    def is_still(self) -> bool:
        """Whether the file is as it was when its copy began, and nobody is about to change that."""
        return not (self.was_written or self.was_touched or self.turn.is_taken)

    @property
    def is_level(self) -> bool:
        """Whether the copy has all that the file has; for whoever has the turn."""
        return self._mirroring and not self.noted and self.cut_to is None

    # -- for writers ------------------------------------------------------------------------------------------------

    def note(self, offset: int, size: int) -> None:
        """Something was, or may have been, written to the file alone."""
        self.noted.update(blocks_of(offset, size))
        self.was_written = True

    def note_cut(self, size: int) -> None:
        """The file alone was cut, or extended."""
        self.cut_to = size if self.cut_to is None else min(self.cut_to, size)
        self.was_written = True

    def landed(self, fd: int) -> None:
        """One of those writes is done that were under way when the copy began."""
        self.see(content.stat(fd))
        self._under_way -= 1
        if self._under_way == 0:
            self.turn.give()

    async def wrote(self, data: bytes, offset: int) -> None:
        """Do to the copy what was just done to the file, by whoever has the turn."""
        self.was_written = True
        if not self._mirrors:
            self.note(offset, len(data))
            return
        self.unproven.update(blocks_of(offset, len(data)))
        if len(data) <= content.INLINE_WRITE_BYTES:
            self._try(lambda: content.write(self._fd, data, offset))
        else:
            await self._try_in_thread(lambda: content.write(self._fd, data, offset))

    def was_cut(self, size: int) -> None:
        """The same for a file that was cut: at once if its turn is free, or was taken for that."""
        if self._mirrors and (self.cutter or not self.turn.is_taken):
            self._begin_cut(size)
            self._try(lambda: content.truncate(self._fd, size))
        else:
            self.note_cut(size)

    async def was_cut_by_much(self, size: int) -> None:
        """The same, where it takes its time."""
        if self._mirrors:
            self._begin_cut(size)
            await self._try_in_thread(lambda: content.truncate(self._fd, size))
        else:
            self.note_cut(size)

    def look(self, fd: int) -> None:
        """Before the file is changed by us, and at the end: see whether others have changed it."""
        if self._stamp is not None and not self._is_over and FileStamp.of(content.stat(fd)) != self._stamp:
            self.spoilt = True

    def see(self, seen: os.stat_result) -> None:
        """After the file was changed by us."""
        if self._stamp is not None:
            self._stamp = FileStamp.of(seen)

    def descriptor(self) -> int | None:
        """A descriptor of the copy, the caller's to close, for who makes the file durable; None while it is behind."""
        return content.duplicate(self._fd) if self._mirrors else None

    def fail(self, error: OSError | FusestoreError) -> None:
        """The copy can be used no more."""
        self.trouble = self.trouble or error
        self._mirroring = False

    # -- for the copy -----------------------------------------------------------------------------------------------

    def mirror(self, fd: int) -> None:
        """From here on, writes go to the copy `fd` too; for whoever has the turn."""
        if self._fd < 0:
            self._fd = content.duplicate(fd)
            self._mirroring = True

    def take_notes(self, most: int | None = None) -> tuple[int | None, set[int]]:
        """What the copy has to take over now, `most` blocks of it: a size to be cut to first, and blocks."""
        cut_to, self.cut_to = self.cut_to, None
        if most is None or len(self.noted) <= most:
            blocks, self.noted = self.noted, set()
        else:
            blocks = {self.noted.pop() for _ in range(most)}
        self.unproven |= blocks
        return cut_to, blocks

    def take_unproven(self) -> set[int]:
        """The blocks to be read back now; for whoever has the turn."""
        blocks, self.unproven = self.unproven, set()
        return blocks

    def end(self) -> None:
        """The copy has taken the file's place, or is thrown away."""
        self._is_over = True
        self._mirroring = False
        self._close_unused()

    # ---------------------------------------------------------------------------------------------------------------

    @property
    def _mirrors(self) -> bool:
        """Whether a change of the file can be done to the copy too: not before an earlier cut."""
        return self._mirroring and self.cut_to is None

    def _begin_cut(self, size: int) -> None:
        self.was_written = True
        self.unproven.update(blocks_of(size, 1))

    def _try(self, change: Callable[[], object]) -> None:
        try:
            if not self.target.online:
                raise RootOffline(self.target.name)
            change()
        except (OSError, FusestoreError) as error:
            self.fail(error)

    async def _try_in_thread(self, change: Callable[[], object]) -> None:
        self._users += 1
        try:
            await trio.to_thread.run_sync(self._try, change, limiter=self._limiter)
        finally:
            self._users -= 1
            if self._is_over:
                self._close_unused()

    def _close_unused(self) -> None:
        if self._users == 0 and self._fd >= 0:
            content.close(self._fd)
            self._fd = -1
