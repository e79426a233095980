"""Carries a handful of objects home: copy, sync, verify, switch, sync, release; each file by itself, the syncs for all.

    plan (loop) ─► stage (thread) ─► sync target ─► verify (thread) ─► arrive (loop) ─► sync target and log ─► release

Every step on the loop looks again whether the file is still the one that was planned; if not, its copy is thrown away
and the mover comes back to it. Trouble with one object is a value, `Held`, and no concern of the others. However it
ends, no copy is left in an incoming area.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING, NamedTuple

import structlog
import trio

from fusestore.core.moves import ANOTHER_MOVE, CHANGED, OPEN_FOR_WRITING
from fusestore.errors import Conflict, FusestoreError, NotFound
from fusestore.model import FileStamp, State
from fusestore.roots import content, copy
from fusestore.service import arriving, directories
from fusestore.service.discarding import carry_out
from fusestore.service.looking import see

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusestore.core.ports import Driver
    from fusestore.model import Inode, InodeNo, Move
    from fusestore.service.arriving import Discards
    from fusestore.service.places import At
    from fusestore.service.store import Store

log = structlog.get_logger()


class Held(NamedTuple):
    """Why an object did not arrive; tried again later."""

    number: InodeNo
    reason: str


class Load(NamedTuple):
    """One object on its way, as it was when it was planned."""

    number: InodeNo
    version: int
    staged: bytes  # name in the target's incoming area
    source: At | None  # None for what is only in the index
    stamp: FileStamp  # of the source, or of the record if that is all there is
    target: Driver
    size: int
    digest: bytes = b""


class Carrier:
    """Carries objects for one move, and counts what arrives in it.

    Args:
        claimed: what some carrier has in hand now, so that no two copy the same object.
    """

    def __init__(self, store: Store, move: Move, claimed: set[InodeNo]) -> None:
        self._store = store
        self._move = move
        self._claimed = claimed
        self._algorithm = store.config.hash.algorithm
        self._arrived_on: set[Driver] = set()  # roots whose new names are not durable yet

    async def bring(self, numbers: Sequence[InodeNo]) -> list[Held]:
        """Bring all of `numbers` (no directories) home as far as possible."""
        held = [Held(number, ANOTHER_MOVE) for number in numbers if number in self._claimed]
        # A hard link is listed under each of its names, and carried once.
        mine = [number for number in dict.fromkeys(numbers) if number not in self._claimed]
        self._claimed.update(mine)
        try:
            await self._bring(mine, held)
        finally:
            self._claimed.difference_update(mine)
        return held

    async def _bring(self, numbers: Sequence[InodeNo], held: list[Held]) -> None:
        loads: dict[InodeNo, Load] = {}  # with a copy, or the beginning of one, in the target's incoming area
        discards: Discards = []
        try:
            for number in numbers:
                try:
                    load = self._plan(number, held, discards)
                    if load is not None:
                        loads[number] = load
                        loads[number] = await self._stage(load)
                except (OSError, FusestoreError) as error:
                    held.append(_held(number, error))
                    if number in loads:
                        self._throw_away(loads.pop(number))
            await self._land(loads, held, discards)
        finally:
            for load in loads.values():
                self._throw_away(load)
        await self._release(discards)

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
        store.writable(target)
        names = store.index.parents(number)
        if len(names) > 1:  # it leaves directories that the walk may not have come to yet
            for parent, _ in names:
                directories.begin(store, parent)
        if not store.on_disk(inode, source.number) and not store.on_disk(inode, target.number):
            arriving.settle_in_index(store, self._move, inode)
            return None
        on_disks = store.on_disk(inode, source.number) and store.on_disk(inode, target.number)
        in_reach = source is target or (source.device == target.device and len(spots) == len(wanted) == 1)
        if on_disks and in_reach:
            self._rename_home(inode)
            return None
        if store.files.has_writer(number):
            store.awaited[number] = self._move.number
            held.append(Held(number, OPEN_FOR_WRITING))
            return None
        if not store.on_disk(inode, target.number):
            discards += arriving.settle_in_index(store, self._move, inode)
            return None
        inode, seen, _ = see(store, inode)  # a change from outside counts before it is copied
        at = store.places.at(spots[0], number) if store.on_disk(inode, source.number) else None
        stamp = arriving.stamp_of(seen) if seen is not None else FileStamp(0, 0, inode.ctime_ns)
        return Load(number, inode.version, inode.id.hex().encode(), at, stamp, target, stamp.size)

    def _rename_home(self, inode: Inode) -> None:
        """Come home by rename(2) and link(2): the file system is the same."""
        store = self._store
        self._arrived_on.add(store.roots[store.placement.home_spots(inode.number)[0].root])
        try:
            arriving.come_home(store, inode)
        except FileExistsError:
            raise Conflict(self._move.target, store.path(inode.number) or b"") from None
        self._move.files_done += 1
        self._move.bytes_done += inode.size

    async def _stage(self, load: Load) -> Load:
        """Make the copy in the target's incoming area."""
        store = self._store
        inode = store.inode(load.number)
        incoming = load.target.incoming()
        if load.source is None:
            self._make(inode, load.target, incoming, load.staged)
            return load
        driver, directory, name = load.source
        if not inode.is_regular:
            copy.copy_object(directory, name, incoming, load.staged, root=load.target.number)
            return load
        fd = driver.open(directory, name, write=False)
        try:
            done = 0
            promise = store.reserved[load.target.number].get(self._move.number)

            def progress(size: int) -> None:
                nonlocal done
                self._move.bytes_done += size - done
                done = size
                if promise is not None:
                    promise.left = max(load.size - size, 0)

            def work() -> copy.CopyResult:
                return copy.copy_file(
                    fd, incoming, load.staged, root=load.target.number, algorithm=self._algorithm, progress=progress
                )

            result = await trio.to_thread.run_sync(work, limiter=store.threads[load.target.number])
        finally:
            content.close(fd)
        return load._replace(digest=result.digest, size=result.size)

    def _make(self, inode: Inode, target: Driver, incoming: int, staged: bytes) -> None:
        """Make what was only in the index: a symlink or special file of an `id` root."""
        try:
            target.unlink(incoming, staged)
        except FileNotFoundError:
            pass
        if stat.S_ISLNK(inode.mode):
            target.symlink(incoming, staged, inode.target, inode.uid, inode.gid)
        else:
            target.mknod(incoming, staged, inode.mode, inode.rdev, inode.uid, inode.gid)
        target.utime(incoming, staged, inode.atime_ns, inode.mtime_ns)

    # -- the switch -------------------------------------------------------------------------------------------------

    async def _land(self, loads: dict[InodeNo, Load], held: list[Held], discards: Discards) -> None:
        """Switch to the copies that are good, and take them out of `loads`."""
        if not loads:
            return
        unsynced: dict[Driver, OSError | FusestoreError] = {}
        for target in {load.target for load in loads.values()}:
            try:
                await self._sync(target)
            except (OSError, FusestoreError) as error:
                unsynced[target] = error
        # A power cut must not take the rename back and leave the copy under its new name.
        await trio.to_thread.run_sync(self._store.index.sync_log)
        for load in list(loads.values()):
            try:
                if load.target in unsynced:
                    held.append(_held(load.number, unsynced[load.target]))
                elif load.digest and not await self._verify(load):
                    held.append(Held(load.number, "the copy does not read back as it was written"))
                elif (reason := self._changed(load)) is not None:
                    held.append(Held(load.number, reason))
                else:
                    discards += self._arrive(load)
                    del loads[load.number]
            except (OSError, FusestoreError) as error:
                held.append(_held(load.number, error))

    def _arrive(self, load: Load) -> Discards:
        store = self._store
        self._arrived_on.add(load.target)
        stamp = load.stamp if load.source is not None else None
        made = arriving.Copy(load.staged, self._algorithm, load.digest, stamp)
        discards = arriving.arrive(store, self._move, store.inode(load.number), made)
        self._move.files_done += 1
        return discards

    async def _verify(self, load: Load) -> bool:
        incoming = load.target.incoming()

        def work() -> bool:
            return copy.verify_file(incoming, load.staged, load.size, load.digest, self._algorithm)

        return await trio.to_thread.run_sync(work, limiter=self._store.threads[load.target.number])

    def _changed(self, load: Load) -> str | None:
        """Why a verified copy must not be used: the object is not the one any more that was planned."""
        store = self._store
        inode = store.index.inode(load.number)
        if inode is None:
            return "removed"
        home = store.placement.home_spots(load.number)
        if store.placement.is_home(load.number) or home[0].root != load.target.number:
            return "renamed"
        if store.files.has_writer(load.number):
            store.awaited[load.number] = self._move.number
            return OPEN_FOR_WRITING
        if inode.version != load.version:
            return CHANGED
        if load.source is None:
            now = FileStamp(0, 0, inode.ctime_ns)
        else:
            at = store.place(load.number)
            now = arriving.stamp_of(at.driver.stat(at.directory, at.name))
        if now != load.stamp:
            return CHANGED
        known = inode.current_hash if inode.hash_algorithm == self._algorithm else b""
        if known and load.digest and known != load.digest and inode.state is State.READY:
            return "the source does not match its recorded hash; nothing was changed"
        return None

    def _throw_away(self, load: Load) -> None:
        promise = self._store.reserved[load.target.number].get(self._move.number)
        if promise is not None:
            promise.left = load.size
        try:
            load.target.unlink(load.target.incoming(), load.staged)
        except FileNotFoundError:
            pass  # it had not begun, or it was left at its target by trouble after the switch
        except (OSError, FusestoreError) as error:
            log.debug("a staged copy stays", name=load.staged.decode(), error=str(error))

    # -- after the switch -------------------------------------------------------------------------------------------

    async def _release(self, discards: Discards) -> None:
        """Destroy the old bytes, once the new place is durable on the disk and in the index."""
        if not discards:
            return
        for target in self._arrived_on:
            await self._sync(target)
        self._arrived_on.clear()
        await trio.to_thread.run_sync(self._store.index.sync_log)
        carry_out(self._store, discards)

    async def _sync(self, root: Driver) -> None:
        await trio.to_thread.run_sync(root.sync, limiter=self._store.threads[root.number])


def _held(number: InodeNo, error: OSError | FusestoreError) -> Held:
    log.debug("an object met trouble", inode=number, exc_info=error)
    return Held(number, reason_of(error))


def reason_of(error: OSError | FusestoreError) -> str:
    """One phrase for an operator."""
    if isinstance(error, NotFound | FileNotFoundError):
        return CHANGED  # somebody took it away under our hands
    if isinstance(error, OSError):
        return "no room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"{error.strerror or error}"
    return str(error)
