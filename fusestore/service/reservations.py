"""Which files are reserved now (`service.reserving`), found by file and by connection."""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.model import InodeNo

MOST: Final = 10_000  # of one connection
NAMED: Final = 5  # owners of a file


class Reservations:
    """All of them."""

    def __init__(self) -> None:
        self._of: defaultdict[InodeNo, set[tuple[object, str]]] = defaultdict(set)  # by which connection, for whom
        self._by: defaultdict[object, set[tuple[InodeNo, str]]] = defaultdict(set)

    def __len__(self) -> int:
        """How many files are reserved."""
        return len(self._of)

    def add(self, holder: object, claims: set[tuple[InodeNo, str]]) -> bool:
        """Reserve files for owners, or none of them; False when they would be too many."""
        if len(self.of(holder) | claims) > MOST:
            return False
        self._by[holder] |= claims
        for number, owner in claims:
            self._of[number].add((holder, owner))
        return True

    def remove(self, holder: object, claims: Iterable[tuple[InodeNo, str]]) -> int:
        """Release what there is of these; returns how many it was."""
        gone = self.of(holder).intersection(claims)
        for number, owner in gone:
            self._of[number].discard((holder, owner))
            if not self._of[number]:
                del self._of[number]
        if gone:
            self._by[holder] -= gone
            if not self._by[holder]:
                del self._by[holder]
        return len(gone)

    def of(self, holder: object) -> set[tuple[InodeNo, str]]:
        """What a connection has reserved, and for whom."""
        return self._by.get(holder, set())

    def owners(self, number: InodeNo) -> list[str]:
        """Who has a file reserved; of many, some and how many more."""
        owners = {owner for _, owner in self._of.get(number, ())}
        named = heapq.nsmallest(NAMED, owners)
        return named + ([f"{len(owners) - NAMED} others"] if len(owners) > NAMED else [])
