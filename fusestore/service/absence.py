"""Roots that go away and come back while the daemon runs (decision 0009).

    online ── leave ──► offline: its tree lists from the index, what is open on it leads nowhere
       ▲ └─ release ──► released: the same of one that is drained, though its disk is there, until the drain is ended
       │                   │
       └── come_back ◄─────┘     claimed and opened again, whatever its device is now; what its going cut short is
                                 settled as after a crash, and open files are found again

Nothing is concluded from a root that is away: what is said of it is what was last seen.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

import structlog
import trio

from fusestore.errors import FusestoreError, RootUnavailable
from fusestore.model import MOUNT_ROOT, Absence, Cause, Layout, Operation, Outside
from fusestore.roots import content
from fusestore.service import doubting, draining, finalizing, recovery, refreshing
from fusestore.service.looking import fill, is_on_its_way

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import InodeNo, Kind, Owner
    from fusestore.service.openfiles import OpenFile
    from fusestore.service.store import Store

log = structlog.get_logger()

CHUNK: Final = 500  # inodes handled without letting other tasks run


def leave(store: Store, root: Driver, reason: str, *, answers: bool = True) -> None:
    """A root is not there: from now on it is offline. One that is already is so for this reason from now on.

    Args:
        answers: its disk does not hang, so that everything open on it can be given back; a disk that hangs may be all
            right in a moment, and closing what is open on it could hang with it.
    """
    known = store.absent.get(root.number)
    if answers and root.online:
        _remember(store, root)
    root.online = False
    if answers:
        let_go(store, root)
    else:
        store.places.forget_root(root)
    if known is not None and known.reason == reason:
        return
    log.warning("root is offline", root=root.name, reason=reason)
    store.absent[root.number] = Absence(time.time_ns(), reason) if known is None else known._replace(reason=reason)
    if known is None:
        tell(store, root, reason)
        store.on_retry(None)


def release(store: Store, root: Driver, owner: Owner) -> None:
    """Let go of the disk of a drained root, which can be unmounted from then on, and is not looked for.

    Only when somebody says so: until then directories on it can be made and removed, and what turns up there is seen.

    Raises:
        InvalidRequest: see `draining.release`.
    """
    if not draining.release(store, root, owner):
        return
    if root.online:
        _remember(store, root)
    root.online = False
    let_go(store, root)
    if not is_doubted(store, root):
        store.absent.pop(root.number, None)
    log.info("a drained root is let go of", root=root.name)


def is_doubted(store: Store, root: Driver) -> bool:
    """Whether an operator has to say what is true of a root."""
    known = store.absent.get(root.number)
    return known is not None and known.is_doubted


def let_go(store: Store, root: Driver) -> None:
    """Give back everything that is open on a root that is offline."""
    store.places.forget_root(root)
    if root.is_open:
        for file in store.files.on(root):
            file.lose()
        root.detach()


async def come_back(store: Store, root: Driver) -> None:
    """A root is there again; one that another store has taken meanwhile, or that is not as it should be, stays away."""
    if root.is_open:
        root.online = True
    else:
        try:
            root.reopen()
        except (OSError, RootUnavailable) as error:
            leave(store, root, str(error))
            return
        recovery.recover_root(store, root)
        for file in store.files.on(root):
            _find_again(store, file)
    store.absent.pop(root.number, None)
    log.warning("root is online again", root=root.name)
    tell(store, root, "")
    with contextlib.suppress(OSError, FusestoreError):  # one that is empty now is noticed before anybody builds on it
        await refreshing.refresh(store, doubting.top_of(store, root))
    finalizing.resume(store)
    store.on_retry(None)
    store.on_drain()
    await _renew_cached(store, root)


def tell(store: Store, root: Driver, reason: str) -> None:
    """Record that a root went, and why, or with an empty reason that it came."""
    batch = store.batch()
    top = store.inode(MOUNT_ROOT)
    kind: Kind = "root-offline" if reason else "root-online"
    store.event(batch, top, Operation.UPDATE, kind, path=b"", root=root.name, cause=Cause.OUTSIDE, detail=reason)
    try:
        store.index.apply(batch)
    except FusestoreError as error:
        log.warning("watchers are not told", root=root.name, kind=kind, error=str(error))


def _remember(store: Store, root: Driver) -> None:
    """Record the attributes of what is open on a root, which the disk alone knew.

    Those are the times of directories, and what is being written; what others may have written is for later to see.
    """
    batch = store.batch()
    written = [(file.number, file.fd) for file in store.files.on(root) if file.writing]
    tops = [
        (top, root.top) for top, number in store.tops.items() if number == root.number and root.layout is Layout.TREE
    ]
    for number, fd in [*tops, *store.places.opened_on(root), *written]:
        inode = store.index.inode(number)
        if inode is not None and not (inode.is_dir and is_on_its_way(store, number)):
            try:
                fill(inode, content.stat(fd), links=inode.is_dir)
            except OSError:
                continue
            batch.touch_inode(inode)
    try:
        store.index.apply(batch)
    except FusestoreError as fault:
        log.debug("what was last seen is not recorded", root=root.name, error=str(fault))


def _find_again(store: Store, file: OpenFile) -> None:
    """Open a file again for those who still hold it, if the very object is there; else they go on getting EIO.

    Who reads a replica goes on with whatever copy is there at the next read.
    """
    inode = store.index.inode(file.number)
    if file.replica:
        return
    try:
        at = store.place(file.number)
        fd = at.driver.open(at.directory, at.name, write=file.writable)
        seen = at.driver.backing_fd(fd)
    except (OSError, FusestoreError) as error:
        log.debug("an open file is not found again", inode=file.number, error=str(error))
        return
    known = inode.backing if inode is not None and at.driver is file.driver else None
    if known is not None and (known.st_ino, known.btime_ns) == (seen.st_ino, seen.btime_ns):
        file.find_again(fd)
    else:
        content.close(fd)


async def _renew_cached(store: Store, root: Driver) -> None:
    """Have the kernel ask again for attributes that it would believe for long; of others it asks every second."""
    if root.outside is Outside.WRITERS:
        return
    known: list[InodeNo] = list(store.lookups)
    for position, number in enumerate(known, 1):
        if store.index.inode(number) is not None and store.root_of(number) is root:
            store.on_stale(number)
        if position % CHUNK == 0:
            await trio.lowlevel.checkpoint()
