"""Brings home what renames across roots have left behind, one move at a time per worker.

A move walks the names below its object: files in small batches by the `carrier`, then each directory itself,
bottom-up. It keeps no state of its own that matters: interrupted anywhere, it starts again and skips what is home.
What is held up (a writer, no room, a root that is away) makes the move wait; it is tried again soon, or at once when
a writer closes.

    begun ──► due ──► running (as many as there are workers) ──► over
               ▲         │
               └─ waiting ◄┘
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

import structlog
import trio

from fusestore.core.moves import OPEN, MoveEvent
from fusestore.errors import FusestoreError
from fusestore.jobs.carrier import Carrier, Held, reason_of
from fusestore.model import MoveNo, MoveState
from fusestore.service import adopting, directories, moving, walking

if TYPE_CHECKING:
    from fusestore.model import InodeNo, Move
    from fusestore.service.store import Store

log = structlog.get_logger()

BATCH_FILES: Final = 512  # share two syncs of the target and one of the log
BATCH_BYTES: Final = 64 << 20
RETRY_S: Final = 1.0


class Mover:
    """The only owner of moves that run.

    Attributes:
        running: the moves being worked on, with counts that are ahead of those in the index. One that was overtaken
            stays until its worker has nothing of it in hand.
    """

    def __init__(self, store: Store, workers: int) -> None:
        self._store = store
        self._workers = workers
        self._wake = trio.Event()
        self._known = MoveNo(0)  # the newest move that was taken up
        self._due: deque[MoveNo] = deque()
        self._waiting: OrderedDict[MoveNo, float] = OrderedDict()  # when to try again, the earliest first
        self._claimed: set[InodeNo] = set()
        self.running: dict[MoveNo, Move] = {}
        store.on_move = self.wake
        store.on_retry = self.retry

    def wake(self) -> None:
        """There is a new move."""
        self._wake.set()

    def retry(self, move: MoveNo | None) -> None:
        """What held a move up has passed; None: try all that wait."""
        for number in list(self._waiting) if move is None else [move]:
            if self._waiting.pop(number, None) is not None:
                self._due.append(number)
        self._wake.set()

    async def run(self) -> None:
        index = self._store.index
        self._known = index.last_move
        self._due += [move.number for move in index.moves(open_only=True)]
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                begun = index.moves_after(self._known)
                self._known = begun[-1] if begun else self._known
                self._due += begun
                while self._waiting and next(iter(self._waiting.values())) <= trio.current_time():
                    self._due.append(self._waiting.popitem(last=False)[0])
                while self._due and len(self.running) < self._workers:
                    move = index.move(self._due.popleft())
                    if move is not None and move.state in OPEN:
                        self.running[move.number] = move
                        nursery.start_soon(self._work, move)
                with trio.move_on_at(next(iter(self._waiting.values()), math.inf)):
                    await self._wake.wait()

    async def _work(self, move: Move) -> None:
        try:
            await self.bring(move)
        finally:
            del self.running[move.number]
            if self._is_open(move):
                self._waiting[move.number] = trio.current_time() + RETRY_S
            self._wake.set()

    async def bring(self, move: Move) -> None:
        """Work on one move until it is over or held up; its trouble is in its state and reason."""
        try:
            await self._bring(move)
        except (OSError, FusestoreError) as error:
            log.debug("a move met trouble", move=move.number, exc_info=error)
            self._hold(move, reason_of(error))

    async def _bring(self, move: Move) -> None:
        store = self._store
        if not self._is_open(move):
            return
        if move.state is not MoveState.WAITING:
            moving.change(store, move, MoveEvent.STARTED)
        await self._count(move)
        held = await self._walk(move)
        if not self._is_open(move):
            return
        if held:
            self._hold(move, held[0].reason)
            return
        inode = store.index.inode(move.inode)
        if inode is not None and store.placement.is_home(move.inode):
            batch = store.batch()
            moving.finish(store, batch, move, inode, store.path(inode.number) or move.path)
            store.index.apply(batch)

    def _hold(self, move: Move, reason: str) -> None:
        if self._is_open(move):
            if (move.state, move.reason) != (MoveState.WAITING, reason):
                log.info("a move waits", move=move.number, reason=reason)
            try:
                moving.change(self._store, move, MoveEvent.HELD_UP, reason)
            except FusestoreError as error:  # the index takes nothing now; the move is tried again all the same
                log.debug("a move's state is not recorded", move=move.number, error=str(error))

    def _is_open(self, move: Move) -> bool:
        """Whether the index still wants this move; a rename or removal may have overtaken it."""
        recorded = self._store.index.move(move.number)
        return recorded is not None and recorded.state in OPEN

    async def _count(self, move: Move) -> None:
        """Learn how much there is to do, for whoever watches."""
        store = self._store
        move.files_total = move.files_done = move.bytes_total = move.bytes_done = 0
        for position, inode in enumerate(walking.below(store, move.inode), 1):
            if position % walking.PAGE == 0:
                await trio.lowlevel.checkpoint()
            if not inode.is_dir:
                home = store.placement.is_home(inode.number)
                move.files_total += 1
                move.files_done += home
                move.bytes_total += inode.size
                move.bytes_done += inode.size if home else 0

    async def _walk(self, move: Move) -> list[Held]:
        """Bring everything below the move's object home; returns what did not get there."""
        store = self._store
        carrier = Carrier(store, move, self._claimed)
        top = store.index.inode(move.inode)
        if top is None:
            return []
        if not top.is_dir:
            return await carrier.bring([top.number])
        held: list[Held] = []
        todo: list[tuple[InodeNo, bool]] = [(top.number, False)]  # directory, and whether its content was seen to
        while todo and self._is_open(move):
            directory, seen_to = todo.pop()
            if store.index.inode(directory) is None:
                continue
            if seen_to:
                reason = await directories.bring_home(store, move, directory)
                held += [Held(directory, reason)] if reason else []
                continue
            todo.append((directory, True))
            await adopting.refresh(store, directory)
            directories.begin(store, directory)
            subdirectories: list[InodeNo] = []
            held += await self._files_of(directory, carrier, subdirectories)
            todo += [(each, False) for each in subdirectories]
        return held

    async def _files_of(self, directory: InodeNo, carrier: Carrier, subdirectories: list[InodeNo]) -> list[Held]:
        store = self._store
        held: list[Held] = []
        after = b""
        while names := store.index.dentries(directory, after, BATCH_FILES):
            batch: list[InodeNo] = []
            size = 0
            for name, number in names:
                after = name
                inode = store.index.inode(number)
                if inode is None:
                    continue
                if inode.is_dir:
                    subdirectories.append(number)
                elif not store.placement.is_home(number):
                    batch.append(number)
                    size += inode.size
                    if size >= BATCH_BYTES:
                        break
            held += await carrier.bring(batch)
            await trio.lowlevel.checkpoint()
        return held
