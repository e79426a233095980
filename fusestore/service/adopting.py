"""Taking over what the disk shows and the index does not know, and letting go of what is no longer there, name by name.

An object is known again by (root, st_ino, birth time): a name that vanished here and turned up there is a rename
outside and keeps its id; what is gone for good keeps its row for a day, in case it turns up elsewhere (decision 0009).
Nothing is ever concluded from a root that is offline.
"""

from __future__ import annotations

import contextlib
import stat as stat_module
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from uuid_utils import uuid7

from fusestore.core.reconcile import Verdict, compare
from fusestore.errors import Gone, IndexFault, NotFound, RootOffline
from fusestore.model import (
    CONTROL_NAME,
    NAME_MAX,
    Backing,
    Cause,
    Inode,
    InodeNo,
    Operation,
    Outside,
    Spot,
)
from fusestore.roots import identity
from fusestore.service import doubting, draining, keeping, outlasting, replicas, restoring, walking

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.service.places import At
    from fusestore.service.store import Store

SECOND_NS: Final = 1_000_000_000
POWER: Final = "taken back by a power cut"


def adopt_name(store: Store, parent: InodeNo, at: At) -> tuple[Inode, os.stat_result]:
    """Take over one name that the disk has and the index has not.

    Raises:
        NotFound: the disk has no such name, or it is not for the mount (a ghost, the marker, another device).
    """
    batch = store.batch(grows=True)
    adopted = adopt(store, batch, parent, at, announce=True)
    if adopted is None:
        raise NotFound(at.name)
    store.index.apply(batch)
    return adopted


def adopt(
    store: Store, batch: Batch, parent: InodeNo, at: At, *, announce: bool
) -> tuple[Inode, os.stat_result] | None:
    """Add to a batch that a name is taken over; None if the disk has none such, or it is not for the mount."""
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
    inode = first_record(store.index.new_inode(), _travelled_id(store, at, backing), at, stat, backing)
    batch.put_inode(inode)
    batch.link(parent, name, inode.number)
    if store.placement.default_root(parent) != driver.number:
        batch.place(inode.number, (spot,), None)
    if inode.is_regular:
        draining.found(store, batch, driver)
        keeping.consider(store, batch, inode, store.placement.directory_home(parent))
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


def first_record(number: InodeNo, id: bytes | None, at: At, stat: os.stat_result, backing: Backing) -> Inode:
    """The record of an object that a disk shows for the first time; without an `id` it gets a new one."""
    return Inode(
        number=number,
        id=id or uuid7().bytes,
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
        target=at.driver.readlink(at.directory, at.name) if stat_module.S_ISLNK(stat.st_mode) else b"",
        backing=backing,
    )


def _known(store: Store, driver: Driver, backing: Backing) -> Inode | None:
    """The inode that this disk object carries, registered on this root or on another of the same file system."""
    number = store.index.by_backing(backing)
    if number is not None:
        return store.inode(number)
    for root in store.roots.values():
        if root.device != driver.device or root is driver:
            continue
        number = store.index.by_backing(Backing(root.number, backing.st_ino, backing.btime_ns))
        if number is None or any(
            store.places.still_has(spot, number, backing) for spot in store.placement.spots(number)
        ):
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
    cause = blame(store, at.driver, inode.ctime_ns, stat.st_ctime_ns)
    lost = []
    for name in names:
        spot = Spot(at.driver.number, *name)
        if (row is None or spot in row) and not store.places.still_has(spot, number, backing):
            lost.append(name)
    spots = tuple(spot for spot in row or () if store.places.still_has(spot, number, backing))
    # Nothing is added to the batch before all has been looked at: looking may fail.
    for name in lost:
        batch.unlink(*name, number)
    stays = [name for name in names if name not in lost]
    names_after = [*stays, (parent, at.name)]
    batch.link(parent, at.name, number)
    gone_at = store.index.vanished_at(number)
    if gone_at is not None:
        batch.unvanish(number, gone_at)
    batch.place(number, store.placement.row_for((*spots, here), names_after) if row else None, row)
    if at.driver.number not in {spot.root for spot in row or store.placement.inherited(names)}:
        _bring_along(store, batch, inode, at.driver)
    if inode.is_regular:
        draining.found(store, batch, at.driver)
    inode.backing = backing
    inode.nlink = stat.st_nlink
    batch.put_inode(inode)
    renamed = len(stays) < len(names) or not names
    if inode.is_dir:
        batch.then(partial(store.directory_changed, number))
    store.event(
        batch,
        inode,
        Operation.MOVE if renamed else Operation.INSERT,
        "renamed" if renamed else "linked",
        path=store.join(parent, at.name),
        root=at.driver.name,
        old_path=old_path or b"",
        cause=cause,
        detail=POWER if cause is Cause.RECOVER else "",
    )
    new_path = store.join(parent, at.name) or b""
    store.journal(batch, inode, "rename" if renamed else "link", _word(cause), old=old_path or b"", new=new_path)
    return inode, stat


