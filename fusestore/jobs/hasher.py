"""Makes finished contents durable, hashes what was not hashed in passing, and announces them.

One batch at a time: sync each root once for all files that finished since, then settle them. Files whose content
changes meanwhile come back. The bytes are durable before anybody is told that they are (DESIGN 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from fusestore.errors import FusestoreError
from fusestore.roots import content
from fusestore.roots.hashing import hash_fd
from fusestore.service import finalizing

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import InodeNo
    from fusestore.service.finalizing import Unsettled
    from fusestore.service.store import Store

log = structlog.get_logger()

PAUSE_S: Final = 0.05  # gathers what a burst of small files finishes, so that one sync serves all
PAUSE_MAX_S: Final = 2.0
SHARE: Final = 10  # a sync holds up everybody else's work on its disk: it may take a tenth of the time
BATCH: Final = 1000


class Hasher:
    """The only owner of the list of unsettled files."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[InodeNo, None] = {}
        self._pause_s = PAUSE_S
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        store.on_unsettled = self.add

    def add(self, number: InodeNo) -> None:
        """Have a file settled once nobody writes it."""
        self._waiting[number] = None
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._wake.set()

    async def idle(self) -> None:
        """Wait until nothing is waiting to be settled."""
        await self._idle.wait()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await trio.sleep(self._pause_s)
            began = trio.current_time()
            await self.settle_waiting()
            self._pause_s = min(max(PAUSE_S, SHARE * (trio.current_time() - began)), PAUSE_MAX_S)

    async def settle_waiting(self) -> None:
        """Settle whatever waits and can be settled now."""
        while self._waiting:
            await self._one_batch()
        self._idle.set()

    async def _one_batch(self) -> None:
        numbers = list(self._waiting)[:BATCH]
        for number in numbers:
            del self._waiting[number]
        works: list[Unsettled] = []
        for number in numbers:
            try:
                work = finalizing.take(self._store, number)
            except (OSError, FusestoreError) as error:
                log.debug("not settled", inode=number, error=str(error))
                continue
            if work is not None:
                works.append(work)
        drivers: dict[Driver, None] = dict.fromkeys(work.driver for work in works)
        lost: set[Driver] = set()
        for driver in drivers:
            try:
                await trio.to_thread.run_sync(driver.sync, limiter=self._store.threads[driver.number])
            except (OSError, FusestoreError) as error:
                log.warning("root cannot be synced; its new files stay unsettled", root=driver.name, error=str(error))
                lost.add(driver)
        for work in works:
            if work.driver not in lost:
                await self._settle(work)

    async def _settle(self, work: Unsettled) -> None:
        try:
            digest = work.digest or await self._read(work)
            if not finalizing.settle(self._store, work, digest):
                self._waiting[work.number] = None
        except (OSError, FusestoreError) as error:
            log.debug("not settled", inode=work.number, error=str(error))

    async def _read(self, work: Unsettled) -> bytes:
        store = self._store
        at = store.place(work.number)
        fd = at.driver.open(at.directory, at.name, write=False)
        try:
            return await trio.to_thread.run_sync(
                hash_fd, fd, store.config.hash.algorithm, limiter=store.threads[work.driver.number]
            )
        finally:
            content.close(fd)
