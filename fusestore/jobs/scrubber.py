"""Reads every file again now and then, in the background, and compares it with its hash.

    at rest ──► asked, or `every_days` are over ──► a pass: file by file in the order of inode numbers ──► at rest
                                                     └─ a restart: goes on behind the last file it had read

It reads past the page cache, at idle I/O priority, in threads of its own, not faster than its rate, and pauses while
all threads of a root are busy with requests. How far it is, and what it found, is in the index.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from fusestore.errors import FusestoreError
from fusestore.model import Cause, Outcome, ReplicaState, ScrubPass
from fusestore.service import repairing, succeeding, verifying
from fusestore.service.pace import Pace

if TYPE_CHECKING:
    from fusestore.model import InodeNo
    from fusestore.service.places import At
    from fusestore.service.store import Store
    from fusestore.service.verifying import Read

log = structlog.get_logger()

LOOK_S: Final = 60.0  # between two looks whether a pass is due
BUSY_S: Final = 0.05  # between two looks whether a root's threads are free again
PAGE: Final = 500  # files passed over in one go
LEAST_BYTES: Final = 64 << 10  # that a file counts for: many small ones must not keep the loop busy
DAY_NS: Final = 24 * 3600 * 1_000_000_000


class Halted(FusestoreError):
    """Nobody wants this file to be read to its end any more."""


class Manners:
    """Holds a thread that reads to a rate, and lets requests go first.

    Args:
        rate: bytes a second, 0 for no limit.

    Attributes:
        others: the threads that serve requests on the root which is read from.
        stopped: from now on, whoever reads on gets `Halted`.
    """

    def __init__(self, rate: int) -> None:
        self.pace = Pace(rate)
        self.others: trio.CapacityLimiter | None = None
        self.stopped = False

    def __call__(self, count: int) -> None:
        """`count` bytes were read; returns when the next may be. Blocks."""
        self._look()
        self.pace.take(count, self._look)
        while self.others is not None and not self.others.available_tokens:
            time.sleep(BUSY_S)
            self._look()

    def _look(self) -> None:
        if self.stopped:
            raise Halted


class Scrubber:
    """The only owner of the pass that goes on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pass = store.index.scrub_pass()
        self._wake = trio.Event()
        self._threads = trio.CapacityLimiter(1)
        self._manners = Manners(0)
        self._halted = False

    @property
    def is_running(self) -> bool:
        return self._pass is not None and not self._pass.ended_ns

    def start(self, root: str, rate: int | None, *, again: bool) -> None:
        """Begin a pass, in place of one that goes on.

        Args:
            root: only the files there; "" for all.
            rate: bytes a second, 0 for no limit; None: as the config says.
            again: also files that were read within the last `every_days`.
        """
        settings = self._store.config.scrub
        now_ns = time.time_ns()
        rate = settings.rate if rate is None else rate
        before_ns = 0 if again else int(now_ns - settings.every_days * DAY_NS)
        scrub = ScrubPass(now_ns, root, rate, before_ns)
        self._save(scrub)
        self._pass = scrub
        self._manners.stopped = True  # of the one before
        self._wake.set()

    def stop(self) -> None:
        """End the pass that goes on; what it has read stays known."""
        if self.is_running and self._pass is not None:
            self._pass.ended_ns = time.time_ns()
            self._save(self._pass)
        self._manners.stopped = True

    def change_rate(self, before: int, rate: int) -> None:
        """Another rate is configured: a pass that goes on takes it, unless it was given one of its own."""
        if self.is_running and self._pass is not None and self._pass.rate == before:
            self._pass.rate = rate
            self._manners.pace.change(rate)
        self._wake.set()  # one may be due

    def halt(self) -> None:
        """The daemon ends: stop reading; the pass goes on at the next start."""
        self._halted = True
        self._manners.stopped = True

    def status(self) -> dict[str, Any]:
        """How far the last pass is."""
        scrub = self._pass or ScrubPass(0)
        facts = {name: getattr(scrub, name) for name in ScrubPass.__struct_fields__ if name != "before_ns"}
        return {"running": self.is_running, **facts, "last_inode": self._store.index.numbers.next_inode - 1}

    async def run(self) -> None:
        while not self._halted:
            self._wake = trio.Event()
            try:
                if self.is_running:
                    await self.go_on()
                    continue
                if self._is_due():
                    self.start("", None, again=False)
                    continue
            except FusestoreError as error:  # the index takes nothing now
                log.debug("scrubbing waits", error=str(error))
            with trio.move_on_after(LOOK_S):
                await self._wake.wait()

    def _is_due(self) -> bool:
        every_days = self._store.config.scrub.every_days
        begun_ns = self._pass.begun_ns if self._pass is not None else 0
        return every_days > 0 and time.time_ns() - begun_ns >= every_days * DAY_NS

    async def go_on(self) -> None:
        """Take the pass to its end, or until it is stopped, or another takes its place."""
        index, scrub = self._store.index, self._pass
        if scrub is None or scrub.ended_ns:
            return
        manners = self._manners = Manners(scrub.rate)
        while numbers := index.inodes_after(scrub.after, PAGE):
            for number in numbers:
                scrub.after = number  # also of one that meets a bug: it must not hold up the others
                if self._wants(scrub, number):
                    await self._one(scrub, number, manners)
                if not manners.stopped:
                    await self._replicas(scrub, number, manners)
                if manners.stopped:
                    return
            self._save(scrub)
            await trio.lowlevel.checkpoint()
        scrub.ended_ns = time.time_ns()
        self._save(scrub)
        log.info("scrubbed", files=scrub.checked, bytes=scrub.read_bytes, bad=scrub.bad)

    def _wants(self, scrub: ScrubPass, number: InodeNo) -> bool:
        """Whether a pass concerns an inode."""
        store = self._store
        inode = store.index.inode(number)
        if inode is None or not inode.is_regular:
            return False
        driver = store.root_of(number)
        if driver is None or scrub.root not in ("", driver.name):
            return False
        verified = store.index.verified(number)
        if verified is None or verified.version != inode.version or not scrub.before_ns:
            return True
        if verified.outcome is not Outcome.SOUND:
            return True  # there may be a good replica by now
        return verified.time_ns < scrub.before_ns

    async def _one(self, scrub: ScrubPass, number: InodeNo, manners: Manners) -> None:
        """Read one file, and take down what that showed, and that the pass has come so far."""
        store = self._store
        finding = await verifying.examine(store, store.inode(number), self._reader(manners))
        if manners.stopped:
            return
        is_bad = finding.outcome in (Outcome.DAMAGED, Outcome.UNREADABLE)
        scrub.checked += finding.outcome is not None
        scrub.skipped += finding.outcome is None
        scrub.bad += is_bad
        scrub.read_bytes += finding.inode.size if finding.outcome is not None else 0
        batch = store.batch()
        verifying.record(store, batch, finding, cause=Cause.SCRUB)
        batch.scrub_pass(scrub)
        store.index.apply(batch)
        if is_bad:
            await repairing.repair(store, number)
        if scrub.rate:
            await trio.sleep(max(LEAST_BYTES - finding.inode.size, 0) / scrub.rate)
        else:
            await trio.lowlevel.checkpoint()

    async def _replicas(self, scrub: ScrubPass, number: InodeNo, manners: Manners) -> None:
        """Read the replicas of a file that a pass concerns; those that are bad are made again."""
        store = self._store
        for root, record in store.index.replicas(number):
            inode, driver = store.index.inode(number), store.roots[root]
            if inode is None or record.state is not ReplicaState.CURRENT or not driver.online:
                continue
            if scrub.root not in ("", driver.name) or 0 < scrub.before_ns <= record.verified_ns:
                continue
            try:
                good = await succeeding.reread(store, inode, root, self._reader(manners))
            except Halted:
                return
            except FusestoreError as error:  # its root is away
                log.debug("a replica is not read", inode=number, root=driver.name, error=str(error))
                continue
            scrub.bad += not good
            scrub.read_bytes += record.size

    def _reader(self, manners: Manners) -> Read:
        async def read(at: At, algorithm: str) -> bytes:
            manners.others = self._store.threads[at.driver.number]
            return await verifying.read_in(self._threads, at, algorithm, manners)

        return read

    def _save(self, scrub: ScrubPass) -> None:
        batch = self._store.batch()
        batch.scrub_pass(scrub)
        self._store.index.apply(batch)
