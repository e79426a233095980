"""Which commit of LMDB is known to be on the disk, and going back to it.

LMDB keeps its last two commits: the root of each is in one of the first two pages of its file (`MDB_meta` in LMDB's
mdb.c), and neither's pages are used again before the second commit after it. A commit is written without waiting for
the disk, which may hold up everybody for a long time, and synced beside the work that goes on (`index.durable`). Until
that is done a power cut may leave its root on the disk without its pages. So the number of the last commit that was
synced is kept in a file of its own until the run ends, and no third commit is made before the second is synced: whoever
opens the index after an unclean end goes back to the synced one, and the redo log, which still has all that came after
it, leads on.

    commit n ──► sync data and log ──► mark n ──► commit n + 1 may come, and the log before n may be written over
"""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MARK_NAME: Final = "synced"

_MARK: Final = struct.Struct(">Q")
_PAGE_HEADER_BYTES: Final = 16
_MAGIC: Final = (0xBEEFC0DE).to_bytes(4, sys.byteorder) + (1).to_bytes(4, sys.byteorder)  # and the version of 0.9
_PAGE_SIZE_AT: Final = 24  # in MDB_meta: the pad of its first table
_TXNID_AT: Final = 128
_META_BYTES: Final = 136


class Mark:
    """The number of the last synced commit, on the disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = os.open(directory / MARK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def read(self) -> int | None:
        """The number; None where none was ever set."""
        raw = os.pread(self._fd, _MARK.size, 0)
        return _MARK.unpack(raw)[0] if len(raw) == _MARK.size else None

    def set(self, txnid: int) -> None:
        """Keep the number of a commit that is on the disk; durable on return."""
        is_new = os.fstat(self._fd).st_size == 0
        os.pwrite(self._fd, _MARK.pack(txnid), 0)  # within one sector: the disk has the old number or the new one
        os.fdatasync(self._fd)
        if is_new:
            fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fsync(fd)
            os.close(fd)

    def close(self, *, remove: bool = False) -> None:
        """Close the file; `remove` it when the run has ended in order and there is nothing to go back on."""
        if remove:
            os.unlink(self._directory / MARK_NAME)
        os.close(self._fd)


class _Root(NamedTuple):
    """One of the two roots in an LMDB file."""

    offset: int
    meta: bytes

    @property
    def txnid(self) -> int:
        return int.from_bytes(self.meta[_TXNID_AT : _TXNID_AT + 8], sys.byteorder)


def go_back(data: Path, synced: int) -> None:
    """Forget the commit after `synced`, if there is one: nobody knows whether all of it is on the disk.

    What is not the file of this mark, such as one put back from a backup, is left as it is.

    Raises:
        OSError: as the disk says.
    """
    fd = os.open(data, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        roots = _roots(fd)
        if [root.txnid for root in roots] == [synced, synced + 1]:
            kept, dropped = roots
            os.pwrite(fd, kept.meta, dropped.offset)
            os.fdatasync(fd)
    finally:
        os.close(fd)


def _roots(fd: int) -> list[_Root]:
    """Both roots, the older first; fewer where a page is none of LMDB's."""
    found = []
    offset = _PAGE_HEADER_BYTES
    for _ in range(2):
        meta = os.pread(fd, _META_BYTES, offset)
        if len(meta) == _META_BYTES and meta.startswith(_MAGIC):
            found.append(_Root(offset, meta))
            offset += int.from_bytes(meta[_PAGE_SIZE_AT : _PAGE_SIZE_AT + 4], sys.byteorder)
    return sorted(found, key=lambda root: root.txnid)
