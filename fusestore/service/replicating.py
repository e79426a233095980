"""A replica is wanted, and takes its place: the records; `jobs.copyist` copies. The bytes lie in the root's id area."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from fusestore.core.intents import Replicate
from fusestore.core.placement import by_id
from fusestore.errors import InvalidRequest, NoRoot, RootReadOnly
from fusestore.model import Cause, InodeNo, Layout, Operation, Replica, ReplicaState, RootNo
from fusestore.service import draining, moving, replicas
from fusestore.service.deciding import Decided
from fusestore.service.discarding import destroy
from fusestore.service.places import is_object
from fusestore.service.syncing import keep

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, Owner
    from fusestore.service.places import At
    from fusestore.service.store import Store


class Made(NamedTuple):
    """A verified copy in its root's incoming area."""

    root: RootNo
    staged: bytes
    version: int
    size: int
    algorithm: str
    digest: bytes


# -- wanted -----------------------------------------------------------------------------------------------------------


def target(store: Store, name: str) -> Driver:
    """The root of this name, if it may hold replicas.

    Raises:
        NotFound: there is none; InvalidRequest: it is no resource root; RootReadOnly, RootDrained.
    """
    root = named(store, name)
    if root.layout is not Layout.TREE:
        raise InvalidRequest(f"replicas lie on resource roots, and {name} is none")
    draining.refuse(store, root)
    if root.read_only:
        raise RootReadOnly(name)
    return root  # one that is away gets its copies when it is back


def named(store: Store, name: str) -> Driver:
    """The root of this name.

    Raises:
        NotFound
    """
    for root in store.roots.values():
        if root.name == name:
            return root
    raise NoRoot(name)


def want(store: Store, number: InodeNo, root: Driver, owner: Owner, *, source: Driver | None = None) -> int:
    """Record that a file, or every file below a directory, is to have a copy on `root`.

    Args:
        source: the root of the copy that is to be read; of a single file.

    Returns:
        how many are wanted from here on: 0 if it is there already; a directory counts as one.

    Raises:
        NotFound; InvalidRequest: it is neither a file nor a directory, `source` has no good copy, or see `alone`.
    """
    inode = store.inode(number)
    batch = store.batch(grows=True)
    if source is not None and (inode.is_dir or not replicas.is_good(store, number, source.number)):
        raise InvalidRequest(f"{source.name} has no good copy of this file to read")
    reason = alone(store, number, root)
    if reason:
        raise InvalidRequest(reason)
    if inode.is_dir:
        batch.due(root.number, number)
        batch.then(partial(replicas.tell_due, store, root.number, number))
    elif not inode.is_regular:
        raise InvalidRequest("only files and directories are replicated")
    elif not add(store, batch, inode, root.number, source=source.number if source is not None else replicas.ANY):
        return 0
    path = store.path(number) or b""
    store.journal(batch, inode, "replicate", "begun", new=path, new_root=root.name, owner=owner)
    store.index.apply(batch)
    return 1


def alone(store: Store, number: InodeNo, root: Driver) -> str:
    """Why a copy on `root` would not be a second one of a file, or of all files below a directory; "" if it would.

    The place that a file's names call for, and the one where its bytes are, hold no replica.
    """
    if root.number not in replicas.roots_of(store, number):
        return ""
    home, here = store.placement.home(number), store.root_of(number)
    if store.inode(number).is_dir:
        return f"what is below it belongs on {root.name} itself; name another root" if home == root.number else ""
    if home is None or here is None:
        return ""
    is_going = home != here.number and moving.open_above(store, number) is not None
    kept = {home if is_going else here.number, *(each for each, _ in store.index.replicas(number))}
    if len(kept) > 1 and root.number in kept:
        return ""
    if root.number in kept:
        return f"its only copy is on {'its way to ' * is_going}{root.name}; name another root"
    if is_going:
        return f"it is on its way from {root.name} to {store.roots[home].name}; try again when it is there"
    return (
        f"its bytes are on {here.name}, and {root.name} is where its name belongs; renaming it brings it to {root.name}"
    )


