"""Destroying bytes that no name needs any more: decided in the batch that takes the last name, done afterwards.

The decision is an intent, so it survives a crash; the disk is only touched when it is recorded. A disk that refuses is
asked again at the next start. Until they are gone such bytes are *condemned*: they take a place on the disk that no row
speaks of, so they are hidden from adoption, and whoever needs their place has them destroyed at once (`hurry`).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import structlog

from fusestore.core.intents import Discard
from fusestore.errors import FusestoreError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.index.batch import Batch
    from fusestore.model import Backing, Inode, InodeNo, RootNo, Spot
    from fusestore.service.store import Store

log = structlog.get_logger()


class Condemned:
    """Bytes that no name needs and that are not destroyed yet, by the key of their intent and by their places."""

    def __init__(self) -> None:
        self._intents: dict[int, Discard] = {}
        self._places: dict[Spot, int] = {}

    def __contains__(self, spot: Spot) -> bool:
        return spot in self._places

    def add(self, key: int, intent: Discard) -> None:
        self._intents[key] = intent
        # In the id area nothing else ever wants the place, and a spot there does not tell one object from another.
        self._places |= {spot: key for spot in intent.spots if not spot.by_id}

    def get(self, key: int) -> Discard | None:
        return self._intents.get(key)

    def at(self, spots: Iterable[Spot]) -> set[int]:
        return {self._places[spot] for spot in spots if spot in self._places}

    def within(self, directory: InodeNo, root: RootNo) -> set[int]:
        return {key for spot, key in self._places.items() if (spot.directory, spot.root) == (directory, root)}

    def remove(self, key: int) -> None:
        for spot in self._intents.pop(key).spots:
            if self._places.get(spot) == key:
                del self._places[spot]


def discard(store: Store, batch: Batch, inode: Inode, spots: tuple[Spot, ...]) -> list[tuple[int, Discard]]:
    """Add to a batch the decision to destroy what lies at `spots`; pass the result to `carry_out` after `apply`."""
    spots = store.disk_spots(inode, spots)
    if not spots:
        return []
    key = store.index.new_intent()
    intent = Discard(inode.number, inode.id, spots, inode.backing, inode.is_dir)
    batch.intent(key, intent)
    store.condemned.add(key, intent)
    return [(key, intent)]


def carry_out(store: Store, discards: list[tuple[int, Discard]]) -> None:
    """Destroy what was decided on and is still there."""
    for key, intent in discards:
        if store.condemned.get(key) is None:
            continue  # it was in somebody's way
        try:
            for spot in intent.spots:
                if intent.directory:
                    destroy_directory(store, spot, intent.inode, intent.id)
                else:
                    destroy(store, spot, intent.inode, intent.backing, intent.id)
        except (OSError, FusestoreError) as error:
            left = intent.directory and isinstance(error, OSError) and error.errno == errno.ENOTEMPTY
            if not left:
                log.warning("what no name needs is still on the disk", id=intent.id.hex(), error=str(error))
                continue
            # Somebody put something into it meanwhile: it is theirs now, and turns up as what it is.
            log.info("a directory that was left is in use on its disk", id=intent.id.hex())
        batch = store.batch()
        batch.settle(key)
        store.index.apply(batch)
        store.condemned.remove(key)


def hurry(store: Store, keys: set[int]) -> None:
    """Destroy now what waits for its successors to become durable, because something else needs the place."""
    if not keys:
        return
    # The index has the last word: a batch that was refused has condemned nothing.
    decided = [(key, intent) for key, intent in store.index.intents() if key in keys and isinstance(intent, Discard)]
    for root in store.roots.values():
        if root.online:
            root.sync()
    store.index.sync_log()
    carry_out(store, decided)


def destroy(store: Store, spot: Spot, number: InodeNo, backing: Backing | None, id: bytes = b"") -> None:
    """Unlink a disk object if it is still the one that was meant; what took its place is a stranger's."""
    try:
        at = store.places.at(spot, number, id)
        if backing is None or at.driver.stat(at.directory, at.name).st_ino == backing.st_ino:
            at.driver.unlink(at.directory, at.name)
    except (FileNotFoundError, NotFound):
        pass  # somebody else was faster, or its directory went before it


def destroy_directory(store: Store, spot: Spot, number: InodeNo, id: bytes = b"") -> None:
    """Remove an empty directory from a disk."""
    try:
        at = store.places.at(spot, number, id)
        at.driver.rmdir(at.directory, at.name)
    except (FileNotFoundError, NotFound):
        pass
