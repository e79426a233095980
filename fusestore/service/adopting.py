"""Taking over what the disk shows and the index does not know, and letting go of what is no longer there.

An object is known again by (root, st_ino, birth time): a name that vanished here and turned up there is a rename
outside and keeps its id; what is gone for good keeps its row for a day, in case it turns up elsewhere (decision 0009).
Nothing is ever concluded from a root that is offline.
"""

from __future__ import annotations

import stat as stat_module
import time
from typing import TYPE_CHECKING, Final

import trio
from uuid_utils import uuid7

from fusestore.core.reconcile import Verdict, compare
from fusestore.errors import Gone, NotFound, RootOffline
from fusestore.model import (
    CONTROL_NAME,
    NAME_MAX,
    Backing,
    Cause,
    Inode,
    InodeNo,
    Layout,
    Operation,
    Outside,
    Spot,
    Stamp,
    State,
)
from fusestore.roots import identity
from fusestore.service.places import At, is_object

if TYPE_CHECKING:
    import os

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.service.store import Store

CHUNK: Final = 500  # names handled without letting other tasks run
RACY_NS: Final = 20_000_000  # a ctime younger than this may not show a change that comes in the same clock tick


def adopt_name(store: Store, parent: InodeNo, at: At) -> tuple[Inode, os.stat_result]:
    """Take over one name that the disk has and the index has not.

    Raises:
        NotFound: the disk has no such name, or it is not for the mount (a ghost, the marker, another device).
    """
    batch = store.batch(grows=True)
    adopted = _adopt(store, batch, parent, at, announce=True)
    if adopted is None:
        raise NotFound(at.name)
    store.index.apply(batch)
    return adopted


def _adopt(
    store: Store, batch: Batch, parent: InodeNo, at: At, *, announce: bool
) -> tuple[Inode, os.stat_result] | None:
    driver, directory, name = at
    if len(name) > NAME_MAX or (name == CONTROL_NAME and parent in store.tops):
        return None
    spot = Spot(driver.number, parent, name)
    if spot in store.condemned or store.index.occupant(spot) is not None:
        return None
    try:
        stat = driver.stat(directory, name)
        if stat.st_dev != driver.device:
            return None
        backing = driver.backing(directory, name)
    except FileNotFoundError:
        return None
    known = _known(store, driver, backing)
    if known is not None:
        return _recognise(store, batch, parent, at, known, stat, backing)
    inode = Inode(
        number=store.index.new_inode(),
        id=_travelled_id(store, at, backing) or uuid7().bytes,
        mode=stat.st_mode,
        uid=stat.st_uid,
        gid=stat.st_gid,
        rdev=stat.st_rdev,
        size=stat.st_size,
        nlink=stat.st_nlink,
        atime_ns=stat.st_atime_ns,
        mtime_ns=stat.st_mtime_ns,
        ctime_ns=stat.st_ctime_ns,
        created_ns=time.time_ns(),
        target=driver.readlink(directory, name) if stat_module.S_ISLNK(stat.st_mode) else b"",
        backing=backing,
    )
    batch.put_inode(inode)
    batch.link(parent, name, inode.number)
    if store.placement.default_root(parent) != driver.number:
        batch.place(inode.number, (spot,), None)
    if announce:
        store.event(
            batch,
            inode,
            Operation.INSERT,
            "adopted",
            path=store.join(parent, name),
            root=driver.name,
            cause=Cause.ADOPT,
        )
    return inode, stat


def _known(store: Store, driver: Driver, backing: Backing) -> Inode | None:
    """The inode that this disk object carries, registered on this root or on another of the same file system."""
    number = store.index.by_backing(backing)
    if number is not None:
        return store.inode(number)
    for root in store.roots.values():
        if root.device != driver.device or root is driver:
            continue
        number = store.index.by_backing(Backing(root.number, backing.st_ino, backing.btime_ns))
        if number is None or any(_still_there(store, spot, number, backing) for spot in store.placement.spots(number)):
            continue  # linked into two roots outside: two inodes, because a hard link cannot join roots here
        return store.inode(number)
    return None


def _travelled_id(store: Store, at: At, backing: Backing) -> bytes | None:
    """The id that the object brought along in its xattr, unless that was copied from another object or is in use."""
    label = identity.read(at.driver, at.directory, at.name)
    if label is None or not label.belongs_to(backing, at.driver.uuid) or store.index.by_id(label.id) is not None:
        return None
    return label.id


