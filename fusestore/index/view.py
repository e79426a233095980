"""The index as it is at one commit, whatever is applied and committed after it.

A read transaction of its own: beginning one costs nothing and holds nobody up. But LMDB uses no page again that an open
one can see, and the data file grows instead, so none may wait for a peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.errors import IndexFault
from fusestore.index import schema
from fusestore.index.rows import Rows
from fusestore.index.schema import META, NUMBERS_ROW, UNNOTED_ROW, read_u64, u64
from fusestore.model import InodeNo

if TYPE_CHECKING:
    from collections.abc import Iterator

    import lmdb

    from fusestore.model import Inode


class View(Rows):
    """The rows of one commit.

    Attributes:
        seq: of the last event before the commit: the rows are what all events up to it have made of them.
        epoch: of that event.
    """

    _writes = False

    def __init__(self, env: lmdb.Environment, dbs: tuple[lmdb._Database, ...]) -> None:
        super().__init__(env, dbs)
        raw = self.get(META, NUMBERS_ROW)
        if raw is None:
            raise IndexFault("no numbers in the index")
        numbers = schema.NUMBERS.unpack(raw)
        self.seq, self.epoch = numbers.last_seq, numbers.epoch
        unnoted = self.get(META, UNNOTED_ROW)
        self._unnoted = read_u64(unnoted) if unnoted is not None else 0

    def names(self, directory: InodeNo) -> Iterator[tuple[bytes, InodeNo]]:
        """The names in a directory, one by one; here a caller may pause between two."""
        for key, value in self.scan(schema.DENTRIES, u64(directory)):
            yield key[8:], InodeNo(read_u64(value))

    def ids(self) -> Iterator[tuple[bytes, InodeNo]]:
        """Every id with its inode, in the order of ids; a caller may pause between two."""
        for key, value in self.scan(schema.IDS):
            yield key, InodeNo(read_u64(value))

    def last_event(self, inode: Inode) -> int:
        """The seq of the last event about an inode, or a later one."""
        return max(inode.seq, self._unnoted)

    def close(self) -> None:
        self._txn.abort()
