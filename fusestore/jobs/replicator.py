"""Has the replicas made that are due: those wanted, written over since, or found bad; each root at its own pace.

    became due a moment ago ─┐
    due in the index, a pass ┴─► directories: each file below them is due ─► files: `copyist`, in batches

A file that is being written is left until it has settled. What cannot be made now stays due and is tried again; why,
`Store.troubles` says. Nothing is kept here that matters: interrupted anywhere, it begins again from the index.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import structlog
import trio

from fusestore.errors import FusestoreError, IndexFault
from fusestore.jobs.copyist import Copyist
from fusestore.jobs.held import reason_of
from fusestore.model import InodeNo
from fusestore.service import keeping, refreshing, replicas, replicating, succeeding, walking
from fusestore.service.replicas import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fusestore.index.batch import Batch
    from fusestore.model import Inode, RootNo
    from fusestore.service.store import Store

log = structlog.get_logger()

PAGE: Final = 256  # files that share two syncs
BATCH_BYTES: Final = 64 << 20
RETRY_S: Final = 1.0  # before what could not be made is tried again, doubled up to
RETRY_MAX_S: Final = 60.0
LOOK_S: Final = 2.0  # between two looks whether a root has come back


class Replicator:
    """The only owner of copies that become replicas."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wake = trio.Event()
        self._fresh: dict[RootNo, dict[InodeNo, None]] = {}  # became due a moment ago
        self._busy: set[RootNo] = set()
        self._pass_at: dict[RootNo, float] = {}  # when to go through all that is due on a root again
        self._pause_s: dict[RootNo, float] = {}
        self._unreadable: dict[InodeNo, set[RootNo]] = {}  # where the bytes could not be read at the last try
        store.on_due = self.add

    def add(self, root: RootNo, number: InodeNo) -> None:
        """A copy is due, and may be made now."""
        self._fresh.setdefault(root, {})[number] = None
        self._wake.set()

    async def run(self) -> None:
        store = self._store
        keeping.begin(store)
        offline: set[RootNo] = set()
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                was_offline, offline = offline, {root.number for root in store.roots.values() if not root.online}
                for root in was_offline - offline:
                    self._pass_at.pop(root, None)
                    self._pass_at.pop(ANY, None)
                due = store.index.due_roots()
                for root in {*due, *self._fresh} - self._busy - offline:
                    if root in self._fresh or self._pass_at.get(root, 0) <= trio.current_time():
                        self._busy.add(root)
                        nursery.start_soon(self._serve, root)
                times = [at for root, at in self._pass_at.items() if root in due and root not in self._busy | offline]
                soon = trio.current_time() + (LOOK_S if offline else math.inf)
                with trio.move_on_at(min(soon, *times) if times else soon):
                    await self._wake.wait()

    async def _serve(self, root: RootNo) -> None:
        """Make what became due a moment ago, or go through all that is due on a root."""
        try:
            fresh = self._fresh.pop(root, None)
            if fresh is not None:
                await self.make(root, list(fresh))
                self._pass_at.setdefault(root, trio.current_time())
            else:
                made = await self.make_all(root)
                self._rest(root, RETRY_S if made else min(2 * self._pause_s.get(root, RETRY_S / 2), RETRY_MAX_S))
        except IndexFault as fault:
            log.debug("nothing can be recorded any more", error=str(fault))
            self._rest(root, math.inf)
        except (OSError, FusestoreError) as error:
            log.warning("replicas are not made for now", root=self._name(root), error=str(error))
            self._rest(root, RETRY_MAX_S)
        except Exception:  # a bug that one root's files meet must not hold up those of others
            log.exception("a bug while replicas are made", root=self._name(root))
            self._rest(root, RETRY_MAX_S)
        finally:
            self._busy.discard(root)
            self._wake.set()

    def _rest(self, root: RootNo, pause_s: float) -> None:
        self._pause_s[root] = pause_s
        self._pass_at[root] = trio.current_time() + pause_s

    def _name(self, root: RootNo) -> str:
        return self._store.roots[root].name if root != ANY else ""

    async def make_all(self, root: RootNo) -> int:
        """Go once through all that is due on a root; returns how many copies were made."""
        made, after = 0, InodeNo(0)
        while numbers := self._store.index.due(root, after, PAGE):
            after = numbers[-1]
            made += await self.make(root, numbers)
        return made

    async def make(self, root: RootNo, numbers: Sequence[InodeNo]) -> int:
        """Make the copies of these files that are due on a root, and of those below directories; returns how many."""
        if root == ANY:
            return await self._provide(numbers)
        made, target = 0, self._store.roots[root]
        copyist = Copyist(self._store, target, self._unreadable)
        try:
            for number in numbers:
                await trio.lowlevel.checkpoint()  # requests come first
                if not target.online:
                    break
                inode = self._store.index.inode(number)
                if inode is not None and inode.is_dir:
                    await self._want_below(root, inode)
                elif inode is not None and not await succeeding.acquit(self._store, number, root):
                    copyist.plan(inode)
                if copyist.planned_bytes >= BATCH_BYTES:
                    made += await copyist.make()
            return made + await copyist.make()
        finally:
            copyist.throw_away()

    # -- what is to be done -----------------------------------------------------------------------------------------

    async def _provide(self, numbers: Sequence[InodeNo]) -> int:
        """Choose roots for the copies that files lack, those below directories too; returns of how many."""
        store, provided = self._store, 0

        def provide(batch: Batch, inode: Inode) -> None:
            nonlocal provided
            provided += keeping.provide(store, batch, inode)

        for number in numbers:
            inode = store.index.inode(number)
            if inode is not None:
                await self._each_below(inode, ANY, provide)
            await trio.lowlevel.checkpoint()
        return provided

    async def _want_below(self, root: RootNo, top: Inode) -> None:
        """Have a copy of every file below a directory made."""

        def want(batch: Batch, inode: Inode) -> None:
            replicating.add(self._store, batch, inode, root)

        await self._each_below(top, root, want)

    async def _each_below(self, top: Inode, root: RootNo, do: Callable[[Batch, Inode], object]) -> None:
        """Do something for every file from `top` down; a directory is not due any more then, unless trouble came."""
        try:
            await self._do_below(top, root, do)
        except (OSError, FusestoreError) as error:
            if isinstance(error, IndexFault):
                raise
            replicas.hold_up(self._store, top.number, root, reason_of(error))

    async def _do_below(self, top: Inode, root: RootNo, do: Callable[[Batch, Inode], object]) -> None:
        store = self._store
        store.troubles.pop((top.number, root), None)
        batch = store.batch(grows=True)
        for position, inode in enumerate(walking.below(store, top.number), 1):
            if inode.is_dir or position % walking.PAGE == 0:
                store.index.apply(batch)
                batch = store.batch(grows=True)
                await trio.lowlevel.checkpoint()
            if inode.is_dir:
                await refreshing.refresh(store, inode.number)
            elif inode.is_regular and (now := store.index.inode(inode.number)) is not None:
                do(batch, now)
        if top.is_dir:
            batch.due(root, top.number, due=False)
        store.index.apply(batch)
