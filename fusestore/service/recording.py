"""What a root's manifest is to say of an inode, and which root's manifest says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.model import MOUNT_ROOT, RESOURCES, UPLOADS, Layout
from fusestore.roots.manifest import Entry, Frame, Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fusestore.model import Inode, InodeNo, RootNo
    from fusestore.service.store import Store


def head_of(store: Store, root: RootNo) -> Head:
    return Head(store.index.uuid, store.roots[root].uuid, tuple(store.index.roots()))


def frame_of(
    store: Store, entries: list[Entry], gone: list[InodeNo] | None = None, *, anew: bool = False, step: int = 0
) -> Frame:
    """A frame of entries that are true now; for `step` and `anew` see `Frame`."""
    index = store.index
    numbers = index.numbers
    return Frame(
        epoch=index.epoch,
        change=index.changes,
        seq=index.last_seq,
        inode_limit=numbers.inode_limit,
        last_move=index.last_move,
        step=step,
        anew=anew,
        gone=gone or [],
        entries=entries,
    )


def entry_of(store: Store, inode: Inode) -> Entry:
    index, number = store.index, inode.number
    return Entry(
        inode,
        index.parents(number),
        index.placement(number) or (),
        tuple(index.skeletons(number)) if inode.is_dir else (),
        {name: index.xattr(number, name) or b"" for name in index.xattrs(number)},
        tuple(index.replicas(number)) if inode.is_regular and index.has_replicas() else (),
        index.has_open_moves() and bool(index.open_moves_of(number)),
    )


def keeper_of(store: Store, inode: Inode) -> RootNo | None:
    """The root whose manifest has the entry of an inode: where its disk object was last registered.

    What has none lies in an `id` root, or is the skeleton of the tree, which uploads keeps. None for what has no name.
    """
    number = inode.number
    if number in (MOUNT_ROOT, RESOURCES):
        return store.tops[UPLOADS]
    if not store.index.parents(number):
        return None
    if inode.backing is not None:
        return inode.backing.root
    root = store.root_of(number)
    return root.number if root is not None else None


def keepers_of_old(store: Store, inode: Inode) -> Iterable[RootNo]:
    """The roots whose manifests may have an entry for what an old record says."""
    if inode.backing is not None:
        return (inode.backing.root,)
    return [number for number, layout in store.layouts.items() if layout is Layout.ID]


def sort_out(
    store: Store, numbers: Sequence[InodeNo], left: Sequence[Inode]
) -> tuple[dict[RootNo, list[Entry]], dict[RootNo, list[InodeNo]]]:
    """By root: the entries of inodes that were changed, and those that are gone from there."""
    entries: dict[RootNo, list[Entry]] = {}
    gone: dict[RootNo, list[InodeNo]] = {}
    for number in numbers:
        inode = store.index.inode(number)
        if inode is None:
            continue
        root = keeper_of(store, inode)
        if root is not None:
            entries.setdefault(root, []).append(entry_of(store, inode))
        else:
            left = [*left, inode]
    for inode in left:
        for root in keepers_of_old(store, inode):
            gone.setdefault(root, []).append(inode.number)
    return entries, gone