def _recognise(
    store: Store, batch: Batch, parent: InodeNo, at: At, inode: Inode, stat: os.stat_result, backing: Backing
) -> tuple[Inode, os.stat_result]:
    """A disk object that the index knows under another name: a further hard link, or a rename behind our back."""
    number = inode.number
    names = store.index.parents(number)
    row = store.index.placement(number)
    here = Spot(at.driver.number, parent, at.name)
    old_path = store.path(number)
    stays: list[tuple[InodeNo, bytes]] = []
    for name in names:
        if row is None and not _still_there(store, Spot(at.driver.number, *name), number, backing):
            batch.unlink(*name, number)
        else:
            stays.append(name)
    names_after = [*stays, (parent, at.name)]
    batch.link(parent, at.name, number)
    gone_at = store.index.vanished_at(number)
    if gone_at is not None:
        batch.unvanish(number, gone_at)
    spots = tuple(spot for spot in row or () if _still_there(store, spot, number, backing))
    batch.place(number, store.placement.row_for((*spots, here), names_after) if row else None, row)
    inode.backing = backing
    inode.nlink = stat.st_nlink
    batch.put_inode(inode)
    renamed = len(stays) < len(names) or not names
    if inode.is_dir:
        store.directory_changed(number)
    store.event(
        batch,
        inode,
        Operation.MOVE if renamed else Operation.INSERT,
        "renamed" if renamed else "linked",
        path=store.join(parent, at.name),
        root=at.driver.name,
        old_path=old_path or b"",
        cause=Cause.OUTSIDE,
    )
    new_path = store.join(parent, at.name) or b""
    store.journal(batch, inode, "rename" if renamed else "link", "outside", old=old_path or b"", new=new_path)
    return inode, stat


def _still_there(store: Store, spot: Spot, number: InodeNo, backing: Backing) -> bool:
    try:
        at = store.places.at(spot, number)
        return is_object(at, backing)
    except (FileNotFoundError, NotADirectoryError, NotFound):
        return False


def vanish(store: Store, parent: InodeNo, name: bytes, number: InodeNo) -> None:
    """A name is gone from its disk: somebody removed or renamed it behind our back."""
    inode = store.inode(number)
    batch = store.batch()
    _vanish(store, batch, parent, name, inode)
    store.index.apply(batch)


def _vanish(store: Store, batch: Batch, parent: InodeNo, name: bytes, inode: Inode) -> None:
    number = inode.number
    path = store.join(parent, name)
    batch.unlink(parent, name, number)
    if len(store.index.parents(number)) == 1:
        batch.vanish(number, time.time_ns())
        row = store.index.placement(number)
        if row is not None:
            batch.place(number, None, row)
    if inode.is_dir:
        store.directory_changed(number)
    driver = store.root_of(parent)
    store.event(
        batch,
        inode,
        Operation.REMOVE,
        "vanished",
        path=path,
        root=driver.name if driver else "",
        cause=Cause.OUTSIDE,
    )
    store.journal(batch, inode, "vanish", old=path or b"")


def reconcile(store: Store, parent: InodeNo, name: bytes, inode: Inode, at: At, stat: os.stat_result) -> Inode:
    """Bring a record up to what the disk shows under its name.

    Returns:
        the inode that the name leads to now: the same, or another if the object was replaced.
    """
    backing = at.driver.backing(at.directory, at.name)
    links = store.index.placement(inode.number) is None
    verdict = compare(inode, stat, backing.btime_ns, links=links)
    if verdict is Verdict.REPLACED:
        return _replace(store, parent, name, inode, at)
    if verdict is Verdict.SAME:
        return inode
    batch = store.batch()
    inode.mode, inode.uid, inode.gid = stat.st_mode, stat.st_uid, stat.st_gid
    inode.size = stat.st_size
    if links:
        inode.nlink = stat.st_nlink
    inode.mtime_ns, inode.ctime_ns = stat.st_mtime_ns, stat.st_ctime_ns
    if verdict is Verdict.CONTENT:
        inode.version += 1
    batch.put_inode(inode)
    if verdict is not Verdict.SUSPECT:
        store.event(
            batch,
            inode,
            Operation.UPDATE,
            "changed" if verdict is Verdict.CONTENT else "attributes",
            path=store.join(parent, name),
            root=at.driver.name,
            cause=Cause.OUTSIDE,
        )
    if verdict is Verdict.CONTENT:
        store.journal(batch, inode, "change", "outside", new=store.join(parent, name) or b"")
    store.index.apply(batch)
    if inode.is_regular and verdict is Verdict.SUSPECT and inode.current_hash:
        store.suspects.add(inode.number)
        store.on_unsettled(inode.number)
    elif verdict is Verdict.CONTENT:
        store.on_unsettled(inode.number)
    return inode


