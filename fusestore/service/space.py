"""How much room there is: what `df` and `status` say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.core.ports import Space

if TYPE_CHECKING:
    from fusestore.service.store import Store


def space(store: Store) -> Space:
    """The sum over the file systems of all roots that are online, each counted once however many roots are on it."""
    spaces = {root.device: root.space() for root in store.roots.values() if root.online}
    columns = zip(*spaces.values(), strict=True)
    return Space(*(sum(column) for column in columns)) if spaces else Space(0, 0, 0, 0, 0)
