"""As many copies of each settled file as its home root asks for (`copies` in the config), chosen here, made as wanted.

    settled, adopted, renamed to such a root ─┐
    `copies` was raised: the root's whole tree ┴─► due on no root yet ─► roots are chosen ─► wanted (`replicating`)

A file stays due until there are roots for all its copies, so what is lacking is known without a look at every file.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from fusestore.core.replicas import Candidate, choose
from fusestore.errors import RootOffline
from fusestore.index import schema
from fusestore.model import State
from fusestore.service import draining, replicas, replicating, room
from fusestore.service.replicas import ANY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, RootNo
    from fusestore.service.store import Store

NO_ROOT: Final = "no further root can hold a copy now"


def begin(store: Store) -> None:
    """Have every file looked at whose root asks for more copies than it did before, also at the last start."""
    batch = store.batch()
    for number in store.roots:
        wanted = store.copies.get(number, 1)
        key, value = schema.copies_row(number), schema.u64(wanted)
        known = store.index.get(schema.META, key)
        if known == value or (known is None and wanted == 1):
            continue
        batch.meta(key, value)
        if known is None or value > known:
            top = next(top for top, root in store.tops.items() if root == number)
            look_at(store, batch, top)
    if batch.rows:
        store.index.apply(batch)


def look_at(store: Store, batch: Batch, number: InodeNo) -> None:
    """Add to a batch that the copies of a file, or of every file below a directory, have to be counted."""
    batch.due(ANY, number)
    batch.then(partial(_tell, store, number))


def _tell(store: Store, number: InodeNo) -> None:
    store.on_due(ANY, number)


def consider(store: Store, batch: Batch, inode: Inode, home: RootNo | None) -> None:
    """Add the same to the batch that settles a file, or brings something to its home, if that root asks for copies."""
    if home in store.copies and (inode.is_dir or inode.is_regular):
        look_at(store, batch, inode.number)


def look_again(store: Store, number: InodeNo) -> None:
    """Have the copies of a file counted that was passed over while it was open or on its way, if it lacks any."""
    inode = store.index.inode(number) if store.copies else None
    if inode is not None and inode.is_regular and _lacking(store, inode):
        batch = store.batch()
        look_at(store, batch, number)
        store.index.apply(batch)


def provide(store: Store, batch: Batch, inode: Inode) -> int:
    """Add to a batch that the copies which a file lacks are wanted, each on a root chosen now; returns how many are.

    One that needs more of them than there are roots for stays due. That is no trouble while it is on its way: the root
    that it leaves may have one when it has arrived, and then it is looked at again.
    """
    number = inode.number
    lacking = needed = _lacking(store, inode)
    devices = {store.roots[root].device for root in _holding(store, number)}
    candidates = {each.root: each for each in _candidates(store, number)} if lacking else {}
    size = room.occupied(store, inode) if candidates else 0
    while lacking and (root := choose(candidates.values(), devices, size)) is not None:
        replicating.add(store, batch, inode, root)
        devices.add(candidates.pop(root).device)
        lacking -= 1
    batch.due(ANY, number, due=lacking > 0)
    if lacking and len(replicas.roots_of(store, number)) == 1:
        store.troubles[number, ANY] = NO_ROOT
    else:
        store.troubles.pop((number, ANY), None)
    return needed - lacking


def _lacking(store: Store, inode: Inode) -> int:
    """How many copies a file is short of; none while it is being written: it is looked at when it has settled."""
    home = store.placement.home(inode.number)
    if home is None or inode.state is State.WRITING or store.files.has_writer(inode.number):
        return 0
    return max(0, store.copies.get(home, 1) - 1 - len(store.index.replicas(inode.number)))


def _holding(store: Store, number: InodeNo) -> set[RootNo]:
    """The roots that have a copy of a file, or will have."""
    return replicas.roots_of(store, number) | {root for root, _ in store.index.replicas(number)}


def _candidates(store: Store, number: InodeNo) -> Iterator[Candidate]:
    holding = _holding(store, number)
    for root in store.roots.values():
        if root.number in holding or not draining.takes(store, root):
            continue
        try:
            available = room.free(store, root, promised=False)
        except (OSError, RootOffline):
            continue
        yield Candidate(root.number, root.device, available)