def _replace(store: Store, parent: InodeNo, name: bytes, inode: Inode, at: At) -> Inode:
    if Spot(at.driver.number, parent, name) not in store.placement.spots(inode.number):
        vanish_missing(store, inode, at.driver)  # a ghost: who lies there now belongs to another directory
        raise Gone(inode.number)
    vanish(store, parent, name, inode.number)
    return adopt_name(store, parent, at)[0]


def vanish_missing(store: Store, inode: Inode, driver: Driver) -> None:
    """The disk object of an inode is not where it was: those of its names go that do not lead to it any more."""
    for parent, name in store.index.parents(inode.number):
        spot = Spot(driver.number, parent, name)
        if inode.backing is None or not _still_there(store, spot, inode.number, inode.backing):
            vanish(store, parent, name, inode.number)


async def refresh(store: Store, directory: InodeNo) -> None:
    """List a directory's disk if it may have names that the index does not know, and reconcile the two.

    Cheap when nothing can have changed: one fstat, and not even that where nobody else writes.
    """
    root = store.placement.default_root(directory)
    if root is None or store.layouts[root] is Layout.ID:
        return  # its names are in the index alone
    stamp = store.index.stamp(directory)
    known = stamp is not None and stamp.root == root
    if known and store.roots[root].outside is not Outside.WRITERS:
        return
    try:
        driver, fd = store.places.directory(directory)
    except (NotFound, RootOffline):
        return  # only the index can tell now
    ctime_ns = driver.stat_dir(fd).st_ctime_ns
    if known and stamp is not None and stamp.ctime_ns == ctime_ns:
        return
    found = set(driver.list(fd))
    first = not known
    had_names = store.index.has_dentries(directory)  # ours perhaps, made before it was ever listed
    adopted = await _adopt_all(store, directory, found, announce=not first)
    if had_names:
        await _vanish_all(store, directory, found)
    if had_names and adopted:
        # What was recognised under a new name has left its old one, where another object may lie by now.
        adopted += await _adopt_all(store, directory, found, announce=not first)
    if store.index.inode(directory) is None:
        return
    batch = store.batch()
    # The ctime of before the listing: whatever changes meanwhile, ours or not, has the next look list once more.
    trusted = ctime_ns if time.time_ns() - ctime_ns > RACY_NS else 0
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
            detail=f"{adopted} names",
        )
    store.index.apply(batch)


async def _adopt_all(store: Store, directory: InodeNo, found: set[bytes], *, announce: bool) -> int:
    """Adopt every name of `found` that the index lacks; returns how many."""
    adopted = 0
    batch = store.batch(grows=True)
    for position, name in enumerate(found, 1):
        if store.index.dentry(directory, name) is None:
            driver, fd = store.places.directory(directory)
            taken = _adopt(store, batch, directory, At(driver, fd, name), announce=announce)
            adopted += taken is not None
            if taken is not None and taken[1].st_nlink > 1:  # a second link in this very listing must find the first
                store.index.apply(batch)
                batch = store.batch(grows=True)
        if position % CHUNK == 0:
            store.index.apply(batch)
            batch = store.batch(grows=True)
            await trio.lowlevel.checkpoint()
    if batch.inodes:  # a full index is no reason not to list what is known
        store.index.apply(batch)
    return adopted


async def _vanish_all(store: Store, directory: InodeNo, found: set[bytes]) -> None:
    """Let go of every name that the index places in `directory` and neither the listing nor a second look shows."""
    after = b""
    while names := store.index.dentries(directory, after, CHUNK):
        after = names[-1][0]
        driver, fd = store.places.directory(directory)
        for name, number in names:
            if name in found or Spot(driver.number, directory, name) not in store.placement.spots(number):
                continue
            inode = store.inode(number)
            if inode.state is State.WRITING:
                continue
            try:
                driver.stat(fd, name)
            except FileNotFoundError:
                vanish(store, directory, name, number)
        await trio.lowlevel.checkpoint()
