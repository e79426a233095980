"""Carries a handful of objects home: copy, sync, verify, switch, sync, release; each file by itself, the syncs for all.

    plan (loop) ─► stage (thread) ─► sync target ─► verify (thread) ─► arrive (loop) ─► sync target and log ─► release

Every step on the loop looks again whether the file is still the one that was planned; if not, its copy is thrown away
and the mover comes back to it. A file that was written here meanwhile, and may be written on, is followed: its copy is
brought up to it, and takes its place while its writers go on (`follower`). Trouble with one object is a value, `Held`,
and no concern of the others. However it ends, no copy is left in an incoming area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from fusestore.core.moves import ACTIVE, ANOTHER_MOVE, CHANGED, MISMATCH
from fusestore.errors import Conflict, FusestoreError, Stopped
from fusestore.jobs import counting, follower, staging
from fusestore.jobs.follower import Follower
from fusestore.jobs.held import Held, held_by
from fusestore.jobs.staging import Load
from fusestore.model import Cause, FileStamp, Outcome, State
from fusestore.service import arriving, directories, draining, keeping, room, soundness, succeeding, trash, verifying
from fusestore.service.breath import Breath
from fusestore.service.discarding import carry_out
from fusestore.service.looking import see
from fusestore.service.room import Shortage
from fusestore.service.syncing import sync, sync_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusestore.core.ports import Driver
    from fusestore.jobs.counting import Tally
    from fusestore.model import Inode, InodeNo, Move
    from fusestore.service.arriving import Discards
    from fusestore.service.room import Copying
    from fusestore.service.store import Store

RELEASED_AT_ONCE: Final = 16  # old files unlinked while requests wait


class Carrier:
    """Carries one handful of objects for a move.

    Args:
        tally: of the move, which counts what arrives.
        claimed: what some carrier has in hand now, so that no two copy the same object.
    """

    def __init__(self, store: Store, move: Move, tally: Tally, claimed: set[InodeNo]) -> None:
        self._store = store
        self._move = move
        self._tally = tally
        self._claimed = claimed
        self._algorithm = store.config.hash.algorithm
        self._arrived_on: set[Driver] = set()  # roots whose new names are not durable yet
        self._room: dict[InodeNo, Copying] = {}  # what the copies in hand have reserved

    async def bring(self, numbers: Sequence[InodeNo]) -> list[Held]:
        """Bring all of `numbers` (no directories) home as far as possible."""
        held = [Held(number, ANOTHER_MOVE) for number in numbers if number in self._claimed]
        # A hard link is listed under each of its names, and carried once.
        mine = [number for number in dict.fromkeys(numbers) if number not in self._claimed]
        self._claimed.update(mine)
        try:
            await self._bring(mine, held)
            for number in mine:
                keeping.look_again(self._store, number)  # there was no root for a copy, perhaps, but the one it left
        finally:
            self._claimed.difference_update(mine)
        return held

    async def _bring(self, numbers: Sequence[InodeNo], held: list[Held]) -> None:
        loads: dict[InodeNo, Load] = {}  # with a copy, or the beginning of one, in the target's incoming area
        discards: Discards = []
        try:
            breath = Breath()
            for number in numbers:
                await breath.take()
                try:
                    self._look()
                    discards += await succeeding.take_over(self._store, self._move, number)
                    load = self._plan(number, held, discards)
                    if load is None:
                        continue
                    shortage = await self._reserve(load)
                    if shortage is not None:
                        held.append(Held(number, shortage.reason, shortage))
                        continue
                    loads[number] = load
                    follower.begin(self._store, load)
                except (OSError, FusestoreError) as error:
                    self._give_up(number, error, loads, held)
            if loads:
                await self._stage(loads, held)
            for load in await self._land(loads, held, discards):
                await self._follow(load, loads, held, discards)
        finally:
            for load in loads.values():
                self._throw_away(load)
        await self._release(discards)

    def _give_up(
        self, number: InodeNo, error: OSError | FusestoreError, loads: dict[InodeNo, Load], held: list[Held]
    ) -> None:
        held.append(self._held(number, error))
        if number in loads:
            self._throw_away(loads.pop(number))

    # -- before the switch ------------------------------------------------------------------------------------------

    def _plan(self, number: InodeNo, held: list[Held], discards: Discards) -> Load | None:
        """Decide what has to be done for one object, and do what needs no copy."""
        store = self._store
        inode = store.index.inode(number)
        if inode is None or store.placement.is_home(number):
            return None
        spots, wanted = store.placement.spots(number), store.placement.home_spots(number)
        source, target = store.roots[spots[0].root], store.roots[wanted[0].root]
        if not (source.online and target.online):
            held.append(Held(number, f"root {(target if source.online else source).name} is offline"))
            return None
        draining.refuse(store, target)
        store.writable(target)
        names = store.index.parents(number)
        if len(names) > 1:  # it leaves directories that the walk may not have come to yet
            for parent, _ in names:
                directories.begin(store, parent)
        if not store.on_disk(inode, source.number) and not store.on_disk(inode, target.number):
            arriving.settle_in_index(store, self._move, inode)
            self._count_whole(inode)
            return None
        on_disks = store.on_disk(inode, source.number) and store.on_disk(inode, target.number)
        in_reach = source is target or (source.device == target.device and len(spots) == len(wanted) == 1)
        if on_disks and in_reach:
            self._rename_home(inode)
            return None
        if not store.on_disk(inode, target.number):
            discards += arriving.settle_in_index(store, self._move, inode)
            self._count_whole(inode)
            return None
        if inode.is_regular and arriving.is_blocked(store, inode):
            raise Conflict(target.name, store.path(number) or b"")
        inode, seen, _ = see(store, inode)  # a change from outside counts before it is copied
        if soundness.unsound(store, inode) is not None:
            held.append(Held(number, MISMATCH))
            return None
        at = store.places.at(spots[0], number) if store.on_disk(inode, source.number) else None
        stamp = FileStamp.of(seen) if seen is not None else FileStamp(0, 0, inode.ctime_ns)
        needs = room.written(seen) if seen is not None and inode.is_regular else 0
        return Load(number, inode.version, inode.id.hex().encode(), at, stamp, target, stamp.size, needs=needs)

    def _rename_home(self, inode: Inode) -> None:
        """Come home by rename(2) and link(2): the file system is the same."""
        store = self._store
        self._arrived_on.add(store.roots[store.placement.home_spots(inode.number)[0].root])
        try:
            arriving.come_home(store, inode)
        except FileExistsError:
            raise Conflict(self._move.target, store.path(inode.number) or b"") from None
        self._count_whole(inode)

    async def _reserve(self, load: Load) -> Shortage | None:
        """Reserve the room that a copy takes; returns what is missing."""
        store = self._store
        # A file may have been promised room by a move of its own, and be on its way with that of a directory.
        own = store.index.open_moves_of(load.number)
        move = own[0].number if own else self._move.number
        got = room.begin(store, move, load.target, load.needs)
        while isinstance(got, Shortage) and await trash.make_room_soon(store, load.target, load.needs):
            got = room.begin(store, move, load.target, load.needs)
        if isinstance(got, Shortage):
            return got
        self._room[load.number] = got
        return None

    async def _stage(self, loads: dict[InodeNo, Load], held: list[Held]) -> None:
        """Make the copies; what comes to nothing is taken out of `loads`."""
        store = self._store
        staged = await staging.stage(store, loads.values(), self._progress)
        refused = [loads[number] for number, made in staged.items() if _is_refused(made)]
        for load in refused:
            if await trash.make_room_soon(store, load.target, load.needs):
                staged |= await staging.stage(store, [load], self._progress)
        for number, made in staged.items():
            load = loads[number]
            if isinstance(made, Load):
                loads[number] = made
                self._room[number].left = 0  # the disk counts it
            else:
                self._give_up(number, made, loads, held)

    def _progress(self, load: Load, size: int) -> None:
        self._look()
        self._tally.copied(load.number, size)
        self._room[load.number].left = max(load.needs - size, 0)

    def _look(self) -> None:
        """A point where a move can stop; also called in threads.

        Raises:
            Stopped
        """
        if self._store.is_ending or self._move.state not in ACTIVE:
            raise Stopped

    def _count_whole(self, inode: Inode) -> None:
        """Count an object that arrived without a copy."""
        self._tally.arrived(inode.number, counting.size_now(self._store, inode))

    # -- the switch -------------------------------------------------------------------------------------------------

    async def _land(self, loads: dict[InodeNo, Load], held: list[Held], discards: Discards) -> list[Load]:
        """Switch to the copies that are good, and take them out of `loads`.

        Returns:
            the good copies of what was written here meanwhile.
        """
        written: list[Load] = []
        if not loads:
            return written
        unsynced: dict[Driver, OSError | FusestoreError] = {}
        for target in {load.target for load in loads.values()}:
            try:
                await sync(self._store, target)
            except (OSError, FusestoreError) as error:
                unsynced[target] = error
        # A power cut must not take the rename back and leave the copy under its new name.
        await trio.to_thread.run_sync(self._store.index.sync_log)
        synced = [load for load in loads.values() if load.target not in unsynced]
        held += [self._held(load.number, unsynced[load.target]) for load in loads.values() if load.target in unsynced]
        proven = await staging.verify(self._store, synced, self._look)
        breath = Breath()
        for number, good in proven.items():
            await breath.take()
            load = loads[number]
            try:
                if isinstance(good, OSError | FusestoreError):
                    held.append(self._held(number, good))
                elif not good:
                    held.append(Held(number, follower.READS_DIFFERENTLY))
                elif self._is_of_no_use(load):
                    continue
                elif not follower.is_still(self._store, load):
                    written.append(load)
                elif (reason := self._changed(load)) is not None:
                    held.append(Held(number, reason))
                else:
                    discards += self._arrive(load, load.stamp if load.source is not None else None)
                    del loads[number]
            except (OSError, FusestoreError) as error:
                held.append(self._held(number, error))
        return written

    async def _follow(self, load: Load, loads: dict[InodeNo, Load], held: list[Held], discards: Discards) -> None:
        """Bring a good copy up to a file that is written, and switch while its writers wait for nothing else."""
        try:
            with Follower(self._store, load) as copy:
                while not self._is_of_no_use(load):
                    if (reason := self._rotten(load)) is not None:
                        held.append(Held(load.number, reason))
                        return
                    self._look()
                    await copy.catch_up()
                    await copy.prove()
                    self._look()
                    await trio.to_thread.run_sync(self._store.index.sync_log)
                    async with copy.turn():
                        if not self._is_of_no_use(load) and (stamp := copy.finish()) is not None:
                            discards += self._arrive(load, stamp)
                            del loads[load.number]
                            return
        except (OSError, FusestoreError) as error:
            held.append(self._held(load.number, error))

    def _arrive(self, load: Load, stamp: FileStamp | None) -> Discards:
        store = self._store
        self._arrived_on.add(load.target)
        opened, following = store.files.get(load.number), store.files.followed.get(load.number)
        is_written = following is not None and following.was_written
        goes_on = opened is not None and opened.writing  # the version that was copied may become another yet
        digest = b"" if is_written or goes_on else load.digest
        made = arriving.Copy(load.staged, self._algorithm, digest, stamp)
        discards = arriving.arrive(store, self._move, store.inode(load.number), made)
        store.files.unfollow(load.number)
        room.end(store, self._room.pop(load.number), whole=True)
        self._tally.arrived(load.number, load.size)
        return discards

    def _is_of_no_use(self, load: Load) -> bool:
        """Whether the object does not belong any more where its copy was to go; that holds nobody up.

        Raises:
            RootDrained: nothing may go there any more.
        """
        store = self._store
        draining.refuse(store, load.target)
        if store.index.inode(load.number) is None or store.placement.is_home(load.number):
            return True
        return store.placement.home_spots(load.number)[0].root != load.target.number

    def _changed(self, load: Load) -> str | None:
        """Why a verified copy must not be used: the object is not the one any more that was planned."""
        store = self._store
        inode = store.inode(load.number)
        if inode.version != load.version:
            return CHANGED
        if load.source is None:
            now = FileStamp(0, 0, inode.ctime_ns)
        else:
            at = store.place(load.number)
            now = FileStamp.of(at.driver.stat(at.directory, at.name))
        if now != load.stamp:
            return CHANGED
        return self._rotten(load)

    def _rotten(self, load: Load) -> str | None:
        """Why a good copy of what the disk has must not be used: its bytes are not those that were recorded."""
        store = self._store
        following = store.files.followed.get(load.number)
        if following is not None and following.was_written:
            return None  # what was copied first is not the content any more that the record speaks of
        inode = store.inode(load.number)
        known = inode.current_hash if inode.hash_algorithm == self._algorithm else b""
        unchanged = (inode.state, inode.version) == (State.READY, load.version)
        if known and load.digest and known != load.digest and unchanged:
            batch = store.batch()
            verifying.record(store, batch, verifying.Finding(inode, Outcome.DAMAGED, load.digest), cause=Cause.MOVE)
            store.index.apply(batch)
            return MISMATCH
        return None

    def _throw_away(self, load: Load) -> None:
        self._tally.copied(load.number, 0)
        self._store.files.unfollow(load.number)
        staging.throw_away(load)
        room.end(self._store, self._room.pop(load.number), whole=False)

    def _held(self, number: InodeNo, error: OSError | FusestoreError) -> Held:
        return held_by(self._store, number, error, self._room.get(number))

    # -- after the switch -------------------------------------------------------------------------------------------

    async def _release(self, discards: Discards) -> None:
        """Destroy the old bytes, once the new place is durable on the disk and in the index."""
        if not discards:
            return
        await sync_all(self._store, self._arrived_on)  # no power cut can take back what has arrived
        breath = Breath()
        for start in range(0, len(discards), RELEASED_AT_ONCE):
            carry_out(self._store, discards[start : start + RELEASED_AT_ONCE])
            await breath.take()


def _is_refused(made: Load | staging.Trouble) -> bool:
    """Whether a disk had no room for a copy."""
    return isinstance(made, OSError) and made.errno in trash.NO_ROOM
