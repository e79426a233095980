"""Paths, which are stored nowhere: worked out from names, and remembered for directories as long as these stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fusestore.model import MOUNT_ROOT, InodeNo

if TYPE_CHECKING:
    from fusestore.core.ports import Catalog

MEMORY: Final = 10_000  # directories whose paths are remembered


class Paths:
    """Where names lead, relative to the mountpoint."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[InodeNo, bytes] = {}
        self.forget()

    def forget(self) -> None:
        """Drop what was worked out; for whoever changes a directory's name."""
        self._known = {MOUNT_ROOT: b""}

    def of(self, number: InodeNo) -> bytes | None:
        """A present path of an inode; None when no name leads there any more."""
        known = self._known.get(number)
        if known is not None:
            return known
        names = self._catalog.parents(number)
        return self.join(*names[0]) if names else None

    def join(self, parent: InodeNo, name: bytes) -> bytes | None:
        """The path of a name, existing or not."""
        parts: list[bytes] = []
        directory = parent
        while (above := self._known.get(directory)) is None:
            names = self._catalog.parents(directory)
            if not names:
                return None
            directory, part = names[0]
            parts.append(part)
        if parts:
            above = b"/".join([above, *reversed(parts)] if above else reversed(parts))
            if len(self._known) > MEMORY:
                self.forget()
            self._known[parent] = above
        return above + b"/" + name if above else name
