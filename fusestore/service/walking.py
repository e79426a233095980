"""Going through a tree as its names are now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.model import Inode, InodeNo
    from fusestore.service.store import Store

PAGE: Final = 200  # names read at once


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
        after = b""
        while inode.is_dir and (names := store.index.dentries(inode.number, after, PAGE)):
            after = names[-1][0]
            for _, number in names:
                child = store.index.inode(number)
                if child is None:
                    continue
                if child.is_dir:
                    todo.append(number)
                else:
                    yield child
