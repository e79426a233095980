"""The LMDB environment and its one open write transaction, through which everything is read and written.

What may not happen here: knowing what a row means. The transaction belongs to the thread that opened it; nothing else
may touch it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.index import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import lmdb


class Tables:
    """Rows by table number and key.

    The transaction is replaced at each commit; `_get` is bound to the present one, because a bound method is
    what the hot reads can afford.

    Attributes:
        _filled: by table number, 0 where a table is empty, so that hot reads need not ask those that mostly are.
        _followed: by table number, what is told of each row before it is written; it answers whether the row is
            written elsewhere.
    """

    _writes = True

    def __init__(self, env: lmdb.Environment, dbs: tuple[lmdb._Database, ...] = ()) -> None:
        """`dbs`: the tables, where they are open already."""
        self._env = env
        if not dbs:
            with env.begin(write=True) as txn:
                dbs = tuple(env.open_db(name.encode(), txn=txn) for name in schema.NAMES)
        self._dbs = dbs
        (
            self._inodes, self._ids, self._dentries, self._parents, self._xattrs, self._placements, self._occupants,
            self._skeletons, self._intents, self._identities, self._stamps, self._hashes, self._moves, self._open_moves,
            self._events, self._journal, self._roots, self._vanished, self._vanishings, self._meta, self._replicas,
            self._verified, self._due, self._trash,
        ) = self._dbs  # fmt: skip
        self._begin()

    def _begin(self) -> None:
        self._txn = self._env.begin(write=self._writes)
        self._get = self._txn.get
        self._filled = bytearray(self._txn.stat(db)["entries"] > 0 for db in self._dbs)
        self._followed: dict[int, Callable[[bytes, bytes | None], bool]] = {}

    def _write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Put the rows, by address, and delete those whose value is None.

        Raises:
            lmdb.Error: the transaction is lost.
        """
        put, delete, dbs, filled, followed = self._txn.put, self._txn.delete, self._dbs, self._filled, self._followed
        for address, value in rows.items():
            table, key = address[0], address[1:]
            if table in followed and followed[table](key, value):
                continue
            if value is not None:
                filled[table] = 1
                put(key, value, True, True, False, dbs[table])
            elif filled[table]:
                delete(key, b"", dbs[table])

    def scan(self, table: int, prefix: bytes = b"", start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) of a table whose key begins with `prefix`, from `start` on, in key order.

        Nothing may be written before the iterator is done with.
        """
        if not self._filled[table]:
            return
        cursor = self._txn.cursor(self._dbs[table])
        if cursor.set_range(max(prefix, start)):
            for item in cursor.iternext():
                if not item[0].startswith(prefix):
                    return
                yield item

    def scan_back(self, table: int, below: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) of a table, the highest key first, from below a bound on; as with `scan`."""
        cursor = self._txn.cursor(self._dbs[table])
        if cursor.prev() if below and cursor.set_range(below) else cursor.last():
            yield from cursor.iterprev()

    def get(self, table: int, key: bytes) -> bytes | None:
        return self._get(key, None, self._dbs[table])

    def has_prefix(self, table: int, prefix: bytes) -> bool:
        if not self._filled[table]:
            return False
        cursor = self._txn.cursor(self._dbs[table])
        return cursor.set_range(prefix) and cursor.key().startswith(prefix)

    def last_key(self, table: int, below: bytes = b"") -> bytes | None:
        """The highest key of a table, or the highest below a bound."""
        return next((key for key, _ in self.scan_back(table, below)), None)

    def counts(self) -> dict[str, int]:
        """Rows per table."""
        return {name: self._txn.stat(db)["entries"] for name, db in zip(schema.NAMES, self._dbs, strict=True)}

    def _live_bytes(self) -> int:
        """What the tables take, without the pages that are free for reuse."""
        stats = [self._txn.stat(db) for db in self._dbs]
        return sum((s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"]) * s["psize"] for s in stats)

    def _end_bytes(self) -> int:
        """Where the last page ever used ends, as of the last commit."""
        return (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]

    @property
    def size_bytes(self) -> int:
        return self._end_bytes()
