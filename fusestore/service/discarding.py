"""Destroying bytes that no name needs any more: decided in the batch that takes the last name, done afterwards.

The decision is an intent, so it survives a crash; the disk is only touched when it is recorded. A disk that refuses,
or is away, is asked again now and then (`carry_out_left`). Until they are gone such bytes are *condemned*: they take a
place on the disk that no row speaks of, so they are hidden from adoption, and whoever needs their place has them
destroyed at once (`hurry`). What has arrived elsewhere is destroyed only when its new bytes are durable there.
"""

from __future__ import annotations

import errno
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from fusestore.core.intents import Discard
from fusestore.errors import FusestoreError, NotFound
from fusestore.service import restoring, trash
from fusestore.service.places import is_object
from fusestore.service.syncing import keep, sync, sync_now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Backing, Inode, InodeNo, RootNo, Spot, Trashed
    from fusestore.service.store import Store

log = structlog.get_logger()


class Condemned:
    """Bytes that no name needs and that are not destroyed yet, by the key of their intent and by their places."""

    def __init__(self) -> None:
        self._intents: dict[int, Discard] = {}
        self._places: dict[Spot, int] = {}
        self._inodes: Counter[InodeNo] = Counter()

    def __contains__(self, spot: Spot) -> bool:
        return spot in self._places

    def add(self, key: int, intent: Discard) -> None:
        self._inodes[intent.inode] += key not in self._intents
        self._intents[key] = intent
        # In the id area nothing else ever wants the place, and a spot there does not tell one object from another.
        self._places |= {spot: key for spot in intent.spots if not spot.by_id}

    def get(self, key: int) -> Discard | None:
        return self._intents.get(key)

    def keys(self) -> set[int]:
        return set(self._intents)

    def of(self, keys: Iterable[int]) -> list[tuple[int, Discard]]:
        """The decisions with these keys, in the order they were made, but for those that were carried out."""
        return [(key, self._intents[key]) for key in sorted(keys) if key in self._intents]

    def at(self, spot: Spot) -> set[int]:
        return {self._places[spot]} if spot in self._places else set()

    def within(self, directory: InodeNo, root: RootNo) -> set[int]:
        return {key for spot, key in self._places.items() if (spot.directory, spot.root) == (directory, root)}

    def aside(self, number: InodeNo, root: RootNo) -> set[int]:
        """What is to be destroyed in a root's id area under this inode's id."""
        return {
            key
            for key, intent in self._intents.items()
            if intent.inode == number and any(spot.by_id and spot.root == root for spot in intent.spots)
        }

    def concerns(self, number: InodeNo) -> bool:
        """Whether a disk may have more links of an inode's object than the inode has names."""
        return number in self._inodes

    def remove(self, key: int) -> None:
        intent = self._intents.pop(key)
        self._inodes[intent.inode] -= 1
        if not self._inodes[intent.inode]:
            del self._inodes[intent.inode]
        for spot in intent.spots:
            if self._places.get(spot) == key:
                del self._places[spot]


def discard(
    store: Store,
    batch: Batch,
    inode: Inode,
    spots: tuple[Spot, ...],
    *,
    backing: Backing | None = None,
    moved: bool = False,
) -> list[tuple[int, Discard]]:
    """Add to a batch the decision to destroy what lies at `spots`; pass the result to `carry_out` after `apply`.

    Args:
        backing: of the object that is meant, if it is not the one that carries the inode.
        moved: a move has left it behind; where the root has a trash, it goes there first.
    """
    spots = store.disk_spots(inode, spots)
    if not inode.is_dir:
        objects = [(spots, backing or inode.backing)] if spots else []
    else:  # it is another object on each root where it lies
        objects = [((spot,), _backing_at(store, spot, inode)) for spot in spots]
    trashed = trash.intended(store, inode, spots, trash.MOVED) if moved else None
    discards = []
    for places, meant in objects:
        key = store.index.new_intent()
        intent = Discard(inode.number, inode.id, places, meant, inode.is_dir, trash=trashed)
        batch.intent(key, intent)
        batch.then(partial(store.condemned.add, key, intent))
        discards.append((key, intent))
    return discards


def _backing_at(store: Store, spot: Spot, inode: Inode) -> Backing | None:
    """The object that lies at a spot; None if that cannot be told now."""
    try:
        at = store.places.at(spot, inode.number, inode.id)
        return at.driver.backing(at.directory, at.name)
    except (OSError, FusestoreError):
        return None


def carry_out(store: Store, discards: list[tuple[int, Discard]]) -> OSError | FusestoreError | None:
    """Destroy what was decided on and is still there; what a disk refuses is left for later.

    Returns:
        the last trouble there was.
    """
    left = 0
    trouble: OSError | FusestoreError | None = None
    for key, intent in discards:
        if store.condemned.get(key) is None:
            continue  # it was in somebody's way
        try:
            with store.places.keeping_times(intent.spots):
                _destroy_all(store, intent)
            batch = store.batch()
            keep(store, batch, key, intent, store.roots[intent.spots[0].root])
            if intent.trash is not None:
                trash.record(store, batch, intent.trash)
            batch.then(partial(store.condemned.remove, key))
            store.index.apply(batch)
        except (OSError, FusestoreError) as error:
            left, trouble = left + 1, error
    if trouble is not None:
        log.warning("what no name needs is still on its disk", objects=left, error=str(trouble))
    return trouble


