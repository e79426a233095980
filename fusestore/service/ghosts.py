"""Making way: a ghost leaves its old place when something else needs it.

A ghost is an object whose name went to another root while its bytes are still at the old spot, hidden there. It stays
where it is until a new object wants that very name, or its directory is to go; then it steps aside into its root's id
area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.core.intents import Relocate
from fusestore.core.placement import by_id
from fusestore.model import Spot
from fusestore.roots import identity
from fusestore.service import discarding
from fusestore.service.deciding import Decided
from fusestore.service.looking import fill
from fusestore.service.replicas import give_way
from fusestore.service.syncing import keep

if TYPE_CHECKING:
    from fusestore.model import InodeNo, RootNo
    from fusestore.service.store import Store


def step_aside(store: Store, spot: Spot) -> None:
    """Clear `spot` of a ghost, or of what is to be destroyed, if one is there."""
    discarding.hurry(store, store.condemned.at(spot))
    number = store.index.occupant(spot)
    if number is not None:
        discarding.hurry(store, store.condemned.aside(number, spot.root))
        relocate(store, number, spot, by_id(spot.root))


def clear_directory(store: Store, directory: InodeNo, root: RootNo) -> None:
    """Make all ghosts step aside that lie directly in a directory which is to leave `root`."""
    discarding.hurry(store, store.condemned.within(directory, root))
    for name, _ in store.index.occupants(root, directory):
        step_aside(store, Spot(root, directory, name))


def relocate(store: Store, number: InodeNo, source: Spot, target: Spot, *, keep: bool = False) -> None:
    """Bring the disk object at `source` to `target`, on the same file system; with `keep` link it there.

    A hard link whose object lies at `target` already is just unlinked, if nobody else was faster.

    Raises:
        FileExistsError: something else is at `target`; OSError as the disk says.
    """
    start, end = store.places.at(source, number), store.places.at(target, number)
    driver = start.driver
    has_both = target in store.placement.spots(number)
    there = end if has_both else start
    intent = Relocate(number, source, target, driver.backing(there.directory, there.name), keep)
    with store.places.keeping_times((source, target)), Decided(store, intent) as key:
        if keep:
            driver.link(start.directory, start.name, end.directory, end.name)
        elif has_both:
            discarding.destroy(store, source, number, intent.backing)
        else:
            driver.rename(start.directory, start.name, end.directory, end.name, replace=False)
    settle_relocate(store, intent, key)


def settle_relocate(store: Store, intent: Relocate, key: int) -> None:
    """Record that what was at `source` is at `spot` now, or there too."""
    number, source, target = intent.inode, intent.source, intent.spot
    batch = store.batch()
    keep(store, batch, key, intent, store.roots[target.root])
    if store.index.skeleton(number, source.root) == source:
        batch.drop_skeleton(number, source)
        batch.skeleton(number, target)
        store.index.apply(batch)
        return
    spots = store.placement.spots(number)
    after = (*spots, target) if intent.keep else (target if spot == source else spot for spot in spots)
    row = store.placement.row_for(tuple(dict.fromkeys(after)), store.index.parents(number))
    batch.place(number, row, store.index.placement(number))
    inode = store.inode(number)
    at = store.places.at(target, number)
    if source.root != target.root:
        give_way(store, batch, inode, {target.root})
        inode.backing = at.driver.backing(at.directory, at.name)
        if inode.is_regular:
            identity.write(
                at.driver, at.directory, at.name, identity.Label(inode.id, number, at.driver.uuid, inode.backing)
            )
    if not inode.is_dir:  # our own rename or link has moved the ctime
        seen = at.driver.stat(at.directory, at.name)
        fill(inode, seen, links=False)
        store.files.touched(number, seen)
    batch.put_inode(inode)
    store.index.apply(batch)
    if source.root != target.root:
        opened = store.files.get(number)
        if opened is not None and not opened.replica:
            opened.driver = at.driver
        store.on_stale(number)
