"""The trash of each root: bytes that no name leads to any more, kept for a while in `.fusestore/trash`.

    decided (an intent) ──► renamed into the trash, a row for it ──► time is over, or room is wanted ──► unlinked
                                                                └──► restored (`service.retrieving`)

The row is the decision to destroy, so no further one is needed. What lies there is no copy of anything: no file is read
from it, and its room counts as free, because whoever finds the disk full gets it (`make_room`).
"""

from __future__ import annotations

import errno
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
import trio
from msgspec.structs import replace

from fusestore.errors import FusestoreError
from fusestore.model import InodeNo, Trashed
from fusestore.roots import freeing, identity
from fusestore.service import restoring
from fusestore.service.places import At, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, Owner, Spot
    from fusestore.service.store import Store

log = structlog.get_logger()

MOVED: Final = "moved"
REMOVED: Final = "removed"
FOUND: Final = "found"
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
AT_LEAST_BYTES: Final = 64 << 20  # given up at once when room is wanted, so that the next write need not ask again
AT_ONCE: Final = 200  # destroyed in one go: the rest waits for the next look
SECOND_NS: Final = 1_000_000_000


def intended(store: Store, inode: Inode, spots: tuple[Spot, ...], why: str) -> Trashed | None:
    """What the trash will have of an inode whose bytes at `spots` go; None where they are to be destroyed at once."""
    if not spots or not inode.is_regular or inode.backing is None:
        return None
    root = store.roots[spots[0].root]
    spec = store.specs.get(root.name)
    if spec is None or not spec.trash_s or (why == REMOVED and not spec.trash_removed):
        return None
    now_ns = time.time_ns()
    return Trashed(
        root=root.number,
        name=b"%016x-%s" % (now_ns, inode.id.hex().encode()),
        inode=inode.number,
        id=inode.id,
        path=store.path(inode.number) or b"",
        backing=inode.backing,
        removed_ns=now_ns,
        until_ns=now_ns + spec.trash_s * SECOND_NS,
        why=why,
        size=inode.size,
    )


def put(store: Store, trashed: Trashed, places: Iterable[At]) -> bool:
    """See that the object is in the trash, by a rename of the first of `places` that holds it.

    Returns:
        whether it is; not if it is nowhere, or the disk has no room for the name.

    Raises:
        RootOffline; OSError as the disk says.
    """
    root = store.roots[trashed.root]
    if _holds(_at(store, trashed), trashed):
        return True  # brought there before a crash, which came before its further hard links were gone
    for at in places:
        if _holds(at, trashed):
            try:
                if identity.read(root, at.directory, at.name) is None:
                    label = identity.Label(trashed.id, trashed.inode, root.uuid, trashed.backing)
                    identity.write(root, at.directory, at.name, label)
                root.rename(at.directory, at.name, root.trash(), trashed.name, replace=False)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                return False  # it is not worth more than what wants the room
            return True
    return False


def record(store: Store, batch: Batch, trashed: Trashed) -> None:
    """Add to a batch what lies in the trash now, if it does and is not taken down already.

    Raises:
        RootOffline; OSError as the disk says.
    """
    at = _at(store, trashed)
    if _holds(at, trashed) and not store.index.is_in_trash(trashed):
        seen = at.driver.stat(at.directory, at.name)
        trashed = replace(trashed, size=seen.st_size, held_bytes=seen.st_blocks * 512)
        batch.trash(trashed)
        batch.then(partial(_count, store, trashed, 1))


def forget(store: Store, batch: Batch, trashed: Trashed) -> None:
    """Add to a batch that something is not in the trash any more."""
    batch.drop_trash(trashed)
    batch.then(partial(_count, store, trashed, -1))


def take_out(
    store: Store, batch: Batch, trashed: Trashed, made: Inode, path: bytes | None, owner: Owner | None
) -> None:
    """Add to a batch that something in the trash has become the new file `made`; both histories say so."""
    forget(store, batch, trashed)
    root = store.roots[trashed.root].name
    store.journal(batch, made, "restore", old=trashed.path, new=path or b"", old_root=root, owner=owner)
    was, how = replace(made, id=trashed.id), f"as {uuid.UUID(bytes=made.id)}"
    store.journal(batch, was, "restore", how, old=trashed.path, new=path or b"", owner=owner)
    batch.then(lambda: store.on_unsettled(made.number))


def _count(store: Store, trashed: Trashed, times: int) -> None:
    store.trashed[trashed.root] += times * trashed.held_bytes


def held_bytes(store: Store, root: Driver) -> int:
    """What the trashes on a root's file system would give up for whoever wants room there."""
    return sum(store.trashed[each.number] for each in _beside(store, root))


def _beside(store: Store, root: Driver) -> list[Driver]:
    """The roots on the same file system, whose trash can be emptied."""
    roots = store.roots.values()
    return [each for each in roots if each.device == root.device and each.online and not each.read_only]


