"""The directory of a name: made ready on a disk before something goes there, and its times when something has."""

from __future__ import annotations

import contextlib
import stat
import time
from typing import TYPE_CHECKING

from fusestore.core.intents import Skeleton
from fusestore.errors import Conflict, NotFound, RootOffline
from fusestore.model import Layout, Spot
from fusestore.roots import identity
from fusestore.service import ghosts
from fusestore.service.deciding import Decided
from fusestore.service.looking import is_on_its_way, see
from fusestore.service.places import At

if TYPE_CHECKING:
    from fusestore.index.batch import Batch
    from fusestore.model import InodeNo, RootNo
    from fusestore.service.store import Store


def touch_parent(store: Store, batch: Batch, parent: InodeNo, *, links: int) -> None:
    """Times and link count of a directory whose authority is the index; a disk keeps its own.

    So does a directory on its way, but for its times.
    """
    root = store.placement.default_root(parent)
    if root is None:
        return
    if store.layouts[root] is Layout.TREE:
        if not is_on_its_way(store, parent):
            return
        links = 0
    inode = store.inode(parent)
    inode.mtime_ns = inode.ctime_ns = time.time_ns()
    inode.nlink += links
    batch.touch_inode(inode)


def touch_on_disk(store: Store, directory: InodeNo) -> None:
    """Renew the times of a directory of which a disk is the authority, for a name that came or went in the index alone.

    Programs that watch its times must notice, and the disk does only when the object itself comes or goes.
    """
    with contextlib.suppress(OSError, NotFound, RootOffline):
        driver, fd = store.places.directory(directory)
        if driver.layout is Layout.TREE and not is_on_its_way(store, directory):
            driver.utime(fd, b".", driver.stat_dir(fd).st_atime_ns, time.time_ns())


def prepare(store: Store, spot: Spot, number: InodeNo, id: bytes) -> At:
    """Make `spot` usable: a ghost there steps aside, missing directories on the way are made.

    Raises:
        RootOffline; OSError as the disk says.
    """
    driver = store.roots[spot.root]
    if not driver.online:
        raise RootOffline(driver.name)
    if spot.by_id:
        return At(driver, *driver.id_area(id))
    ghosts.step_aside(store, spot)
    return At(driver, ensure_directory(store, spot.directory, spot.root), spot.name)


def ensure_directory(store: Store, directory: InodeNo, root: RootNo) -> int:
    """The descriptor of `directory` on `root`, made there first if it is on its way and has not got there.

    One that was recorded there, and that its disk has lost since, is made again in the same place.

    Raises:
        Conflict: something unknown has its place on the disk.
    """
    try:
        return store.places.directory(directory, root)[1]
    except (NotFound, FileNotFoundError):
        pass
    inode = store.inode(directory)
    parent, name = store.index.parents(directory)[0]
    lost = store.index.skeleton(directory, root)
    spot = lost or Spot(root, parent, name)
    if lost is not None and not lost.by_id:
        at = At(store.roots[root], ensure_directory(store, lost.directory, root), lost.name)
    else:
        at = prepare(store, spot, directory, inode.id)
    try:
        with Decided(store, Skeleton(directory, spot), grows=True) as key:
            # Owner and mode are the directory's own from the start: what arrives early must not be open to others.
            at.driver.mkdir(at.directory, at.name, stat.S_IMODE(inode.mode), inode.uid, inode.gid)
    except FileExistsError:
        raise Conflict(at.driver.name, store.path(directory) or name) from None
    settle_skeleton(store, spot, directory, key)
    return store.places.directory(directory, root)[1]


def settle_skeleton(store: Store, spot: Spot, directory: InodeNo, key: int | None = None) -> None:
    """Record that a directory on its way has a place on its target root.

    From here on its content is taken out of the old directory and put into the new one, which changes the times of
    both: the record keeps what they were.
    """
    batch = store.batch(grows=key is None)
    if key is not None:
        batch.settle(key)
    inode = see(store, store.inode(directory)).inode
    root = store.roots[spot.root]
    if root.layout is Layout.TREE:  # whose place it is, should the index be lost
        at = store.places.at(spot, directory)
        label = identity.Label(inode.id, directory, root.uuid, root.backing(at.directory, at.name))
        identity.write(root, at.directory, at.name, label)
    batch.put_inode(inode)
    if store.placement.realization(directory, spot.root) is None:
        batch.skeleton(directory, spot)
    store.index.apply(batch)
