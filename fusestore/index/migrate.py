"""The format version of an index, and the steps from one to the next.

A step turns the rows of format n into those of n + 1 inside one transaction, together with the version itself: a
crash leaves the old format or the new one. It sees raw rows only, because `schema` describes the newest format alone.
Table numbers are never reused, so a log written by an older program is replayed first and migrated with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from fusestore.errors import NewerFormat, StoreError
from fusestore.index.schema import (
    EVENTS,
    FORMAT,
    FORMAT_ROW,
    META,
    NUMBERS,
    NUMBERS_ROW,
    TAG,
    UNNOTED_ROW,
    read_u64,
    u64,
)

if TYPE_CHECKING:
    from fusestore.index.tables import Tables

Rows = Mapping[bytes, bytes | None]
Step = Callable[["Tables"], Rows]  # reads the old rows, returns the new ones by address; None deletes


def _nothing(_: Tables) -> Rows:
    """The new tables are empty; the new number keeps programs away that do not know them."""
    return {}


def _seqs(tables: Tables) -> Rows:
    """An inode knows its last event from now on: any that it has had may be as late as the last one of all."""
    raw, newest = tables.get(META, NUMBERS_ROW), tables.last_key(EVENTS)
    assert raw is not None
    last_seq = max(NUMBERS.unpack(raw).last_seq, read_u64(newest) if newest else 0)
    return {TAG[META] + UNNOTED_ROW: u64(last_seq)}


STEPS: Final[Mapping[int, Step]] = {1: _nothing, 2: _seqs}


def parse_format(raw: bytes | None, where: object) -> int:
    """The format number in a `meta` row.

    Raises:
        StoreError: there is none; NewerFormat.
    """
    if raw is None or not raw.isdigit():
        raise StoreError(f"{where} is not the index of a fusestore store")
    found = int(raw)
    if found > FORMAT:
        raise NewerFormat(f"{where} has format {found}, this program knows up to {FORMAT}; use a newer fusestore")
    return found


def migrate(tables: Tables, found: int, steps: Mapping[int, Step] = STEPS, to: int = FORMAT) -> Iterator[Rows]:
    """Yield what to write for each step from format `found` to `to`; each step reads what the last one wrote."""
    for old in range(found, to):
        yield {**steps[old](tables), TAG[META] + FORMAT_ROW: str(old + 1).encode()}