def put_away(store: Store, trashed: Trashed, spots: tuple[Spot, ...]) -> None:
    """Bring a file to the trash, and unlink what is left of it at `spots`: its further hard links, or all of it."""
    trash.put(store, trashed, restoring.reachable(store, spots, trashed.inode, trashed.id))
    for spot in spots:
        destroy(store, spot, trashed.inode, trashed.backing, trashed.id)


def _destroy_all(store: Store, intent: Discard) -> None:
    if intent.trash is not None:
        put_away(store, intent.trash, intent.spots)
        return
    for spot in intent.spots:
        if not intent.directory:
            destroy(store, spot, intent.inode, intent.backing, intent.id)
            continue
        try:
            destroy_directory(store, spot, intent.inode, intent.backing, intent.id)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            # Somebody put something into it meanwhile: it is theirs now, and turns up as what it is.
            log.info("a directory that was left is in use on its disk", id=intent.id.hex())


def hurry(store: Store, keys: set[int]) -> None:
    """Destroy now what waits for its successors to become durable, because something else needs the place.

    Holds up the loop until they are: whoever needs the place has looked already, and nothing may come in between. It is
    rare, because a name has to be wanted again between its object's arrival elsewhere and the release a moment later.

    Raises:
        RootOffline: the root of a successor is away, and these bytes may be needed yet.
        OSError: it cannot be synced, or the disk of these bytes refuses.
    """
    if not keys:
        return
    discards = store.condemned.of(keys)
    for root in _successors(store, discards):
        sync_now(store, root)
    store.index.sync_log()
    trouble = carry_out(store, discards)
    if trouble is not None:
        raise trouble


def carry_out_recovered(store: Store) -> None:
    """Destroy what a crash left to be destroyed, where all roots concerned are there. Blocks: nobody is served yet.

    Raises:
        OSError: the root of a successor cannot be synced.
    """
    discards = _within_reach(store, store.condemned.keys())
    for root in _successors(store, discards):
        sync_now(store, root)
    if discards:
        store.index.sync_log()
        carry_out(store, discards)


async def carry_out_left(store: Store, keys: set[int]) -> None:
    """Ask once more for what a disk refused, or trouble kept from being asked for, where all roots concerned are there.

    Args:
        keys: of decisions that nobody is about to carry out; those that were carried out meanwhile do not matter.

    Raises:
        RootOffline, OSError: the root of a successor has got lost meanwhile, or cannot be synced.
    """
    discards = _within_reach(store, keys)
    for root in _successors(store, discards):
        await sync(store, root)
    if discards:
        await trio.to_thread.run_sync(store.index.sync_log)
        carry_out(store, discards)


def _within_reach(store: Store, keys: set[int]) -> list[tuple[int, Discard]]:
    """Those decisions whose bytes are on roots that are online, and so are the successors', which are in place."""
    found = []
    for key, intent in store.condemned.of(keys):
        if not _is_succeeded(store, intent):
            continue
        roots = {store.roots[spot.root] for spot in intent.spots} | _successors(store, [(key, intent)])
        if all(root.online for root in roots):
            found.append((key, intent))
    return found


def _successors(store: Store, discards: list[tuple[int, Discard]]) -> set[Driver]:
    """The roots where the bytes are that took the place of those condemned; none for what was removed or replaced."""
    roots: set[Driver] = set()
    for _, intent in discards:
        inode = store.index.inode(intent.inode)
        if inode is not None:
            spots = store.disk_spots(inode, store.placement.spots(inode.number))
            roots |= {store.roots[spot.root] for spot in spots}
    return roots


def _is_succeeded(store: Store, intent: Discard) -> bool:
    """Whether the bytes that took the place of those condemned are where they are said to be."""
    inode = store.index.inode(intent.inode)
    if inode is None or inode.backing is None or inode.backing == intent.backing:
        return True
    try:
        spots = store.disk_spots(inode, store.placement.spots(inode.number))
        return all(is_object(store.places.at(spot, inode.number), inode.backing) for spot in spots)
    except (OSError, FusestoreError) as error:
        log.error("old bytes stay: the new ones are not in place", inode=intent.inode, error=str(error))
        return False


def destroy(store: Store, spot: Spot, number: InodeNo, backing: Backing | None, id: bytes = b"") -> None:
    """Unlink a disk object if it is still the one that was meant; what took its place is a stranger's."""
    try:
        at = store.places.at(spot, number, id)
        if backing is None or is_object(at, backing):
            at.driver.unlink(at.directory, at.name)
    except (FileNotFoundError, NotFound):
        pass  # somebody else was faster, or its directory went before it


def destroy_directory(store: Store, spot: Spot, number: InodeNo, backing: Backing | None, id: bytes = b"") -> None:
    """Remove an empty directory from a disk, if it is still the one that was meant."""
    try:
        at = store.places.at(spot, number, id)
        if backing is None or is_object(at, backing):
            at.driver.rmdir(at.directory, at.name)
    except (FileNotFoundError, NotFound):
        pass