def destroy(store: Store, trashed: Trashed) -> None:
    """End what lies in the trash, if it is still there, and its row.

    Raises:
        RootOffline, RootReadOnly; OSError as the disk says.
    """
    at = _at(store, trashed)
    if _holds(at, trashed):
        at.driver.unlink(at.directory, at.name)
    batch = store.batch()
    forget(store, batch, trashed)
    store.index.apply(batch)


def empty(store: Store, root: Driver, *, until_ns: int | None = None, limit: int = AT_ONCE) -> int:
    """Destroy what lies in a root's trash, or only what has had its time by `until_ns`; returns how many went.

    Raises:
        as for `destroy`.
    """
    gone = 0
    for trashed in _next(store, root, limit):
        if until_ns is not None and trashed.until_ns > until_ns:
            break
        destroy(store, trashed)
        gone += 1
    return gone


async def empty_due(store: Store, now_ns: int) -> None:
    """Destroy what has had its time, on every root that is there; a disk that refuses is asked again."""
    for root in store.roots.values():
        if root.online and not root.read_only:
            try:
                while empty(store, root, until_ns=now_ns) == AT_ONCE:
                    await trio.lowlevel.checkpoint()
            except (OSError, FusestoreError) as error:
                log.warning("what has had its time stays in the trash", root=root.name, error=str(error))


def make_room(store: Store, root: Driver, needed: int) -> bool:
    """Give up what lies in the trashes of a root's file system, the next to go first, until `needed` bytes are free.

    Blocks until the disk has them.

    Returns:
        whether anything became free: it is worth another try.
    """
    freed = _give_up(store, root, needed)
    return freeing.wait() or freed


def _give_up(store: Store, root: Driver, needed: int) -> bool:
    freed = 0
    for beside in _beside(store, root):
        while freed < max(needed, AT_LEAST_BYTES) and (oldest := _next(store, beside, 1)):
            try:
                destroy(store, oldest[0])
            except (OSError, FusestoreError) as error:
                log.warning("the trash cannot be emptied", root=beside.name, error=str(error))
                break
            freed += max(oldest[0].held_bytes, 1)
    if freed:
        log.info("the trash made room", root=root.name, bytes=freed)
    return freed > 0


async def make_room_soon(store: Store, root: Driver, needed: int) -> bool:
    """The same for whoever can wait: blocks nobody but the caller while the disk takes its time."""
    freed = _give_up(store, root, needed)
    waited = await trio.to_thread.run_sync(freeing.wait, limiter=store.threads[root.number])
    return waited or freed


def entries(store: Store, root: Driver) -> list[Trashed]:
    """All that lies in a root's trash, what goes next first."""
    return list(store.index.trash(root.number))


def _next(store: Store, root: Driver, limit: int) -> list[Trashed]:
    found: list[Trashed] = []
    for trashed in store.index.trash(root.number):
        if len(found) == limit:
            break
        found.append(trashed)
    return found


def look(store: Store, roots: Iterable[Driver], *, compare: bool) -> None:
    """Of roots that are there from now on: count what their trashes hold, and, if asked, compare them with their rows.

    What lies there without a row, because a power cut took one or the other back, gets a new one and waits its time
    again, unless it is an inode's after all: then that removal was taken back, and it goes back to its place. A row
    without a file goes.
    """
    for root in roots:
        rows = entries(store, root)
        store.trashed[root.number] = sum(trashed.held_bytes for trashed in rows)
        if not compare or not root.online or root.read_only:
            continue
        known = {trashed.name for trashed in rows}
        known |= {intent.trash.name for _, intent in store.condemned.of(store.condemned.keys()) if intent.trash}
        try:
            names = set(root.list(root.trash()))
            for trashed in [trashed for trashed in rows if trashed.name not in names]:
                destroy(store, trashed)
            for name in names - known:
                _take_in(store, root, name)
        except (OSError, FusestoreError) as error:
            log.warning("the trash cannot be looked at", root=root.name, error=str(error))


def _take_in(store: Store, root: Driver, name: bytes) -> None:
    """Give a file in the trash that nobody knows a row."""
    backing = root.backing(root.trash(), name)
    number = store.index.by_backing(backing)
    if number is not None:
        restoring.restore(store, number, backing, [At(root, root.trash(), name)])
        return
    label = identity.read(root, root.trash(), name)
    spec = store.specs.get(root.name)
    now_ns = time.time_ns()
    batch = store.batch()
    found = Trashed(
        root=root.number,
        name=name,
        inode=label.inode if label is not None else InodeNo(0),
        id=label.id if label is not None else bytes(16),
        path=b"",
        backing=backing,
        removed_ns=now_ns,
        until_ns=now_ns + (spec.trash_s if spec is not None else 0) * SECOND_NS,
        why=FOUND,
    )
    record(store, batch, found)
    store.index.apply(batch)


def _at(store: Store, trashed: Trashed) -> At:
    root = store.roots[trashed.root]
    return At(root, root.trash(), trashed.name)


def _holds(at: At, trashed: Trashed) -> bool:
    try:
        return is_object(at, trashed.backing)
    except (FileNotFoundError, NotADirectoryError):
        return False
