"""Open directories: a listing that stays put while entries come and go.

A listing remembers the names it has given out, in the index's name order, and reads on behind the last one. An offset
is a position in that memory, so `telldir` and `seekdir` hold for the life of the handle, a name that stays is given
exactly once, and a directory of a million names is never read at once. `rewinddir` begins anew, as POSIX wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.model import InodeNo
    from fusestore.service.store import Store

CHUNK: Final = 256


class Listing:
    """One open directory."""

    __slots__ = ("_fixed", "_names", "_store", "number", "parent")

    def __init__(
        self, store: Store, number: InodeNo, parent: InodeNo, fixed: list[tuple[bytes, InodeNo]] | None = None
    ) -> None:
        self._store = store
        self.number = number
        self.parent = parent
        self._fixed = fixed
        self._names: list[tuple[bytes, InodeNo]] = []

    def entries(self, start: int) -> Iterator[tuple[int, bytes, InodeNo]]:
        """(offset of the next entry, name, inode) from offset `start` on; 0 begins anew."""
        if start == 0:
            self._names = [(b".", self.number), (b"..", self.parent)] + (self._fixed or [])
        position = start
        while position < len(self._names) or self._more():
            name, number = self._names[position]
            position += 1
            yield position, name, number

    def _more(self) -> bool:
        if self._fixed is not None:
            return False
        after = self._names[-1][0] if len(self._names) > 2 else b""
        names = self._store.index.dentries(self.number, after, CHUNK)
        self._names += names
        return bool(names)
