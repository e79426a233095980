"""Going through a tree as its names are now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.model import Inode, InodeNo
    from fusestore.service.store import Store

PAGE: Final = 200  # names read at once


def above(store: Store, number: InodeNo) -> Iterator[InodeNo]:
    """The directories from an inode's first name up, the nearest first."""
    while names := store.index.parents(number):
        number = names[0][0]
        yield number


def below(store: Store, top: InodeNo) -> Iterator[Inode]:
    """Every inode from `top` down, a directory before what is in it; one with several names comes as often.

    Each is looked up when its turn comes, a directory's names when the next inode is asked for. So a caller may await
    between two: what is gone by then is left out, and what turns up in a directory just given is seen.
    """
    todo = [top]
    while todo:
        inode = store.index.inode(todo.pop())
        if inode is None:
            continue
        yield inode
        for child in children(store, inode.number) if inode.is_dir else ():
            if child.is_dir:
                todo.append(child.number)
            else:
                yield child


def path_below(store: Store, number: InodeNo, top: InodeNo) -> bytes:
    """A path that leads to an inode by way of the directory `top`; any path, or b"", when none does any more."""
    for parent, name in store.index.parents(number):
        if parent == top or top in above(store, parent):
            return store.join(parent, name) or b""
    return store.path(number) or b""


def children(store: Store, directory: InodeNo) -> Iterator[Inode]:
    """What is in a directory, in the order of names; one with several names there comes as often.

    A caller may await between two, as for `below`.
    """
    after = b""
    while names := store.index.dentries(directory, after, PAGE):
        after = names[-1][0]
        for _, number in names:
            child = store.index.inode(number)
            if child is not None:
                yield child
