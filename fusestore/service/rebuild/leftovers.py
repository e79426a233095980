"""What moves had left behind when an index was lost: old bytes of files that have arrived elsewhere.

Where they are what the file is, byte by byte, a rebuild decides to destroy them, as the move would have, and the next
mount does it. Anything else stays, is told of, and shows as what it is.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fusestore.errors import FusestoreError
from fusestore.roots import content
from fusestore.service import restoring
from fusestore.service.describing import disk_path
from fusestore.service.discarding import discard
from fusestore.service.places import is_object

if TYPE_CHECKING:
    from fusestore.model import Backing, Inode, Spot
    from fusestore.service.places import At
    from fusestore.service.rebuild.identifying import Found
    from fusestore.service.rebuild.tally import Tally
    from fusestore.service.store import Store


def settle(store: Store, found: Found, tally: Tally) -> None:
    """Decide what becomes of all that was left.

    Raises:
        OSError: a disk cannot take what it was given.
    """
    for root in {store.roots[store.placement.spots(number)[0].root] for number, _ in found.left}:
        root.sync()  # a power cut must not take back what has arrived, and leave nothing
    for (number, backing), left in found.left.items():
        spots, root = tuple(left), store.roots[backing.root]
        inode = store.inode(number)
        if _is_what_the_file_is(store, inode, backing, spots):
            batch = store.batch()
            discard(store, batch, replace(inode, backing=backing), spots, moved=True)
            store.index.apply(batch)
            tally.count(root.number, "left")
            continue
        for spot in spots:
            path = os.path.relpath(disk_path(store, root, spot, inode), root.path)
            tally.count(root.number, "further_copies")
            tally.tell(root.number, "further copy", os.fsencode(path))


def _is_what_the_file_is(store: Store, inode: Inode, backing: Backing, spots: tuple[Spot, ...]) -> bool:
    try:
        old = next(at for at in restoring.reachable(store, spots, inode.number) if is_object(at, backing))
        return _are_same(old, store.place(inode.number))
    except (StopIteration, OSError, FusestoreError):
        return False


def _are_same(one: At, other: At) -> bool:
    """Whether two objects have the same content.

    Raises:
        OSError: as the disks say.
    """
    seen, its = one.driver.stat(one.directory, one.name), other.driver.stat(other.directory, other.name)
    kind = stat.S_IFMT(seen.st_mode)
    if (kind, seen.st_size, seen.st_rdev) != (stat.S_IFMT(its.st_mode), its.st_size, its.st_rdev):
        return False
    if kind == stat.S_IFLNK:
        return one.driver.readlink(one.directory, one.name) == other.driver.readlink(other.directory, other.name)
    if kind != stat.S_IFREG:
        return True
    fd = one.driver.open(one.directory, one.name, write=False)
    try:
        its_fd = other.driver.open(other.directory, other.name, write=False)
        try:
            return content.are_same(fd, its_fd)
        finally:
            content.close(its_fd)
    finally:
        content.close(fd)
