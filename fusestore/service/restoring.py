"""After a power cut: an object is brought back to where the index says it is, from where else it may lie.

A disk goes back to an older moment than the log, or the log to an older one than a disk; either way the object itself
is on the disk, under another name than the one recorded. What it is, its inode number and birth time tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from fusestore.errors import Conflict, NotFound
from fusestore.service.places import At, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.model import Backing, Inode, InodeNo, Spot
    from fusestore.service.store import Store

log = structlog.get_logger()

YOUNG_NS: Final = 60_000_000_000  # longer than a disk leaves its names unwritten


def reachable(store: Store, spots: Iterable[Spot], number: InodeNo, id: bytes = b"") -> list[At]:
    """Those of `spots` whose directories are there.

    Raises:
        RootOffline
    """
    found = []
    for spot in spots:
        try:
            found.append(store.places.at(spot, number, id))
        except (FileNotFoundError, NotADirectoryError, NotFound):
            continue
    return found


def restore(store: Store, number: InodeNo, backing: Backing, candidates: list[At]) -> bool:
    """See that an object lies at every place of its inode, and at none of the other candidates.

    Returns:
        whether it does; False if it is nowhere, or its inode lies elsewhere by now.

    Raises:
        Conflict: something else has its place; RootOffline; OSError as the disk says.
    """
    inode = store.index.inode(number)
    wanted: list[At] = []
    if inode is not None:
        if inode.backing is None or (inode.backing.st_ino, inode.backing.btime_ns) != (
            backing.st_ino,
            backing.btime_ns,
        ):
            return False
        spots = store.disk_spots(inode, store.placement.spots(number))
        wanted = reachable(store, spots, number)
        if len(wanted) < len(spots):
            return False
    here = [at for at in wanted if _holds(at, backing)]
    spare = [at for at in dict.fromkeys(candidates) if at not in wanted and _holds(at, backing)]
    missing = [at for at in wanted if at not in here]
    for at in missing:
        if not here and not spare:
            return False
        try:
            if here:
                here[0].driver.link(here[0].directory, here[0].name, at.directory, at.name)
            else:
                start = spare.pop(0)
                start.driver.rename(start.directory, start.name, at.directory, at.name, replace=False)
        except FileExistsError:
            raise Conflict(at.driver.name, store.path(number) or b"") from None
        log.info("a power cut had taken an object from its place", inode=number)
        here.append(at)
    for at in spare if inode is None or not inode.is_dir else []:
        at.driver.unlink(at.directory, at.name)  # its other name was gone, or the object itself was removed
    return True


def search(store: Store, inode: Inode) -> bool:
    """Look for an object that is not in its place, in the areas where only the index knows what lies there."""
    if inode.backing is None or not inode.is_regular:
        return False
    spots = store.placement.spots(inode.number)
    device = store.roots[spots[0].root].device if spots else -1
    near = [root for root in store.roots.values() if root.online and not root.read_only and root.device == device]
    areas = [At(root, *root.id_area(inode.id)) for root in near]
    return restore(store, inode.number, inode.backing, areas)


def _holds(at: At, backing: Backing) -> bool:
    try:
        return is_object(at, backing)
    except (FileNotFoundError, NotADirectoryError):
        return False