def add(store: Store, batch: Batch, inode: Inode, root: RootNo, *, source: RootNo = replicas.ANY) -> bool:
    """Add to a batch that a file is to have a copy on a root; False if its bytes are there, or will be."""
    number = inode.number
    if store.index.replica(number, root) is not None or root in replicas.roots_of(store, number):
        return False
    batch.replica(number, root, Replica(ReplicaState.WANTED, source=source))
    batch.then(partial(replicas.tell_due, store, root, number))
    return True


# -- made -------------------------------------------------------------------------------------------------------------


def put_in_place(store: Store, inode: Inode, made: Made) -> None:
    """Make a verified and synced copy the replica on its root, in place of an older one if there is one.

    Raises:
        RootOffline; OSError as the disk says. Nothing was changed.
    """
    driver = store.roots[made.root]
    incoming = driver.incoming()
    at = store.places.at(by_id(made.root), inode.number, inode.id)
    backing = driver.backing(incoming, made.staged)
    intent = Replicate(
        inode.number, inode.id, made.root, made.staged, made.version, made.size, made.algorithm, made.digest, backing
    )
    with Decided(store, intent, grows=True) as key:
        driver.rename(incoming, made.staged, at.directory, at.name, replace=True)
    settle_made(store, intent, key)


def settle_made(store: Store, intent: Replicate, key: int) -> None:
    """Record that a replica is in place; it is stale already if the file has been written since."""
    inode, root = store.inode(intent.inode), store.roots[intent.root]
    was = store.index.replica(inode.number, root.number)
    batch = store.batch()
    keep(store, batch, key, intent, root)
    is_current = intent.version == inode.version
    record = Replica(
        ReplicaState.CURRENT if is_current else ReplicaState.STALE,
        intent.version,
        intent.algorithm,
        intent.digest,
        intent.size,
        time.time_ns(),
        intent.backing,
    )
    batch.replica(inode.number, root.number, record)
    if is_current and not inode.current_hash:
        inode.hash, inode.hash_algorithm, inode.hash_version = intent.digest, intent.algorithm, intent.version
        batch.put_inode(inode)
    path, source = store.path(inode.number), store.root_of(inode.number)
    old_root = source.name if source is not None else ""
    store.event(
        batch,
        inode,
        Operation.UPDATE,
        "replicated",
        path=path,
        root=root.name,
        old_root=old_root,
        cause=Cause.MOVE,
    )
    first = was is None or was.version == 0
    command = "replicate" if first else "refresh"
    store.journal(batch, inode, command, new=path or b"", old_root=old_root, new_root=root.name)
    store.index.apply(batch)


def recover(store: Store, intent: Replicate, key: int) -> None:
    """After a crash: the copy is in its place, and wanted there, or it goes.

    Raises:
        RootOffline; OSError as the disk says.
    """
    at = store.places.at(by_id(intent.root), intent.inode, intent.id)
    wanted = store.index.replica(intent.inode, intent.root) is not None
    if _holds(at, intent) and wanted:
        settle_made(store, intent, key)
        return
    if not wanted and intent.root not in {spot.root for spot in store.placement.spots(intent.inode)}:
        destroy(store, by_id(intent.root), intent.inode, intent.backing, intent.id)
    _drop(store, key)


def restore(store: Store, intent: Replicate, key: int) -> None:
    """After a power cut: see that a recorded replica is in its place, or know that it is not.

    Raises:
        RootOffline; OSError as the disk says.
    """
    root = store.roots[intent.root]
    record = store.index.replica(intent.inode, intent.root)
    if record is None or record.backing != intent.backing:
        _drop(store, key)  # it has been given up, or made again, since
        return
    at = store.places.at(by_id(intent.root), intent.inode, intent.id)
    if not _holds(at, intent):
        staged = at._replace(directory=root.incoming(), name=intent.staged)
        if not _holds(staged, intent):
            replicas.mark_bad(
                store, store.inode(intent.inode), intent.root, "taken by a power cut", cause=Cause.RECOVER
            )
            _drop(store, key)
            return
        root.rename(staged.directory, staged.name, at.directory, at.name, replace=True)
    store.unsynced[root.number].append(key)


def _holds(at: At, intent: Replicate) -> bool:
    try:
        return is_object(at, intent.backing)
    except FileNotFoundError:
        return False


def _drop(store: Store, key: int) -> None:
    batch = store.batch()
    batch.settle(key)
    store.index.apply(batch)
