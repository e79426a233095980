"""After a crash, or when a root is back: settle every leftover intent by looking at the disk.

Done -> finish it, not done -> drop it; decided destructions are carried out, writing periods are closed honestly. It
never decides anew: what the disk shows and what the intent says leave one answer (decision 0002). An intent on a root
that is offline stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from fusestore.core.intents import (
    Arrive,
    Attributes,
    Create,
    Discard,
    Intent,
    Link,
    Relocate,
    Remove,
    Rename,
    Replicate,
    Skeleton,
    Writing,
)
from fusestore.errors import FusestoreError, NotFound, RootOffline
from fusestore.model import UPLOADS, Backing, Cause, FileStamp, InodeNo, Spot
from fusestore.service import (
    arriving,
    creating,
    discarding,
    finalizing,
    ghosts,
    moving,
    parents,
    removing,
    renaming,
    replicating,
    restoring,
    trash,
)
from fusestore.service.attributes import object_of, settle_attributes
from fusestore.service.looking import see
from fusestore.service.places import At, is_object
from fusestore.service.syncing import sync_now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.core.ports import Driver
    from fusestore.service.store import Store

log = structlog.get_logger()


def recover(store: Store) -> int:
    """Settle all leftover intents; returns how many there were."""
    leftovers = list(store.index.intents())
    if leftovers:
        log.info("settling what the last run left unfinished", changes=len(leftovers))
    _settle_all(store, leftovers)
    trash.look(store, store.roots.values(), compare=not store.index.was_clean)
    try:
        discarding.carry_out_recovered(store)
    except (OSError, FusestoreError) as error:
        log.warning("what no name needs stays for now", error=str(error))
    _empty_incoming(store, store.roots.values())
    moving.promise_again(store)
    return len(leftovers)


def recover_root(store: Store, root: Driver) -> None:
    """Settle what waited for a root that is back, and what its disk may have lost; open writing periods go on.

    No use case waits between decision and record, so what is recorded as begun now is left over.
    """
    store.unsynced[root.number].clear()
    kept = {key for keys in store.unsynced.values() for key in keys}
    leftovers = [
        (key, intent)
        for key, intent in store.index.intents()
        if key not in kept and not isinstance(intent, Writing) and store.condemned.get(key) is None
    ]
    _settle_all(store, leftovers)
    trash.look(store, [root], compare=True)
    _empty_incoming(store, [root])


def _settle_all(store: Store, leftovers: Iterable[tuple[int, Intent]]) -> None:
    for key, intent in leftovers:
        log.debug("settling", intent=type(intent).__name__, inode=intent.inode)
        try:
            _settle(store, key, intent)
        except RootOffline as offline:
            log.warning("an unfinished change waits for its root", root=offline.args[0])
        except (OSError, FusestoreError) as error:
            log.error("an unfinished change cannot be settled", intent=repr(intent), error=str(error))


def _empty_incoming(store: Store, roots: Iterable[Driver]) -> None:
    """Throw away copies that were not finished; one that an unsettled intent speaks of stays."""
    copies = (intent for _, intent in store.index.intents() if isinstance(intent, Arrive | Replicate))
    wanted = {(intent.root, intent.staged) for intent in copies}
    for root in roots:
        if not root.online or root.read_only:
            continue
        try:
            incoming = root.incoming()
            for name in list(root.list(incoming)):
                if (root.number, name) not in wanted:
                    root.unlink(incoming, name)
        except OSError as error:
            log.warning("unfinished copies stay", root=root.name, error=str(error))


def _settle(store: Store, key: int, intent: Intent) -> None:
    match intent:
        case Writing():
            _close_writing(store, intent)
        case Discard():
            store.condemned.add(key, intent)
        case Attributes():
            _settle_attributes(store, key, intent)
        case Remove():
            _settle_remove(store, key, intent)
        case Create() | Skeleton():
            _settle_made(store, key, intent)
        case Rename(done=True) | Relocate(done=True) | Arrive(done=True):
            _settle_done(store, key, intent)
        case Link() | Rename() | Relocate():
            _settle_placed(store, key, intent)
        case Arrive():
            _settle_arrive(store, key, intent)
        case Replicate(done=True):
            replicating.restore(store, intent, key)
        case Replicate():
            replicating.recover(store, intent, key)


def _settle_attributes(store: Store, key: int, intent: Attributes) -> None:
    inode = store.index.inode(intent.inode)
    if inode is None:
        _drop(store, key)
    else:
        settle_attributes(store, inode, object_of(store, inode), key)


def _settle_remove(store: Store, key: int, intent: Remove) -> None:
    if store.index.dentry(intent.parent, intent.name) != intent.inode:  # the name has gone by another way since
        _drop(store, key)
        return
    inode = store.inode(intent.inode)
    # A directory is another object on each root where it lies, and rmdir(2) of a wrong one does no harm.
    backing = None if inode.is_dir else intent.backing
    left = [spot for spot in intent.spots if _holds(store, spot, intent.inode, backing)]
    if len(left) == len(intent.spots):
        _drop(store, key)
        return
    for spot in left:  # begun is as good as done: the decision stands
        if intent.trash is not None:
            discarding.put_away(store, intent.trash, (spot,))
        elif inode.is_dir:
            discarding.destroy_directory(store, spot, intent.inode, None)
        else:
            discarding.destroy(store, spot, intent.inode, intent.backing)
    removing.settle_remove(store, intent, key)


def _settle_made(store: Store, key: int, intent: Create | Skeleton) -> None:
    """Something new at a place that was free: if anything is there, it is this."""
    at = _find(store, intent.spot, intent.inode, intent.id if isinstance(intent, Create) else b"")
    adopted = isinstance(intent, Create) and store.index.dentry(intent.parent, intent.name) is not None
    if at is None or adopted:  # adopted: its root was away at the last start, and came back
        _drop(store, key)
    elif isinstance(intent, Create):
        creating.settle_create(store, intent, at, key=key)
    else:
        parents.settle_skeleton(store, intent.spot, intent.inode, key)


def _settle_placed(store: Store, key: int, intent: Link | Rename | Relocate) -> None:
    """A known object at a new place: done if it is that very object which is there."""
    at = _find(store, intent.spot, intent.inode)
    is_there = at is not None and intent.backing is not None and is_object(at, intent.backing)
    if not is_there or store.index.inode(intent.inode) is None:
        _drop(store, key)
        return
    match intent:
        case Link():
            creating.settle_link(store, intent, at, key=key)
        case Rename():
            if not intent.exchange:
                _leave(store, intent)
            renaming.settle_rename(store, intent, key)
        case Relocate():
            if not intent.keep:
                _leave(store, intent)
            ghosts.settle_relocate(store, intent, key)


def _settle_done(store: Store, key: int, intent: Rename | Relocate | Arrive) -> None:
    """What was recorded, and what a power cut may have taken from the disk: the object goes where the index says.

    Raises:
        Conflict: something else has its place; RootOffline; OSError as the disk says.
    """
    if isinstance(intent, Arrive):
        root = store.roots[intent.root]
        candidates = [At(root, root.incoming(), intent.staged)]
        candidates += restoring.reachable(store, intent.spots, intent.inode)
    else:
        root = store.roots[intent.spot.root]
        candidates = restoring.reachable(store, (intent.source, intent.spot), intent.inode)
    restoring.restore(store, intent.inode, intent.backing, candidates)
    store.unsynced[root.number].append(key)


def _settle_arrive(store: Store, key: int, intent: Arrive) -> None:
    """A verified copy at its new place: done, unless the original has gone on without it.

    It may have while nothing ran here: somebody has written it on its disk. Or one of the roots was away at the last
    start, and the other was used.
    """
    at = _find(store, intent.spots[0], intent.inode)
    if at is None or not is_object(at, intent.backing):
        _drop(store, key)
        return
    inode = store.index.inode(intent.inode)
    if (
        inode is None
        or inode.version != intent.version
        or set(store.placement.home_spots(intent.inode)) != set(intent.spots)
        or _has_changed(store, intent)
    ):
        arriving.take_back(store, intent, key)
        return
    discards = arriving.finish_arrive(store, intent, key)
    sync_now(store, at.driver)  # the old bytes may go only when nothing can take the new ones back
    store.index.sync_log()
    discarding.carry_out(store, discards)


def _has_changed(store: Store, intent: Arrive) -> bool:
    """Whether the original is not as it was copied; one that is gone cannot speak against its copy.

    Raises:
        RootOffline: nobody can tell.
    """
    if intent.stamp is None:
        return False
    found = (_find(store, spot, intent.inode) for spot in store.placement.spots(intent.inode))
    at = next((at for at in found if at is not None), None)
    return at is not None and FileStamp.of(at.driver.stat(at.directory, at.name)) != intent.stamp


def _leave(store: Store, intent: Rename | Relocate) -> None:
    """End a rename that was made of two steps, a link and an unlink, and got no further than the first."""
    if intent.source != intent.spot and not store.inode(intent.inode).is_dir:
        discarding.destroy(store, intent.source, intent.inode, intent.backing)


def _close_writing(store: Store, intent: Writing) -> None:
    """A handle that was open for writing died with the daemon."""
    if store.index.inode(intent.inode) is None or (store.index.lost and _is_lost(store, intent.inode)):
        batch = store.batch()
        batch.written(intent.inode)
        store.index.apply(batch)
    elif not intent.closed and store.placement.home(intent.inode) == store.tops[UPLOADS]:
        finalizing.interrupt(store, intent.inode, finalizing.DAEMON_ENDED, cause=Cause.RECOVER)
    else:
        if not intent.closed:
            store.cut_off.add(intent.inode)
        store.on_unsettled(intent.inode)


def _is_lost(store: Store, number: InodeNo) -> bool:
    """Whether a power cut has taken a file as a whole; if so its names are gone now."""
    try:
        see(store, store.inode(number))
    except NotFound:
        return True
    return False


def _drop(store: Store, key: int) -> None:
    batch = store.batch()
    batch.settle(key)
    store.index.apply(batch)


def _find(store: Store, spot: Spot, number: InodeNo, id: bytes = b"") -> At | None:
    """Where `spot` is, if anything is there."""
    try:
        at = store.places.at(spot, number, id)
        at.driver.stat(at.directory, at.name)
    except (FileNotFoundError, NotADirectoryError, NotFound):
        return None
    return at


def _holds(store: Store, spot: Spot, number: InodeNo, backing: Backing | None) -> bool:
    """Whether the object that was meant is still at `spot`."""
    at = _find(store, spot, number)
    return at is not None and (backing is None or is_object(at, backing))
