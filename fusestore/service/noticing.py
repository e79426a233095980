"""What a notice from a root's disk leads to: a look at the name, as any lookup would take.

So a notice about our own doing changes nothing, and one that comes twice, late or in the wrong order does no harm.
Trouble with a name is left to whoever asks for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import structlog

from fusestore.errors import FusestoreError, NotFound
from fusestore.model import InodeNo, State
from fusestore.service import looking, refreshing
from fusestore.service.breath import Breath

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fusestore.service.looking import Seen
    from fusestore.service.store import Store

log = structlog.get_logger()

PAGE: Final = 500

Name = tuple[InodeNo, bytes]
Enter = Callable[[InodeNo], Awaitable[None]]


async def look_at(store: Store, names: Mapping[Name, bool], came: set[Name], enter: Enter) -> list[Name]:
    """Look at names of which there were notices, and are there.

    Args:
        names: with whether another object may lie there now.
        came: those that are new where they are; what of them is a directory is given to `enter`.

    Returns:
        those that are missing where the index has them: gone, or renamed, which is found under the new name.
    """
    breath = Breath()
    gone: list[Name] = []
    for name, may_be_another in names.items():
        if not may_be_another and _is_being_written(store, name):
            continue
        if not _is_there(store, name):
            if store.index.dentry(*name) is not None:
                gone.append(name)
        else:
            seen = _look(store, *name)
            if seen is not None and seen.inode.is_dir and name in came:
                await enter(seen.inode.number)
        await breath.take()
    return gone


async def let_go(store: Store, names: Iterable[Name]) -> None:
    """Look again at names that were missing, once nothing is to come of what they may be called now."""
    breath = Breath()
    for name in names:
        if store.index.dentry(*name) is not None:
            _look(store, *name)
        await breath.take()


async def look_through(store: Store, directory: InodeNo, *, is_new: bool) -> list[InodeNo]:
    """Look at all that is in a directory; returns the directories among it.

    Args:
        is_new: it has just come, and who listens is told of each name in it.
    """
    breath = Breath()
    found: list[InodeNo] = []
    try:
        await refreshing.refresh(store, directory, name_by_name=is_new)
    except (OSError, FusestoreError) as error:
        log.debug("a directory is not looked through", inode=directory, error=str(error))
    after = b""
    while names := store.index.dentries(directory, after, PAGE):
        after = names[-1][0]
        for name, _ in names:
            # What has gone since that listing may have been renamed; there is a notice of it.
            seen = _look(store, directory, name) if _is_there(store, (directory, name)) else None
            if seen is not None and seen.inode.is_dir:
                found.append(seen.inode.number)
            await breath.take()
    return found


def _is_being_written(store: Store, name: Name) -> bool:
    """Whether a look could tell nothing, because what is written through the mount differs from its record anyway."""
    number = store.index.dentry(*name)
    inode = store.index.inode(number) if number is not None else None
    return inode is not None and inode.state is State.WRITING


def _is_there(store: Store, name: Name) -> bool:
    try:
        driver, directory = store.places.directory(name[0])
        driver.stat(directory, name[1])
    except (OSError, FusestoreError):
        return False
    return True


def _look(store: Store, directory: InodeNo, name: bytes) -> Seen | None:
    try:
        return looking.lookup(store, directory, name)
    except NotFound:
        return None
    except (OSError, FusestoreError) as error:
        log.debug("a notice leads to nothing", inode=directory, name=name, error=str(error))
        return None
