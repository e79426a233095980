"""What rm, mv and a writer would be told now: the same rules as the calls follow, asked without doing anything.

What only a system call can tell, such as rights, is not asked.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from fusestore.errors import FusestoreError
from fusestore.service import removing, renaming, writing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fusestore.core.ports import Driver
    from fusestore.model import Inode, InodeNo
    from fusestore.service.store import Store

Name = tuple["InodeNo", bytes]


class Answer(NamedTuple):
    """What one call would be told; None: it would be done."""

    call: str  # "rm", "rmdir", "write" or "mv"
    root: str  # where mv would bring it; "" for the others
    refusal: OSError | FusestoreError | None


async def ask(store: Store, inode: Inode) -> list[Answer]:
    """What each call on the first name of `inode` would be told; mv to the top of every other root."""
    names = store.index.parents(inode.number)
    if not names:
        return []
    name = names[0]
    asked: list[tuple[str, str, Callable[[], Awaitable[None]]]] = [
        ("rmdir" if inode.is_dir else "rm", "", partial(_remove, store, inode, name))
    ]
    if inode.is_regular:
        asked.append(("write", "", partial(_write, store, inode)))
    home = store.placement.home(inode.number)
    others = (root for root in store.roots.values() if root.number != home)
    asked += (("mv", root.name, partial(_move, store, name, root)) for root in others)
    return [Answer(call, root, await _refusal(ask_it)) for call, root, ask_it in asked]


async def _refusal(ask_it: Callable[[], Awaitable[None]]) -> OSError | FusestoreError | None:
    try:
        await ask_it()
    except (OSError, FusestoreError) as refusal:
        return refusal
    return None


async def _remove(store: Store, inode: Inode, name: Name) -> None:
    _changeable(store)
    if inode.is_dir:
        await removing.check_rmdir(store, *name)
        spots = store.placement.spots(inode.number)
    else:
        spots = removing.spots_of_name(store, removing.check_unlink(store, *name), *name).going
    for spot in store.disk_spots(inode, spots):
        store.places.at(spot, inode.number)


async def _write(store: Store, inode: Inode) -> None:
    _changeable(store)
    writing.check_regular(store, inode)
    if store.files.get(inode.number) is None:
        writing.openable(store, inode.number)


async def _move(store: Store, name: Name, root: Driver) -> None:
    _changeable(store)
    top = next(top for top, number in store.tops.items() if number == root.number)
    target = renaming.find_target(store, top, name[1])
    renaming.weigh(store, renaming.check_rename(store, *name, top, name[1], target, renaming.NOREPLACE, None))


def _changeable(store: Store) -> None:
    """Refuse everything when the index cannot be written."""
    if store.index.fault is not None:
        raise store.index.fault
