"""What was begun and is not settled: the intents, most of which end before the next commit.

Like everything else they are in the redo log first. Their table gets only those that a commit finds open, so that a
change that is decided, done and settled within a moment costs the log alone: putting a row in and taking it out again
splits and joins a page of the table each time. `scan`, `counts` and the reads here see both; whoever asks the table in
another way sees what the last commit found open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.index import schema
from fusestore.index.schema import INTENTS, read_u64, u64
from fusestore.index.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.core.intents import Intent, Writing
    from fusestore.model import InodeNo


class Begun(Tables):
    """The intents."""

    def _begin(self) -> None:
        super()._begin()
        self._begun: dict[bytes, bytes | None] = {}  # rows of `intents` since the last commit; None: settled
        self._followed[INTENTS] = self._keep

    def _keep(self, key: bytes, value: bytes | None) -> bool:
        if value is not None or self._filled[INTENTS]:
            self._begun[key] = value
        else:
            self._begun.pop(key, None)
        return True

    def _put_begun(self) -> None:
        """Put what is open into its table, for the commit that ends this transaction.

        Raises:
            lmdb.Error: the transaction is lost.
        """
        del self._followed[INTENTS]
        self._write({schema.TAG[INTENTS] + key: value for key, value in self._begun.items()})

    def scan(self, table: int, prefix: bytes = b"", start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        if table != INTENTS:
            return super().scan(table, prefix, start)
        rows: dict[bytes, bytes | None] = {**dict(super().scan(table)), **self._begun}
        first = max(prefix, start)
        return iter(sorted((key, raw) for key, raw in rows.items() if raw and key >= first and key.startswith(prefix)))

    def counts(self) -> dict[str, int]:
        return {**super().counts(), schema.NAMES[INTENTS]: sum(1 for _ in self.scan(INTENTS))}

    def intents(self) -> list[tuple[int, Intent]]:
        """Everything begun and not settled, with its key, in the order it was begun; `Writing` intents last."""
        return [(read_u64(key), schema.INTENT.unpack(value)) for key, value in self.scan(INTENTS)]

    def writing(self, number: InodeNo) -> Writing | None:
        """The writing period of an inode that is not settled yet."""
        key = u64(schema.writing_key(number))
        raw = self._begun[key] if key in self._begun else self._get(key, None, self._intents)
        return schema.INTENT.unpack(raw) if raw is not None else None  # type: ignore[return-value]  # by its key
