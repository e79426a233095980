"""Letting go of what vanished from its disk and did not turn up again for a day (decision 0009)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fusestore.service.removing import drop

if TYPE_CHECKING:
    from fusestore.model import InodeNo
    from fusestore.service.store import Store

KEPT_NS: Final = 24 * 3600 * 1_000_000_000
AT_ONCE: Final = 200  # inodes dropped in one call: the rest waits for the next


def let_go(store: Store, now_ns: int) -> None:
    """Drop the rows of what vanished more than a day before `now_ns`, a directory's content before itself."""
    left = AT_ONCE
    for number in store.index.vanished(now_ns - KEPT_NS, AT_ONCE):
        left = _drop_tree(store, number, left)
        if left <= 0:
            return


def _drop_tree(store: Store, number: InodeNo, left: int) -> int:
    """Drop up to `left` inodes of a tree that no name leads to, from the bottom; returns how many more there may be."""
    left = _empty(store, number, left)
    inode = store.index.inode(number)
    if inode is not None and left > 0:
        batch = store.batch()
        drop(store, batch, inode)
        store.index.apply(batch)
        left -= 1
    return left


def _empty(store: Store, directory: InodeNo, left: int) -> int:
    for name, child in store.index.dentries(directory, b"", left):
        linked = len(store.index.parents(child)) > 1
        if not linked:
            left = _empty(store, child, left)
            if left <= 0:
                break
        batch = store.batch()
        batch.unlink(directory, name, child)
        inode = store.index.inode(child)
        if inode is not None and not linked:
            drop(store, batch, inode)
        store.index.apply(batch)
        left -= 1
    return left
