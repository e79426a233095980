"""Empties the roots that are to be empty: goes over the whole index until no file is on such a root, then its disk.

    list: every directory, so that all files are known ─► files, in batches: a copy elsewhere, then the one here goes
      │ none is left                                                                         │ some are
      ▼                                                                                      ▼
    prove: the whole disk is looked through ── nothing of ours ──► drained                 a pause, and all over again

Nothing is kept here that matters: interrupted anywhere, it begins anew from the index. The replicator makes the
copies, the mover brings home what belongs elsewhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import structlog
import trio

from fusestore.core.moves import BUG
from fusestore.errors import FusestoreError, IndexFault, InUse
from fusestore.jobs.held import reason_of
from fusestore.model import InodeNo, Owner, ReplicaState, counted
from fusestore.service import (
    discarding,
    draining,
    dropping,
    emptying,
    moving,
    refreshing,
    remains,
    replicas,
    replicating,
    syncing,
)
from fusestore.service.emptying import OPEN_FOR_WRITING, Chooser, Needs, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fusestore.core.ports import Driver
    from fusestore.model import RootNo
    from fusestore.service.store import Store

    Avoid = dict[InodeNo, set[RootNo]]

log = structlog.get_logger()

A_BUG: Final = "a bug while a file leaves a root"  # in the log
BATCH_FILES: Final = 256
BATCH_BYTES: Final = 1 << 30
MOVES_AT_ONCE: Final = 256  # that go on, with those of others; who is to go home then waits
AT_ONCE: Final = 8  # files that are read back and given up at the same time
POLL_S: Final = 0.05  # between two looks at copies that are being made
PATIENCE_S: Final = 10.0  # a batch whose copies do not grow so long is left for the next pass
RETRY_S: Final = 1.0  # before another pass, doubled up to
RETRY_MAX_S: Final = 20.0
LOOK_S: Final = 2.0  # between two looks whether a root has come back


class Drainer:
    """The only owner of roots that are being emptied."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wake = trio.Event()
        self._busy: set[RootNo] = set()
        self._next_at: dict[RootNo, float] = {}
        self._pause_s: dict[RootNo, float] = {}
        store.on_drain = self.wake

    def wake(self) -> None:
        """There is something to do for a root."""
        self._next_at.clear()
        self._wake.set()

    async def run(self) -> None:
        store = self._store
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                now, soon = trio.current_time(), math.inf
                for number in self._open():
                    at = self._next_at.get(number, 0.0)
                    if not store.roots[number].online:
                        soon = min(soon, now + LOOK_S)
                    elif at <= now:
                        self._busy.add(number)
                        nursery.start_soon(self._serve, store.roots[number])
                    else:
                        soon = min(soon, at)
                with trio.move_on_at(soon):
                    await self._wake.wait()

    def _open(self) -> list[RootNo]:
        """The roots that are not empty yet and nobody is busy with."""
        drains = self._store.drains.items()
        return [number for number, drain in drains if not drain.finished_ns and number not in self._busy]

    async def _serve(self, root: Driver) -> None:
        pause_s = RETRY_MAX_S
        try:
            began = trio.current_time()
            gone = await self.empty(root)
            took_s = trio.current_time() - began
            pause_s = RETRY_S if gone else min(2 * self._pause_s.get(root.number, RETRY_S / 2), RETRY_MAX_S)
            pause_s = max(pause_s, took_s)  # looking takes half of the time at most
        except IndexFault as fault:
            log.debug("nothing can be recorded any more", error=str(fault))
            pause_s = math.inf
        except (OSError, FusestoreError) as error:
            log.warning("a root is not drained for now", root=root.name, error=str(error))
            self._progress(root).held[b""] = reason_of(error)
        except Exception:  # a bug that one root's files meet must not hold up those of others
            log.exception("a bug while a root is drained", root=root.name)
            self._progress(root).held[b""] = BUG
        finally:
            if root.number in self._store.emptying:
                self._store.emptying[root.number].passes += 1
            self._busy.discard(root.number)
            self._pause_s[root.number] = pause_s
            self._next_at[root.number] = trio.current_time() + pause_s
            self._wake.set()

    # -- a pass -----------------------------------------------------------------------------------------------------

    def _progress(self, root: Driver) -> emptying.Progress:
        return self._store.emptying.setdefault(root.number, emptying.Progress())

    def _wanted(self, root: Driver) -> bool:
        """Whether a root is to be emptied still, and can be."""
        return root.number in self._store.drains and root.online

    async def empty(self, root: Driver) -> int:
        """Go once over all that is on a root, and record that it is empty if it is; returns how many files left it."""
        store, progress = self._store, self._progress(root)
        await self.list_all(root)
        sizes = await emptying.files_on(store, root.number)
        numbers = list(sizes)
        progress.begin(sizes)
        gone = position = 0
        while position < len(numbers) and self._wanted(root):
            start, size = position, 0
            while position < len(numbers) and position - start < BATCH_FILES and size < BATCH_BYTES:
                size += sizes.get(numbers[position], 0)
                position += 1
            gone += await self._empty_of(root, numbers[start:position])
        if self._wanted(root) and not progress.files_left:
            await self.prove(root)
        progress.end()
        return gone

    async def list_all(self, root: Driver) -> None:
        """See that every file on the disk is in the index."""
        store, after = self._store, InodeNo(0)
        while self._wanted(root) and (numbers := store.index.numbers_after(after, emptying.PAGE)):
            after = numbers[-1]
            for number in numbers:
                inode = store.index.inode(number)
                if inode is not None and inode.is_dir and store.placement.default_root(number) == root.number:
                    try:
                        await refreshing.refresh(store, number)
                    except FileNotFoundError:
                        continue  # it went meanwhile, or vanished
            await trio.lowlevel.checkpoint()

    # -- some files -------------------------------------------------------------------------------------------------

    async def _empty_of(self, root: Driver, numbers: Sequence[InodeNo]) -> int:
        """Have these files leave a root as far as they can now; returns how many did."""
        store = self._store
        todo = dict.fromkeys(numbers)
        avoid: Avoid = {number: set() for number in numbers}
        gone, seen, moved_at = 0, -1, trio.current_time()
        try:
            while todo and self._wanted(root):
                steps = self.want(root, todo, avoid)
                left = await self._give_up(root, [number for number in todo if steps[number].needs is Needs.NOTHING])
                gone += left
                for number, step in steps.items():
                    if step.reason or step.needs is Needs.NOTHING:
                        todo.pop(number)
                done = sum(store.copied.get((number, each), 0) for number in todo for each in store.roots)
                if left or done != seen or any(step.root is not None for step in steps.values()):
                    seen, moved_at = done, trio.current_time()
                elif trio.current_time() > moved_at + PATIENCE_S:
                    break
                if todo and not left:
                    await trio.sleep(POLL_S)
        finally:
            if root.number not in store.drains:
                self.withdraw(root, todo, avoid, every=True)
        return gone

    def want(self, root: Driver, numbers: Iterable[InodeNo], avoid: Avoid) -> dict[InodeNo, Step]:
        """What each of these files needs to leave a root; that is begun: copies are wanted, moves queued.

        Args:
            avoid: roots that have refused a file in this pass, by file; added to.
        """
        store, progress = self._store, self._progress(root)
        self.withdraw(root, numbers, avoid)
        chooser, going = Chooser(store, store.drains[root.number].to), emptying.going_on(store)
        steps: dict[InodeNo, Step] = {}
        places = MOVES_AT_ONCE - len(going)
        batch = store.batch(grows=True)
        for number in numbers:
            inode = store.index.inode(number)
            if inode is None or not emptying.is_on(store, inode, root.number):
                steps[number] = Step(Needs.NOTHING)  # it is gone already
                continue
            try:
                step = emptying.step(store, inode, root, chooser, going, avoid[number])
            except Exception:  # a bug that one file meets must not hold up the others
                log.exception(A_BUG, inode=number, root=root.name)
                step = Step(Needs.HELP, reason=BUG)
            if step.needs is Needs.MOVE and places <= 0:
                step = Step(Needs.PATIENCE)
            steps[number] = step
            if step.needs is Needs.MOVE and step.root is not None:
                moving.begin_again(store, batch, inode, store.roots[step.root])
                places -= 1
            elif step.needs is Needs.COPY and step.root is not None:
                store.troubles.pop((number, step.root), None)
                replicating.add(store, batch, inode, step.root, source=root.number)
            elif step.reason:
                progress.hold(store.path(number) or b"", step.reason)
        if any(step.root is not None for step in steps.values()):
            store.index.apply(batch)
            store.on_move()
        return steps

    def withdraw(self, root: Driver, numbers: Iterable[InodeNo], avoid: Avoid, *, every: bool = False) -> None:
        """Want no copy any more where it is refused or the root has gone away; `every`: nowhere that is for `root`."""
        store = self._store
        batch, is_changed = store.batch(), False
        for number in numbers:
            inode = store.index.inode(number)
            for other, record in store.index.replicas(number) if inode is not None else []:
                refused = (number, other) in store.troubles or not store.roots[other].online or other in store.drains
                ours = record.state is ReplicaState.WANTED and record.version == 0 and record.source == root.number
                if inode is not None and ours and other != root.number and (refused or every):
                    avoid[number].add(other)
                    replicas.give_up(store, batch, inode, other)
                    is_changed = True
        if is_changed:
            store.index.apply(batch)

    async def _give_up(self, root: Driver, numbers: Sequence[InodeNo]) -> int:
        """`give_up`, several at the same time."""
        gone = 0
        turns = iter(numbers)
        faults: list[IndexFault] = []

        async def work() -> None:
            nonlocal gone
            try:
                gone += await self.give_up(root, turns)
            except IndexFault as fault:
                faults.append(fault)

        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(numbers))):
                nursery.start_soon(work)
        if faults:
            raise faults[0]
        return gone

    async def give_up(self, root: Driver, numbers: Iterator[InodeNo]) -> int:
        """Give up the copies on a root of files that have a good one elsewhere; returns how many went."""
        store, progress, gone = self._store, self._progress(root), 0
        for number in numbers:
            inode, drain = store.index.inode(number), store.drains.get(root.number)
            if drain is None:
                break
            if inode is None or not emptying.is_on(store, inode, root.number):
                progress.gone(number)
                continue
            path = store.path(number) or b""
            try:
                if not await emptying.is_whole(store, inode, root.number):
                    progress.hold(path, emptying.NOT_WHOLE)
                    continue
                await dropping.drop_file(store, number, root, force_last=False, owner=Owner(drain.uid, -1, drain.pid))
                progress.gone(number)
                gone += 1
            except InUse:
                progress.hold(path, OPEN_FOR_WRITING)
            except (OSError, FusestoreError) as error:
                if isinstance(error, IndexFault):
                    raise
                progress.hold(path, reason_of(error))
            except Exception:  # as above
                log.exception(A_BUG, inode=number, root=root.name)
                progress.hold(path, BUG)
        return gone

    # -- the end ----------------------------------------------------------------------------------------------------

    async def prove(self, root: Driver) -> None:
        """See that nothing is left on a root, in the index and on its disk, and record that it is empty."""
        store, progress = self._store, self._progress(root)
        news = progress.news
        # What has left is durable where it is, and the log that says so.
        await syncing.sync_all(store, [each for each in store.roots.values() if each.online])
        await discarding.carry_out_left(store, store.condemned.keys())
        await self.list_all(root)
        await emptying.remember(store, root)
        found = await remains.look_through(store, root)
        elsewhere = await emptying.elsewhere(store, root)
        left = await emptying.files_on(store, root.number)
        for path in found.hidden:
            progress.hold(path, emptying.HIDDEN)
        if self._wanted(root) and progress.news == news and not (found.files or found.hidden or left):
            draining.finish(store, root, f"{counted(elsewhere, 'file is', 'files are')} on other roots; {found}")
            await trio.to_thread.run_sync(store.index.sync_log)
