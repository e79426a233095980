"""What there is at one moment: every object under each of its names, while the tree goes on changing.

It is read from one commit of the index (`index.view`), so it is what all events up to that commit's `seq` have made of
the tree, and the next event leads on from it. The disks are not looked at, and no event tells of what a look at them
would bring in: `partial` says where that may be.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fusestore.core.placement import Placement
from fusestore.model import MOUNT_ROOT, Layout
from fusestore.service import describing
from fusestore.service.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fusestore.model import Inode, InodeNo, RootNo
    from fusestore.service.store import Store


class Presence:
    """The content of a tree, or of some paths in it, at the last commit; to be closed as soon as it is read.

    Args:
        paths: relative to the mountpoint; what has no such name is left out. None for all.

    Attributes:
        seq, epoch: of the last event that it contains.
        partial: roots that were met with directories whose disk was never listed in full.
    """

    def __init__(self, store: Store, paths: Sequence[str] | None) -> None:
        self._store = store
        self._view = store.index.view()
        self._placement = Placement(self._view, store.tops, store.layouts)
        self._names = Paths(self._view)
        self._paths = _outermost(paths if paths is not None else [""])
        self.seq, self.epoch = self._view.seq, self._view.epoch
        self.partial: set[str] = set()

    def close(self) -> None:
        self._view.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each name with its object, a directory before what is in it; a caller may pause between two."""
        for path in self._paths:
            number = MOUNT_ROOT
            names: tuple[tuple[InodeNo, bytes], ...] = ()
            for name in path.split(b"/") if path else ():
                found = self._view.dentry(number, name)
                if found is None:
                    break
                number, names = found, ((number, name),)
            else:
                yield from self._below(number, names, path)

    def _below(self, top: InodeNo, names: tuple[tuple[InodeNo, bytes], ...], path: bytes) -> Iterator[dict[str, Any]]:
        inode = self._view.inode(top)
        assert inode is not None
        yield self._one(inode, names, path)
        way = [(top, path, self._view.names(top))] if inode.is_dir else []  # an iterator each: as deep as the tree
        while way:
            parent, above, children = way[-1]
            for name, number in children:
                inode = self._view.inode(number)
                assert inode is not None
                path = above + b"/" + name if above else name
                yield self._one(inode, ((parent, name),), path)
                if inode.is_dir:
                    way.append((number, path, self._view.names(number)))
                    break
            else:
                way.pop()

    def by_id(self) -> Iterator[tuple[bytes, int, Inode]]:
        """Every object in the order of ids, with the seq of its last event; a caller may pause between two."""
        for id, number in self._view.ids():
            inode = self._view.inode(number)
            assert inode is not None
            if inode.is_dir:
                self._note(inode.number, self._placement.default_root(number))
            yield id, self._view.last_event(inode), inode

    def describe(self, inode: Inode) -> dict[str, Any] | None:
        """One object with all its names, wherever they are; None if it has none."""
        names = self._view.parents(inode.number)
        paths = [path for name in names if (path := self._names.join(*name)) is not None]
        if inode.number == MOUNT_ROOT:
            paths = [b""]
        if not paths:
            return None
        return {**self._one(inode, names, paths[0]), "paths": [describing.text(path) for path in paths]}

    def _one(self, inode: Inode, names: tuple[tuple[InodeNo, bytes], ...], path: bytes) -> dict[str, Any]:
        number, roots = inode.number, self._store.roots
        if inode.nlink > 1 and not inode.is_dir:
            names = self._view.parents(number)  # its place follows from all of them
        spots = self._view.placement(number) or self._placement.inherited(names)
        home = self._store.tops.get(number) or self._placement.home_of(names, lambda: spots)
        root = spots[0].root if spots else home
        if inode.is_dir:
            self._note(number, root)
        return describing.present(
            inode, path, roots[root].name if root is not None else "", roots[home].name if home is not None else ""
        )

    def _note(self, directory: InodeNo, root: RootNo | None) -> None:
        """See whether a directory was ever listed."""
        if root is not None and self._store.layouts[root] is Layout.TREE:
            stamp = self._view.stamp(directory)
            if stamp is None or stamp.root != root:
                self.partial.add(self._store.roots[root].name)


def _outermost(paths: Sequence[str]) -> list[bytes]:
    """Those that lie below no other one."""
    kept: list[bytes] = []
    for path in sorted({os.fsencode(path) for path in paths}, key=lambda path: path.split(b"/") if path else []):
        if not kept or not (not kept[-1] or path.startswith(kept[-1] + b"/")):
            kept.append(path)
    return kept