def _bring_along(store: Store, batch: Batch, inode: Inode, driver: Driver) -> None:
    """Add to a batch what it means for replicas that an object, and all below it, has come to another root."""
    if store.index.has_replicas():
        for each in walking.below(store, inode.number):
            replicas.give_way(store, batch, each, {driver.number})


def _word(cause: Cause) -> str:
    return POWER if cause is Cause.RECOVER else "outside"


def blame(store: Store, driver: Driver, known_ns: int, seen_ns: int) -> Cause:
    """Whose doing a difference between record and disk is: after a power cut it may be the cut's.

    Args:
        known_ns: ctime in the record.
        seen_ns: ctime of what the disk shows: it goes back only with the power, and what it shows from between the
            last event and this start was ours, as far as anybody can tell, as is what concerns so young a record.
    """
    if not store.index.lost:
        return Cause.OUTSIDE
    since_ns, until_ns = store.index.lost_ns
    ours = driver.outside is not Outside.WRITERS or seen_ns < known_ns or since_ns - SECOND_NS <= seen_ns <= until_ns
    ours = ours or known_ns > since_ns - restoring.YOUNG_NS
    return Cause.RECOVER if ours else Cause.OUTSIDE


def _blame_missing(store: Store, parent: InodeNo, inode: Inode) -> Cause:
    """The same for a name that is gone: its directory has changed since, or never knew it."""
    try:
        driver, directory = store.places.directory(parent)
        return blame(store, driver, inode.ctime_ns, driver.stat_dir(directory).st_ctime_ns)
    except (OSError, NotFound, RootOffline):
        return Cause.RECOVER if store.index.lost else Cause.OUTSIDE


def vanish(store: Store, parent: InodeNo, name: bytes, number: InodeNo) -> bool:
    """A name is gone from its disk: somebody removed or renamed it behind our back.

    With the last disk object go all names, those on other roots that have none of their own among them.

    Returns:
        False for a directory that stays, because not all that is in it has gone with it (`outlasting`).
    """
    inode = store.inode(number)
    if outlasting.keep(store, inode):
        return False
    batch = store.batch()
    names, row = store.index.parents(number), store.index.placement(number)
    going: Sequence[tuple[InodeNo, bytes]] = [(parent, name)]
    if row is not None:
        left = tuple(spot for spot in row if (spot.directory, spot.name) != (parent, name))
        if left:
            after = store.placement.row_for(left, [each for each in names if each != (parent, name)])
            batch.place(number, after, row)
        else:
            going = names
    for each in going:
        _unlink(store, batch, *each, inode)
    if len(going) == len(names):
        batch.vanish(number, time.time_ns())
        batch.place(number, None, row)
    with contextlib.suppress(IndexFault):  # what the disk shows is true all the same
        store.index.apply(batch)
    return True


def _unlink(store: Store, batch: Batch, parent: InodeNo, name: bytes, inode: Inode) -> None:
    number = inode.number
    path = store.join(parent, name)
    cause = _blame_missing(store, parent, inode)
    batch.unlink(parent, name, number)
    if inode.is_dir:
        batch.then(partial(store.directory_changed, number))
    driver = store.root_of(parent)
    store.event(
        batch,
        inode,
        Operation.REMOVE,
        "vanished",
        path=path,
        root=driver.name if driver else "",
        cause=cause,
        detail=POWER if cause is Cause.RECOVER else "",
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
    cause = blame(store, at.driver, inode.ctime_ns, stat.st_ctime_ns)
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
            cause=cause,
            detail=POWER if cause is Cause.RECOVER else "",
        )
    if verdict is Verdict.CONTENT:
        store.journal(batch, inode, "change", _word(cause), new=store.join(parent, name) or b"")
    try:
        store.index.apply(batch)
    except IndexFault:
        return inode  # what the disk shows is true all the same
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
    stays = store.index.dentry(parent, name)
    return store.inode(stays) if stays is not None else adopt_name(store, parent, at)[0]


def vanish_missing(store: Store, inode: Inode, driver: Driver) -> bool:
    """The disk object of an inode is not where it was: those of its names go that do not lead to it any more.

    Returns:
        False for a directory that stays, as by `vanish`.

    Raises:
        RootOffline: too much is missing for that; see `service.doubting`.
    """
    if store.index.lost and restoring.search(store, inode):
        return True
    is_gone = True
    for parent, name in store.index.parents(inode.number):
        spot = Spot(driver.number, parent, name)
        if inode.backing is None or not store.places.still_has(spot, inode.number, inode.backing):
            doubting.check(store, driver, [inode.number])
            is_gone = vanish(store, parent, name, inode.number) and is_gone
    return is_gone
