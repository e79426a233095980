"""Keeps each root's manifest in step with the index (`roots.manifest` has the form, decision 0019 the reasons).

    unknown ─ looked at ─► in step ◄────────── put in place ──────────┐
       └─► behind (none, an unclean end, its disk refused) ─► renewing (a pass over the index, in small steps)

Every few seconds what was changed since is read from the index and queued, one frame for each root that it concerns;
each root's frames are written and synced in its own threads, so that a slow disk delays no other and no request. While
a manifest is written anew it is followed too, and so is what is to be replaced. A root that is offline falls behind.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Never, TypeVar

import structlog
import trio

from fusestore.errors import RootOffline
from fusestore.index.changed import Changed
from fusestore.roots.local import LocalRoot
from fusestore.roots.manifest import Manifest, framed
from fusestore.service.recording import entry_of, frame_of, head_of, keeper_of, sort_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusestore.model import Inode, InodeNo, RootNo
    from fusestore.roots.manifest import Entry, Frame, Head, Survey
    from fusestore.service.store import Store

log = structlog.get_logger()

T = TypeVar("T")

FOLLOW_S: Final = 3.0
CHUNK: Final = 50  # inodes looked at without letting other tasks run: less than a millisecond
PAUSE_S: Final = 0.01  # between two chunks of a pass, which so takes a tenth of the time of one core at most
FRAME: Final = 500  # entries in one frame of a pass
ROUND: Final = 10_000  # inodes in one frame of what was changed: some megabytes
QUEUE_BYTES: Final = 4 << 20  # that wait for a disk; beyond that it has fallen behind
PATIENCE_S: Final = 30.0
RETRY_S: Final = 60.0
GROWN: Final = 4  # times what was written anew, and it is written anew again
SMALL_BYTES: Final = 1 << 20
CLOSE_S: Final = 30.0  # how long an orderly end waits for manifests that are behind


class Step(Enum):
    UNKNOWN = "unknown"
    IN_STEP = "in step"
    BEHIND = "behind"
    RENEWING = "renewing"


class Piece(NamedTuple):
    """Something to write; `data` of a pass goes to the fresh manifest alone."""

    data: bytes
    fresh_only: bool = False
    first: bool = False  # begins a fresh manifest
    last: bool = False  # completes it


class Book:
    """One root's manifest, and what waits to be written to it."""

    def __init__(self, store: Store, root: LocalRoot, seen: tuple[int, int]) -> None:
        """`seen`: epoch and last change of the index when nothing had been changed yet."""
        self.root = root
        self.step = Step.UNKNOWN
        self.claim = 0  # the last `step` that was queued
        self.retry_at = 0.0
        self._store = store
        self._seen = seen
        self._limiter = store.threads[root.number]
        self._size = self._base = self._fresh_size = 0
        self._queue: deque[Piece] = deque()
        self._queued_bytes = 0
        self._wake = trio.Event()
        self._written = trio.Event()

    @property
    def can_write(self) -> bool:
        return self.root.online and not self.root.read_only

    @property
    def wants_pass(self) -> bool:
        """Whether it is to be written anew now."""
        grown = self.step is Step.IN_STEP and self._size > GROWN * self._base + SMALL_BYTES
        return self.can_write and (grown or (self.step is Step.BEHIND and trio.current_time() >= self.retry_at))

    async def run(self) -> Never:
        await self.survey()
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self.write()

    async def survey(self) -> None:
        """Find out whether what is there is in step with the index."""
        if self.step is not Step.UNKNOWN:
            return
        found = None
        if self.can_write:
            try:
                found = await self._in_thread(_survey)
            except (OSError, RootOffline) as error:
                log.debug("a manifest cannot be read", root=self.root.name, error=str(error))
        ours = found is not None and (found.head.store, found.head.root) == (self._store.index.uuid, self.root.uuid)
        if found is None or found.last is None or not ours:
            self.fall_behind("there is none", retry_s=0)
            return
        self._size, self._base = found.size, found.base
        if (found.last.epoch, found.last.step) == self._seen:
            self.step, self.claim = Step.IN_STEP, found.last.step
        else:
            self.fall_behind("changes since are not in it", retry_s=0)

    def follow(self, frame: Frame) -> None:
        """Queue what was changed."""
        if self.step is not Step.BEHIND:
            self.claim = frame.step
            self._push(Piece(framed(frame)))

    def begin(self, head: Head) -> None:
        """Begin to write it anew; `add` and `complete` are to follow."""
        self.step = Step.RENEWING
        self._push(Piece(framed(head), fresh_only=True, first=True))

    def add(self, frame: Frame) -> None:
        if self.step is Step.RENEWING:
            self._push(Piece(framed(frame), fresh_only=True))

    def complete(self) -> None:
        if self.step is Step.RENEWING:
            self._push(Piece(b"", fresh_only=True, last=True))
            self.step = Step.IN_STEP

    def _push(self, piece: Piece) -> None:
        if not self.can_write or self._queued_bytes > QUEUE_BYTES:
            self.fall_behind("its disk does not take it")
            return
        self._queue.append(piece)
        self._queued_bytes += len(piece.data)
        self._wake.set()

    async def room(self) -> None:
        """Wait until little is queued; what does not move has fallen behind."""
        with trio.move_on_after(PATIENCE_S) as waited:
            while self._queued_bytes > QUEUE_BYTES // 4:
                self._written = trio.Event()
                await self._written.wait()
        if waited.cancelled_caught:
            self.fall_behind("its disk does not answer")

    async def write(self) -> None:
        """Write what is queued."""
        while self._queue:
            pieces, self._queue = self._queue, deque()
            self._queued_bytes = 0
            # Whoever ends this must not write beside a thread that goes on.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE_S) as patience:
                try:
                    await self._in_thread(partial(self._put, pieces=pieces))
                except (OSError, RootOffline) as error:
                    self.fall_behind(str(error))
            if patience.cancelled_caught:
                self.fall_behind("its disk does not answer")
            self._written.set()

    async def _in_thread(self, work: Callable[[Manifest], T]) -> T:
        manifest = self.root.manifest()

        def there() -> T:
            with manifest:
                return work(manifest)

        return await trio.to_thread.run_sync(there, limiter=self._limiter, abandon_on_cancel=True)

    def _put(self, manifest: Manifest, pieces: deque[Piece]) -> None:
        """In a thread: what goes to one file is one append."""
        old, fresh = b"", b""
        for piece in pieces:
            if piece.first:
                self._fresh_size = manifest.begin()
            if piece.last:
                self._fresh_size = manifest.append(fresh, self._fresh_size, fresh=True)
                manifest.put_in_place()
                self._size = self._base = self._fresh_size
                self._fresh_size, old, fresh = 0, b"", b""
            if not piece.fresh_only:
                old += piece.data
            if self._fresh_size:
                fresh += piece.data
        if old and self._size:
            self._size = manifest.append(old, self._size)
        if fresh:
            self._fresh_size = manifest.append(fresh, self._fresh_size, fresh=True)

    def fall_behind(self, reason: str, retry_s: float = RETRY_S) -> None:
        if self.step is not Step.BEHIND:
            log.debug("a manifest is behind", root=self.root.name, reason=reason)
        self.step = Step.BEHIND
        self.retry_at = trio.current_time() + retry_s
        self._queue.clear()
        self._queued_bytes = 0
        self._fresh_size = 0
        self._written.set()


