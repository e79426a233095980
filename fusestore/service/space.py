"""How much room there is: what `df` and `status` say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.core.ports import Space
from fusestore.errors import RootOffline
from fusestore.service import trash

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.service.store import Store


def space(store: Store) -> Space:
    """The sum over the file systems of all roots that are online, each counted once however many roots are on it."""
    spaces = {root.device: usable(store, root) for root in store.roots.values()}
    columns = zip(*(each for each in spaces.values() if each is not None), strict=True)
    return Space(*map(sum, columns)) if any(spaces.values()) else Space(0, 0, 0, 0, 0)


def usable(store: Store, root: Driver) -> Space | None:
    """The same as `room`, with what the trash gives up for whoever wants it."""
    now, held = room(root), trash.held_bytes(store, root)
    return now._replace(free=now.free + held, available=now.available + held) if now is not None else None


def room(root: Driver) -> Space | None:
    """The room on one root; None while its disk does not say."""
    try:
        return root.space()
    except (OSError, RootOffline):
        return None
