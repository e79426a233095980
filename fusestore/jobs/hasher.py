"""Makes finished contents durable, hashes what was not hashed in passing, and announces them.

    waiting ─► a round: sync each root once for all, read what needs it, settle ─► settled
       ▲                          └─ it changed meanwhile, or the disk refused ─► put off
       └───────────────────────────────── after a pause ──────────────────────────┘

The bytes are durable before anybody is told that they are (decision 0003). What was put off never holds up the rest:
a file that others write all the time, or a disk that fails, is tried again in rounds to come.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import structlog
import trio

from fusestore.errors import FusestoreError, IndexFault, NotFound
from fusestore.roots import content
from fusestore.roots.hashing import hash_fd
from fusestore.service import finalizing
from fusestore.service.syncing import sync

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import InodeNo
    from fusestore.service.finalizing import Unsettled
    from fusestore.service.store import Store

log = structlog.get_logger()

PAUSE_S: Final = 0.05  # gathers what a burst of small files finishes, so that one sync serves all
PAUSE_MAX_S: Final = 2.0
RETRY_S: Final = 2.0  # before what was put off is tried again, at the earliest
PATIENCE_S: Final = 5.0  # how long `idle` waits for another try of what was put off
SHARE: Final = 10  # a sync holds up everybody else's work on its disk: it may take a tenth of the time
BATCH: Final = 1000


class Hasher:
    """The only owner of the list of unsettled files."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[InodeNo, None] = {}
        self._put_off: dict[InodeNo, None] = {}
        self._failing: set[Driver] = set()  # whose last sync failed
        self._pause_s = PAUSE_S
        self._retry_at = math.inf
        self._in_round = False
        self._wake = trio.Event()
        self._asked = trio.Event()  # somebody waits for the next round
        self._round_over = trio.Event()
        self._retried = trio.Event()
        store.on_unsettled = self.add

    def add(self, number: InodeNo) -> None:
        """Have a file settled once nobody writes it."""
        self._waiting[number] = None
        self._wake.set()

    async def idle(self) -> None:
        """Wait until every file that waits now has had its turn, and what was put off then one more soon.

        So it ends whatever goes on: files that keep changing, or that their disk does not take, stay unsettled.
        """
        await self._turn()
        if self._put_off:
            with trio.move_on_after(PATIENCE_S):
                await self._retried.wait()
            await self._turn()

    async def _turn(self) -> None:
        for _ in range(2):  # the round that goes on may have begun before the last of them came
            if self._in_round or self._waiting:
                self._asked.set()
                await self._round_over.wait()

    async def run(self) -> None:
        while True:
            with trio.move_on_at(self._retry_at):
                await self._wake.wait()
            with trio.move_on_after(self._pause_s):
                await self._asked.wait()
            self._asked = trio.Event()
            self._wake = trio.Event()
            if trio.current_time() >= self._retry_at:
                self.retry()
            began = trio.current_time()
            await self.settle_waiting()
            took_s = trio.current_time() - began
            self._pause_s = min(max(PAUSE_S, SHARE * took_s), PAUSE_MAX_S)
            if self._put_off:
                pause_s = max(RETRY_S, SHARE * took_s if self._failing else 0)
                self._retry_at = min(self._retry_at, began + took_s + pause_s)

    def retry(self) -> None:
        """Have the next round take what was put off."""
        self._waiting |= self._put_off
        self._put_off = {}
        self._retry_at = math.inf
        retried, self._retried = self._retried, trio.Event()
        retried.set()

    async def settle_waiting(self) -> None:
        """One round: settle what waits now and can be settled; put off what cannot."""
        numbers, self._waiting = list(self._waiting), {}
        self._in_round = True
        try:
            for first in range(0, len(numbers), BATCH):
                await self._one_batch(numbers[first : first + BATCH])
        except BaseException:  # what was not come to waits on
            self._waiting = dict.fromkeys(numbers) | self._waiting
            self._wake.set()
            raise
        finally:
            self._in_round = False
            over, self._round_over = self._round_over, trio.Event()
            over.set()

    async def _one_batch(self, numbers: list[InodeNo]) -> None:
        works: list[Unsettled] = []
        for number in numbers:
            await trio.lowlevel.checkpoint()  # requests come first
            try:
                work = finalizing.take(self._store, number)
            except (OSError, FusestoreError) as error:
                self._not_settled(number, error)
                continue
            except Exception:  # a bug that one file meets must not hold up the others; the next start tries it again
                log.exception("a bug while a file is settled", inode=number)
                continue
            self._waiting.pop(number, None)  # the look at it may have found it changed; it is in hand now
            if work is not None:
                works.append(work)
        synced = {driver for driver in dict.fromkeys(work.driver for work in works) if await self._sync(driver)}
        if synced and not await self._sync_index():
            synced.clear()
        for work in works:
            await trio.lowlevel.checkpoint()
            if work.driver in synced:
                await self._settle(work)
            else:
                self._defer(work.number)

    async def _sync(self, driver: Driver) -> bool:
        """Make a root's bytes durable, if it takes them."""
        try:
            await sync(self._store, driver)
        except (OSError, FusestoreError) as error:
            if driver not in self._failing:
                log.warning("root cannot be synced; its new files stay unsettled", root=driver.name, error=str(error))
            self._failing.add(driver)
            return False
        self._failing.discard(driver)
        return True

    async def _sync_index(self) -> bool:
        """Make the names durable too: what is announced is there after a power cut."""
        try:
            await trio.to_thread.run_sync(self._store.index.sync_log)
        except IndexFault as fault:
            log.debug("nothing can be settled any more", error=str(fault))
            return False
        return True

    async def _settle(self, work: Unsettled) -> None:
        try:
            digest = await self._read(work) if work.is_doubted or not work.digest else work.digest
            written = work.number in self._waiting
            if not finalizing.settle(self._store, work, digest) and not written:  # then the next round has it anyway
                self._defer(work.number)
        except (OSError, FusestoreError) as error:
            self._not_settled(work.number, error)
        except Exception:  # as above
            log.exception("a bug while a file is settled", inode=work.number)

    def _not_settled(self, number: InodeNo, error: OSError | FusestoreError) -> None:
        log.debug("not settled", inode=number, error=str(error))
        if not isinstance(error, FileNotFoundError | NotFound | IndexFault):  # it is gone, or nothing can be settled
            self._defer(number)

    def _defer(self, number: InodeNo) -> None:
        self._waiting.pop(number, None)
        self._put_off[number] = None

    async def _read(self, work: Unsettled) -> bytes:
        store = self._store
        at = store.place(work.number)
        fd = at.driver.open(at.directory, at.name, write=False)
        try:
            if work.is_doubted:
                content.forget_cached(fd)
            return await trio.to_thread.run_sync(
                hash_fd, fd, store.config.hash.algorithm, limiter=store.threads[work.driver.number]
            )
        finally:
            content.close(fd)