def _survey(manifest: Manifest) -> Survey | None:
    """What there is, and room for what there may be; in a thread."""
    found = manifest.survey()
    if found is None:
        manifest.keep_room()
    return found


class Manifests:
    """The only owner of the manifests' state. To be made before anything is changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        index = store.index
        self._changed = index.changed = Changed()
        seen = index.epoch, index.changes
        self._books: dict[RootNo, Book] = {
            number: Book(store, root, seen) for number, root in store.roots.items() if isinstance(root, LocalRoot)
        }

    async def run(self) -> Never:
        try:
            await self._run()
        except Exception:  # something may never be said that was taken to be
            for book in self._books.values():
                book.fall_behind("a bug")
            raise

    async def _run(self) -> Never:
        async with trio.open_nursery() as nursery:
            for book in self._books.values():
                nursery.start_soon(book.run)
            while True:
                await trio.sleep(FOLLOW_S)
                await self._follow()
                renewing = any(book.step is Step.RENEWING for book in self._books.values())
                wanting = [book for book in self._books.values() if book.wants_pass]
                if wanting and not renewing:
                    nursery.start_soon(self._renew, wanting)

    async def close(self) -> None:
        """Bring all manifests in step with an index that is not changed any more; `run` has ended."""
        with trio.move_on_after(CLOSE_S):
            await self._follow()
            for book in self._books.values():
                await book.survey()
            behind = [book for book in self._books.values() if book.step is not Step.IN_STEP and book.can_write]
            await self._renew(behind, at_once=True)
            self._claim(self._store.index.changes, self._books.values())
            async with trio.open_nursery() as nursery:
                for book in self._books.values():
                    nursery.start_soon(book.write)

    async def _follow(self) -> None:
        """Queue what was changed since the last time, as it is now."""
        is_last = False
        while not is_last:
            step = self._store.index.changes
            numbers, left = self._changed.take(ROUND)
            is_last = not self._changed
            with trio.CancelScope(shield=True):  # what is taken is said by nobody else
                await self._queue(numbers, left, step if is_last else 0)
        self._claim(step, [book for book in self._books.values() if book.claim == 0 and book.can_write])

    def _claim(self, step: int, books: Iterable[Book]) -> None:
        """Have those of these manifests that say all that was so after this change say so, if they do not yet."""
        for book in books:
            if book.step is Step.IN_STEP and book.claim != step:
                book.follow(frame_of(self._store, [], step=step))

    async def _queue(self, numbers: list[InodeNo], left: list[Inode], step: int) -> None:
        entries: dict[RootNo, list[Entry]] = {}
        gone: dict[RootNo, list[InodeNo]] = {}
        for first in range(0, max(len(numbers), 1), CHUNK):
            here, away = sort_out(self._store, numbers[first : first + CHUNK], left if first == 0 else ())
            for root, found in here.items():
                entries.setdefault(root, []).extend(found)
            for root, lost in away.items():
                gone.setdefault(root, []).extend(lost)
            await trio.lowlevel.checkpoint()
        # All frames of a round are made at once: `change` orders them among those of a pass.
        for number in entries.keys() | gone.keys():
            book = self._books.get(number)
            if book is not None:
                in_step = book.step is Step.IN_STEP
                frame = frame_of(self._store, entries.get(number, []), gone.get(number), step=step if in_step else 0)
                book.follow(frame)

    async def _renew(self, books: list[Book], *, at_once: bool = False) -> None:
        """Write these manifests anew in one pass over the index."""
        store = self._store
        waiting: dict[RootNo, list[Entry]] = {book.root.number: [] for book in books}
        for book in books:
            book.begin(head_of(store, book.root.number))
        last = 0
        while waiting and (inodes := store.index.inodes_from(last + 1, CHUNK)):
            last = inodes[-1].number
            self._add(waiting, inodes)
            if at_once:
                await trio.lowlevel.checkpoint()
            else:
                await trio.sleep(PAUSE_S)
            for book in books:
                await (book.write() if at_once else book.room())
        for book in books:
            book.add(frame_of(store, waiting[book.root.number], anew=True))
            book.complete()

    def _add(self, waiting: dict[RootNo, list[Entry]], inodes: list[Inode]) -> None:
        for inode in inodes:
            root = keeper_of(self._store, inode)
            if root in waiting:
                waiting[root].append(entry_of(self._store, inode))
        for number, entries in waiting.items():
            if len(entries) >= FRAME:
                self._books[number].add(frame_of(self._store, entries, anew=True))
                waiting[number] = []
