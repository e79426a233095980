"""Which inodes have been changed, for whoever keeps something in step with their rows.

A set of keys is all that a change costs here; what the rows say by then is read when somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fusestore.index.schema import INODES, OPEN_MOVES, PARENTS, PLACEMENTS, REPLICAS, SKELETONS, XATTRS, read_u64
from fusestore.model import InodeNo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.model import Inode

# Where in the address of a row the inode is whose row it is.
_OWNER: Final = dict.fromkeys((INODES, OPEN_MOVES, PARENTS, PLACEMENTS, REPLICAS, XATTRS), slice(1, 9)) | {
    SKELETONS: slice(5, 13)
}


class Changed:
    """What was changed since the last `take`."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()
        self._left: list[Inode] = []

    def note(self, rows: Iterable[bytes], left: list[Inode]) -> None:
        """A batch has been applied; `left`: see `Batch`."""
        for address in rows:
            owner = _OWNER.get(address[0])
            if owner is not None:
                self._keys.add(address[owner])
        self._left += left

    def take(self, most: int) -> tuple[list[InodeNo], list[Inode]]:
        """Of the inodes whose record, names, places, copies, moves or xattrs were changed so many, and all `left`."""
        keys = [self._keys.pop() for _ in range(min(most, len(self._keys)))]
        left, self._left = self._left, []
        return [InodeNo(read_u64(key)) for key in keys], left

    def __bool__(self) -> bool:
        """Whether there is more to take."""
        return bool(self._keys)
