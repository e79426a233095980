"""Copies files to one root as replicas: each by itself, the syncs for all.

    plan (loop) ─► stage (threads) ─► sync target and log ─► verify (threads) ─► put in place (loop)

Every step on the loop looks again whether the file is still as it was planned. However it ends, no copy is left in the
incoming area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from fusestore.core.moves import BUG, CHANGED, NO_ROOM
from fusestore.errors import FusestoreError, IndexFault, RootOffline
from fusestore.jobs import staging
from fusestore.jobs.held import reason_of
from fusestore.jobs.staging import Load
from fusestore.model import FileStamp, ReplicaState, State
from fusestore.service import draining, moving, replicas, replicating, room
from fusestore.service.breath import Breath
from fusestore.service.discarding import carry_out
from fusestore.service.looking import see
from fusestore.service.replicas import ANY
from fusestore.service.replicating import Made
from fusestore.service.syncing import sync

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import Inode, InodeNo, RootNo
    from fusestore.service.places import At
    from fusestore.service.store import Store

log = structlog.get_logger()

A_BUG: Final = "a bug while a copy is made"  # in the log
NO_MATCH: Final = "the source does not match its recorded hash; nothing was copied"
NOT_WRITTEN: Final = "the copy does not read back as it was written"


class Copyist:
    """Makes replicas on one root.

    Args:
        unreadable: where the bytes of a file could not be read at the last try.
    """

    def __init__(self, store: Store, target: Driver, unreadable: dict[InodeNo, set[RootNo]]) -> None:
        self._store = store
        self._target = target
        self._unreadable = unreadable
        self._loads: dict[InodeNo, Load] = {}  # with a copy, or the beginning of one, in the target's incoming area

    @property
    def planned_bytes(self) -> int:
        return sum(load.size for load in self._loads.values())

    # -- the copy ---------------------------------------------------------------------------------------------------

    def plan(self, inode: Inode) -> None:
        """Have one file copied by `make`, if that is what it needs and the time has come."""
        number = inode.number
        try:
            load = self._plan(inode)
        except (OSError, FusestoreError) as error:
            self._held(number, error)
            return
        except Exception:  # a bug that one file meets must not hold up the others
            log.exception(A_BUG, inode=number, root=self._target.name)
            replicas.hold_up(self._store, number, self._target.number, BUG)
            return
        if load is not None:
            self._store.copied[number, self._target.number] = 0
            self._loads[number] = load

    def _progress(self, load: Load, size: int) -> None:
        self._store.copied[load.number, self._target.number] = size

    def _plan(self, inode: Inode) -> Load | None:
        store, target, number, root = self._store, self._target, inode.number, self._target.number
        record = store.index.replica(number, root)
        if record is None or record.state is ReplicaState.CURRENT:
            return None
        if root in replicas.roots_of(store, number):
            if moving.open_above(store, number) is None:  # else it may leave this root, or come to it
                self._give_up(inode)
            return None
        if store.files.has_writer(number) or inode.state is State.WRITING or number in store.suspects:
            return None
        store.writable(target)
        inode, source = self._source(inode, record.source)
        if source is None:
            return None
        seen = source.driver.stat(source.directory, source.name)
        stamp, needs = FileStamp.of(seen), room.written(seen)
        if needs + sum(load.needs for load in self._loads.values()) > room.free(store, target, promised=False):
            replicas.hold_up(store, number, root, NO_ROOM)
            return None
        staged = inode.id.hex().encode() + b".replica"
        return Load(number, inode.version, staged, source, stamp, target, stamp.size, needs=needs)

    def _source(self, inode: Inode, chosen: RootNo) -> tuple[Inode, At | None]:
        """Where the content is read: the chosen replica, the file's place, or else any replica."""
        store, number = self._store, inode.number
        avoided = self._unreadable.pop(number, set())
        spots = store.placement.spots(number)
        if not spots:
            return inode, None  # it vanished from its disk: its replicas are kept as they are
        by_root = dict(replicas.readable(store, inode)) if chosen != ANY else {}
        if chosen in by_root and chosen not in avoided:
            return inode, by_root[chosen]
        if store.roots[spots[0].root].online and spots[0].root not in avoided:
            inode = see(store, inode).inode  # a change from outside counts before it is copied
            return inode, store.places.at(spots[0], number)
        for root, at in replicas.readable(store, inode):
            if root not in avoided:
                return inode, at
        return inode, store.place(number)

    def _give_up(self, inode: Inode) -> None:
        batch = self._store.batch()
        discards = replicas.give_up(self._store, batch, inode, self._target.number)
        self._store.index.apply(batch)
        carry_out(self._store, discards)

    # -- it takes its place -----------------------------------------------------------------------------------------

    async def make(self) -> int:
        """Copy what was planned, put the copies that are good in their places, and end the others.

        Returns:
            how many were good.
        """
        if not self._loads:
            return 0
        await self._stage()
        return await self._land()

    async def _stage(self) -> None:
        for number, made in (await staging.stage(self._store, self._loads.values(), self._progress)).items():
            if isinstance(made, Load):
                self._loads[number] = made
                continue
            source = self._loads[number].source
            if source is not None:
                self._unreadable.setdefault(number, set()).add(source.driver.number)
            self._held(number, made)
            self._end(number)

    async def _land(self) -> int:
        store, made = self._store, 0
        try:
            await sync(store, self._target)
            # A power cut must not leave a copy that nobody wants any more, or not yet.
            await trio.to_thread.run_sync(store.index.sync_log)
        except (OSError, RootOffline) as error:
            for number in list(self._loads):
                self._held(number, error)
            self.throw_away()
        proven = await staging.verify(store, self._loads.values())
        breath = Breath()
        for number, good in proven.items():
            await breath.take()
            load = self._loads[number]
            try:
                if isinstance(good, OSError | FusestoreError):
                    raise good
                reason = self._refused(load) if good else NOT_WRITTEN
                if reason is None:
                    self._put_in_place(load)
                    made += 1
                elif reason:
                    replicas.hold_up(store, number, self._target.number, reason)
            except (OSError, FusestoreError) as error:
                self._held(number, error)
            except Exception:  # as above
                log.exception(A_BUG, inode=number, root=self._target.name)
                replicas.hold_up(store, number, self._target.number, BUG)
            self._end(number)
        return made

    def _refused(self, load: Load) -> str | None:
        """Why a verified copy must not be used; "" when it is not wanted any more, or not yet."""
        store, number, root = self._store, load.number, self._target.number
        inode, record = store.index.inode(number), store.index.replica(number, root)
        if inode is None or record is None or load.source is None or root in replicas.roots_of(store, number):
            return ""
        draining.refuse(store, self._target)  # nothing may land any more
        if store.files.has_writer(number) or inode.version != load.version:
            return ""
        source = replicas.at_root(store, inode, load.source.driver.number)
        if FileStamp.of(source.driver.stat(source.directory, source.name)) != load.stamp:
            store.on_due(root, number)
            return ""
        known = inode.current_hash if inode.hash_algorithm == store.config.hash.algorithm else b""
        return NO_MATCH if known and known != load.digest else None

    def _put_in_place(self, load: Load) -> None:
        store, root = self._store, self._target.number
        made = Made(root, load.staged, load.version, load.size, store.config.hash.algorithm, load.digest)
        replicating.put_in_place(store, store.inode(load.number), made)
        store.troubles.pop((load.number, root), None)

    # -- it does not ------------------------------------------------------------------------------------------------

    def throw_away(self) -> None:
        """Leave nothing of any copy in the incoming area."""
        for number in list(self._loads):
            self._end(number)

    def _end(self, number: InodeNo) -> None:
        self._store.copied.pop((number, self._target.number), None)
        load = self._loads.pop(number, None)
        if load is not None:
            staging.throw_away(load)

    def _held(self, number: InodeNo, error: OSError | FusestoreError) -> None:
        """Remember why a copy is not made, if that will not pass by itself.

        Raises:
            IndexFault: it was that.
        """
        if isinstance(error, IndexFault):
            raise error
        reason = reason_of(error)
        if reason != CHANGED and self._target.online and not self._store.is_ending:
            replicas.hold_up(self._store, number, self._target.number, reason)
