"""Listing a directory's disk: the names that it has and the index has not come in, those that it lost go.

What is made of each name is for `service.adopting` to say. Nothing is ever concluded from a root that is offline.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import trio

from fusestore.errors import IndexFault, IndexFull, NotFound, RootOffline
from fusestore.model import Cause, InodeNo, Layout, Operation, Outside, Spot, Stamp, counted
from fusestore.service import adopting, doubting
from fusestore.service.places import At

if TYPE_CHECKING:
    from fusestore.service.store import Store

CHUNK: Final = 500  # names handled without letting other tasks run
RACY_NS: Final = 20_000_000  # a ctime younger than this may not show a change that comes in the same clock tick


async def refresh(store: Store, directory: InodeNo, *, name_by_name: bool = False) -> None:
    """List a directory's disk if it may have names that the index does not know, and reconcile the two.

    Cheap when nothing can have changed: one fstat, and not even that where nobody else writes.

    Args:
        name_by_name: tell of each name also when it is listed for the first time, instead of how many there are.

    Raises:
        RootOffline: it was never listed, so that not even the index can tell; OSError as the disk says.
    """
    try:
        await _refresh(store, directory, name_by_name=name_by_name)
    except (IndexFull, IndexFault):
        pass  # no reason not to list what is known


async def _refresh(store: Store, directory: InodeNo, *, name_by_name: bool) -> None:
    root = store.placement.default_root(directory)
    if root is None or store.layouts[root] is Layout.ID:
        return  # its names are in the index alone
    stamp = store.index.stamp(directory)
    known = stamp is not None and stamp.root == root
    if known and store.roots[root].outside is not Outside.WRITERS:
        return
    try:
        driver, fd = store.places.directory(directory)
    except NotFound:
        return  # only the index can tell
    except RootOffline:
        if stamp is None:
            raise
        return
    ctime_ns = driver.stat_dir(fd).st_ctime_ns
    if known and stamp is not None and stamp.ctime_ns == ctime_ns:
        return
    found = set(driver.list(fd))
    unseen: set[bytes] = set()
    first = not known and not store.index.lost and not name_by_name
    had_names = store.index.has_dentries(directory)  # ours perhaps, made before it was ever listed
    adopted = await _adopt_all(store, directory, found, unseen, announce=not first)
    if had_names and not await _vanish_all(store, directory, found, unseen):
        return
    if had_names and adopted:
        # What was recognised under a new name has left its old one, where another object may lie by now.
        adopted += await _adopt_all(store, directory, found, unseen, announce=not first)
    if store.index.inode(directory) is None:
        return
    batch = store.batch()
    # The ctime of before the listing: whatever changes meanwhile, ours or not, has the next look list once more.
    trusted = ctime_ns if time.time_ns() - ctime_ns > RACY_NS and not unseen else 0
    if known or not unseen:
        batch.stamp(directory, Stamp(driver.number, trusted))
    if first and adopted:
        store.event(
            batch,
            store.inode(directory),
            Operation.UPDATE,
            "adopted",
            path=store.path(directory),
            root=driver.name,
            cause=Cause.ADOPT,
            detail=counted(adopted, "name"),
        )
    store.index.apply(batch)


async def _adopt_all(store: Store, directory: InodeNo, found: set[bytes], unseen: set[bytes], *, announce: bool) -> int:
    """Adopt every name of `found` that the index lacks; returns how many.

    One that its disk does not let us look at goes to `unseen`, and is no reason not to list the others.
    """
    adopted = 0
    batch = store.batch(grows=True)
    for position, name in enumerate(found, 1):
        if store.index.dentry(directory, name) is None:
            driver, fd = store.places.directory(directory)
            taken = None
            try:
                taken = adopting.adopt(store, batch, directory, At(driver, fd, name), announce=announce)
            except OSError:
                unseen.add(name)
            adopted += taken is not None
            if taken is not None and taken[1].st_nlink > 1:  # a second link in this very listing must find the first
                store.index.apply(batch)
                batch = store.batch(grows=True)
        if position % CHUNK == 0:
            if batch.inodes:
                store.index.apply(batch)
                batch = store.batch(grows=True)
            await trio.lowlevel.checkpoint()
    if batch.inodes:
        store.index.apply(batch)
    return adopted


async def _vanish_all(store: Store, directory: InodeNo, found: set[bytes], unseen: set[bytes]) -> bool:
    """Let go of every name that the index places in `directory` and neither the listing nor a second look shows.

    Returns:
        False if the root is doubted, because it would be most of it; nothing was changed then.
    """
    missing = [
        (spot, number)
        for spot, number in await _missing(store, directory, found, unseen)
        if store.index.dentry(directory, spot.name) == number  # nobody else has missed it meanwhile
    ]
    root = store.roots[missing[0][0].root] if missing else None
    try:
        if root is not None:
            doubting.check(store, root, [number for _, number in missing])
    except RootOffline:
        return False
    for position, (spot, number) in enumerate(missing, 1):
        if store.index.dentry(directory, spot.name) == number and _is_missing(store, spot, number, unseen):
            try:
                adopting.vanish(store, directory, spot.name, number)
            except (OSError, IndexFull):  # it stays, and there is no room to make it again
                unseen.add(spot.name)
        if position % CHUNK == 0:
            await trio.lowlevel.checkpoint()
    return True


async def _missing(
    store: Store, directory: InodeNo, found: set[bytes], unseen: set[bytes]
) -> list[tuple[Spot, InodeNo]]:
    missing = []
    after = b""
    while names := store.index.dentries(directory, after, CHUNK):
        after = names[-1][0]
        driver, _ = store.places.directory(directory)
        for name, number in names:
            spot = Spot(driver.number, directory, name)
            if name in found or spot not in store.placement.spots(number):
                continue
            if _is_missing(store, spot, number, unseen):
                missing.append((spot, number))
        await trio.lowlevel.checkpoint()
    return missing


def _is_missing(store: Store, spot: Spot, number: InodeNo, unseen: set[bytes]) -> bool:
    """Look once more; what the disk does not let us look at goes to `unseen`."""
    try:
        at = store.places.at(spot, number)
        at.driver.stat(at.directory, at.name)
    except FileNotFoundError:
        return True
    except OSError:
        unseen.add(spot.name)
    return False
