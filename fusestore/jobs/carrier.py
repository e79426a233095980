"""Carries a handful of objects home: copy, sync, verify, switch, sync, release; each file by itself, the syncs for all.

    plan (loop) ─► stage (thread) ─► sync target ─► verify (thread) ─► arrive (loop) ─► sync target and log ─► release

Every step on the loop looks again whether the file is still the one that was planned; if not, its copy is thrown away
and the mover comes back to it. Trouble with one object is a value, `Held`, and no concern of the others.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING, NamedTuple

import structlog
import trio

from fusestore.core.moves import ANOTHER_MOVE, CHANGED, OPEN_FOR_WRITING
from fusestore.errors import Conflict, FusestoreError, NotFound, RootOffline
from fusestore.model import State
from fusestore.roots import content, copy
from fusestore.service import arriving, directories
from fusestore.service.discarding import carry_out
from fusestore.service.looking import see

if TYPE_CHECKING:
    import os
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
    stamp: tuple[int, int, int]  # size, mtime and ctime of the source: neither its bytes nor its attributes may change
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
        loads: list[Load] = []
        discards: Discards = []
        for number in numbers:
            try:
                load = self._plan(number, held, discards)
                if load is not None:
                    loads.append(await self._stage(load))
            except (OSError, FusestoreError) as error:
                log.debug("an object met trouble", inode=number, exc_info=error)
                held.append(Held(number, reason_of(error)))
        if loads:
            discards += await self._land(loads, held)
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
            store.awaited.add(number)
            held.append(Held(number, OPEN_FOR_WRITING))
            return None
        if not store.on_disk(inode, target.number):
            discards += arriving.settle_in_index(store, self._move, inode)
            return None
        inode, seen, _ = see(store, inode)  # a change from outside counts before it is copied
        at = store.places.at(spots[0], number) if store.on_disk(inode, source.number) else None
        stamp = _stamp(seen) if seen is not None else (0, 0, inode.ctime_ns)
        return Load(number, inode.version, inode.id.hex().encode(), at, stamp, target, stamp[0])

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

            def progress(size: int) -> None:
                nonlocal done
                self._move.bytes_done += size - done
                done = size

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

    async def _land(self, loads: list[Load], held: list[Held]) -> Discards:
        store = self._store
        discards: Discards = []
        for target in {load.target for load in loads}:
            try:
                await self._sync(target)
            except (OSError, FusestoreError) as error:
                held += [Held(load.number, reason_of(error)) for load in loads if load.target is target]
                loads = [load for load in loads if load.target is not target]
        for load in loads:
            try:
                if load.digest and not await self._verify(load):
                    held.append(Held(load.number, "the copy does not read back as it was written"))
                elif (reason := self._changed(load)) is not None:
                    held.append(Held(load.number, reason))
                else:
                    inode = store.inode(load.number)
                    self._arrived_on.add(load.target)
                    discards += arriving.arrive(store, self._move, inode, load.staged, self._algorithm, load.digest)
                    self._move.files_done += 1
                    continue
            except (OSError, FusestoreError) as error:
                held.append(Held(load.number, reason_of(error)))
            self._throw_away(load)
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
            store.awaited.add(load.number)
            return OPEN_FOR_WRITING
        if inode.version != load.version:
            return CHANGED
        if load.source is None:
            now = (0, 0, inode.ctime_ns)
        else:
            at = store.place(load.number)
            now = _stamp(at.driver.stat(at.directory, at.name))
        if now != load.stamp:
            return CHANGED
        known = inode.current_hash if inode.hash_algorithm == self._algorithm else b""
        if known and load.digest and known != load.digest and inode.state is State.READY:
            return "the source does not match its recorded hash; nothing was changed"
        return None

    def _throw_away(self, load: Load) -> None:
        try:
            load.target.unlink(load.target.incoming(), load.staged)
        except (OSError, RootOffline) as error:
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


def _stamp(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def reason_of(error: OSError | FusestoreError) -> str:
    """One phrase for an operator."""
    if isinstance(error, NotFound | FileNotFoundError):
        return CHANGED  # somebody took it away under our hands
    if isinstance(error, OSError):
        return "no room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"{error.strerror or error}"
    return str(error)
