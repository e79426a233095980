"""Keys and records: what goes in comes out, and keys sort like what they stand for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusestore.core import intents
from fusestore.errors import IndexFault
from fusestore.index import schema
from fusestore.model import Backing, Event, Inode, InodeNo, JournalEntry, Move, RootNo, RootRecord, Spot, Stamp

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
names = st.binary(min_size=1, max_size=255)

RECORDS: list[tuple[Any, Any]] = [
    (schema.INODE, Inode),
    (schema.SPOT, Spot),
    (schema.PLACEMENT, tuple[Spot, ...]),
    (schema.STAMP, Stamp),
    (schema.MOVE, Move),
    (schema.EVENT, Event),
    (schema.ENTRY, JournalEntry),
    (schema.ROOT, RootRecord),
    (schema.NUMBERS, schema.Numbers),
    *((schema.INTENT, kind) for kind in intents.Intent.__args__),
]


@st.composite
def values(draw: st.DrawFn, kind: Any) -> Any:
    """A value of a record's type, with integers that msgpack can hold."""
    st.register_type_strategy(int, st.integers(-(2**63), 2**64 - 1))
    return draw(st.from_type(kind))


@pytest.mark.parametrize(("record", "kind"), RECORDS, ids=[f"{kind}" for _, kind in RECORDS])
def test_a_record_comes_back_as_it_was_packed(record: schema.Record[Any], kind: Any) -> None:
    @given(values(kind))
    def round_trip(value: Any) -> None:
        assert record.unpack(record.pack(value)) == value

    round_trip()


@pytest.mark.parametrize("raw", [b"", b"\x01", b"\x02\x90", b"\x01\xc1", b"\x01\x92\x01\x02\x03"])
def test_an_unreadable_record_is_a_fault_not_a_guess(raw: bytes) -> None:
    with pytest.raises(IndexFault):
        schema.INODE.unpack(raw)


@given(st.tuples(u32, u64, names), st.tuples(u32, u64, names))
def test_spot_keys_sort_by_root_directory_and_name(a: tuple[int, int, bytes], b: tuple[int, int, bytes]) -> None:
    keys = [schema.spot_key(Spot(RootNo(root), InodeNo(directory), name)) for root, directory, name in (a, b)]
    assert (keys[0] < keys[1]) == (a < b)
    assert schema.read_place(keys[0]) == a[:2]


@given(st.lists(st.tuples(u64, st.integers(0, 65535)), min_size=2))
def test_journal_keys_sort_by_time_of_writing(lines: list[tuple[int, int]]) -> None:
    assert [schema.journal_key(b"i" * 16, *line) for line in sorted(lines)] == sorted(
        schema.journal_key(b"i" * 16, *line) for line in lines
    )


@given(u32, u64, st.integers(-(2**63), 2**63 - 1))
def test_different_disk_objects_have_different_identities(root: int, st_ino: int, btime_ns: int) -> None:
    backing = Backing(RootNo(root), st_ino, btime_ns)
    assert schema.identity_key(backing) != schema.identity_key(Backing(RootNo(root), st_ino ^ 1, btime_ns))
    assert schema.identity_key(backing) == schema.identity_key(Backing(RootNo(root), st_ino, btime_ns))


def test_the_longest_keys_fit_into_lmdb() -> None:
    longest = schema.u64(1) + schema.u64(2) + b"n" * 255
    assert max(len(longest), len(schema.spot_key(Spot(RootNo(1), InodeNo(2), b"n" * 255)))) <= 511
