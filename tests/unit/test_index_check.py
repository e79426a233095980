"""Each invariant of the schema is seen when it is broken, and only that one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from fusestore.core.intents import Create
from fusestore.index import schema
from fusestore.index.batch import Batch
from fusestore.index.check import check
from fusestore.index.schema import TAG, u32, u64
from fusestore.index.store import Index
from fusestore.model import (
    FIRST_INODE,
    RESOURCES,
    Backing,
    Consumer,
    InodeNo,
    Move,
    MoveNo,
    MoveState,
    Outcome,
    Replica,
    ReplicaState,
    RootNo,
    Spot,
    Stamp,
    Trashed,
    Verified,
)
from tests.support.indexes import COLD, DIRECTORY, MAIN, create, event, furnish, inode, spot, witnesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE_NO = InodeNo(FIRST_INODE)
DIR_NO = InodeNo(FIRST_INODE + 1)
SUB_NO = InodeNo(FIRST_INODE + 2)
MISSING = InodeNo(FIRST_INODE - 1)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with witnesses() as place:
        opened = Index.open(tmp_path / "index", create=True, witnesses=place)
        furnish(opened)
        create(opened, b"file", hash=b"h" * 32, hash_version=1, hash_algorithm="blake3")
        create(opened, b"dir", DIRECTORY)
        create(opened, b"sub", DIRECTORY, parent=DIR_NO)
        batch = Batch()
        batch.place(FILE_NO, (spot(b"a"), spot(b"b")), None)
        batch.skeleton(DIR_NO, spot(b"dir", root=COLD))
        batch.stamp(DIR_NO, Stamp(MAIN, 1))
        batch.move(Move(MoveNo(1), FILE_NO, b"", "main", "cold", b"", b"", 0, 0, 1))
        batch.vanish(SUB_NO, 9)
        batch.replica(FILE_NO, COLD, Replica(ReplicaState.CURRENT, version=1))
        batch.due(COLD, DIR_NO)
        opened.apply(batch)
        yield opened
        opened.close()


def row(table: int, key: bytes, value: bytes | None) -> Callable[[Batch], None]:
    def plant(batch: Batch) -> None:
        batch.rows[TAG[table] + key] = value

    return plant


def raw_inode(**fields: Any) -> Callable[[Batch], None]:
    plain: dict[str, Any] = {"hash": b"h" * 32, "hash_version": 1, "hash_algorithm": "blake3"}
    return row(schema.INODES, u64(FILE_NO), schema.INODE.pack(inode(FILE_NO, **(plain | fields))))


def verified(outcome: Outcome = Outcome.SOUND) -> bytes:
    return schema.VERIFICATION.pack(Verified(1, 1, MAIN, outcome))


def trashed(**fields: Any) -> Trashed:
    plain = Trashed(MAIN, b"7-a", FILE_NO, b"", b"a", Backing(MAIN, 9, 9), 7, 9, "moved")
    return replace(plain, **fields)


def in_trash(*all_of: Trashed) -> Callable[[Batch], None]:
    def plant(batch: Batch) -> None:
        for each in all_of:
            batch.trash(each)

    return plant


def second_name_for_a_directory(batch: Batch) -> None:
    batch.link(RESOURCES, b"again", SUB_NO)


def cycle(batch: Batch) -> None:
    batch.unlink(RESOURCES, b"dir", DIR_NO)
    batch.link(SUB_NO, b"dir", DIR_NO)


def no_name(batch: Batch) -> None:
    batch.unlink(RESOURCES, b"file", FILE_NO)


def dentries_in_a_file(batch: Batch) -> None:
    batch.unlink(DIR_NO, b"sub", SUB_NO)
    batch.link(FILE_NO, b"sub", SUB_NO)


def placement_on_two_roots(batch: Batch) -> None:
    batch.place(FILE_NO, (spot(b"a"), spot(b"b", root=COLD)), (spot(b"a"), spot(b"b")))


def skeleton_of_a_file(batch: Batch) -> None:
    batch.skeleton(FILE_NO, spot(b"file", root=COLD))


def placement_on_an_unknown_root(batch: Batch) -> None:
    batch.place(FILE_NO, (Spot(RootNo(9), RESOURCES, b"a"),), (spot(b"a"), spot(b"b")))


def stamp_of_an_unknown_root(batch: Batch) -> None:
    batch.stamp(DIR_NO, Stamp(RootNo(9), 1))


def event_of_a_seq_not_given_out(batch: Batch) -> None:
    late = event(inode(FILE_NO))
    late.seq, late.epoch = 9, 1
    batch.rows[TAG[schema.EVENTS] + u64(9)] = schema.EVENT.pack(late)


BROKEN: list[tuple[str, Callable[[Batch], None]]] = [
    ("I1", row(schema.IDS, FILE_NO.to_bytes(16, "big"), None)),
    ("I1", row(schema.IDS, b"x" * 16, u64(FILE_NO))),
    ("I1", row(schema.IDS, b"x" * 16, u64(MISSING))),
    ("I2", row(schema.PARENTS, u64(FILE_NO) + u64(RESOURCES) + b"file", None)),
    ("I2", row(schema.DENTRIES, u64(DIR_NO) + b"x", u64(FILE_NO))),
    ("I2", row(schema.PARENTS, u64(FILE_NO) + u64(RESOURCES) + b"x", b"")),
    ("I3", lambda batch: batch.link(RESOURCES, b"x", MISSING)),
    ("I3", lambda batch: batch.link(MISSING, b"x", FILE_NO)),
    ("I3", dentries_in_a_file),
    ("I4", no_name),
    ("I5", second_name_for_a_directory),
    ("I5", cycle),
    ("I6", row(schema.OCCUPANTS, schema.spot_key(spot(b"a")), None)),
    ("I6", row(schema.OCCUPANTS, schema.spot_key(spot(b"x")), u64(FILE_NO))),
    ("I6", row(schema.OCCUPANTS, schema.spot_key(spot(b"a")), u64(SUB_NO))),
    ("I6", placement_on_two_roots),
    ("I6", row(schema.PLACEMENTS, u64(SUB_NO), schema.PLACEMENT.pack(()))),
    ("I7", row(schema.OCCUPANTS, schema.spot_key(spot(b"dir", root=COLD)), None)),
    ("I7", skeleton_of_a_file),
    ("I7", row(schema.SKELETONS, schema.skeleton_key(MAIN, DIR_NO), schema.SPOT.pack(spot(b"dir", root=COLD)))),
    ("I8", row(schema.XATTRS, u64(MISSING) + b"user.a", b"")),
    ("I8", row(schema.STAMPS, u64(MISSING), schema.STAMP.pack(Stamp(MAIN, 1)))),
    ("I8", row(schema.HASHES, schema.hash_prefix("blake3", b"h" * 32) + u64(MISSING), b"")),
    ("I8", row(schema.IDENTITIES, bytes(3) + b"\x01" + bytes(16), u64(MISSING))),
    ("I8", row(schema.ROOTS, u32(COLD), None)),
    ("I8", placement_on_an_unknown_root),
    ("I8", stamp_of_an_unknown_root),
    ("I9", raw_inode(backing=None)),
    ("I9", row(schema.IDENTITIES, bytes(3) + b"\x01" + bytes(16), u64(FILE_NO))),
    ("I10", raw_inode(hash=b"g" * 32)),
    ("I10", raw_inode(version=2)),
    ("I11", row(schema.EVENTS, u64(2), None)),
    ("I11", row(schema.EVENTS, u64(3), None)),
    ("I11", event_of_a_seq_not_given_out),
    ("I12", lambda batch: batch.put_inode(inode(FIRST_INODE + 3))),
    ("I13", row(schema.OPEN_MOVES, u64(FILE_NO) + u64(1), None)),
    ("I13", row(schema.OPEN_MOVES, u64(FILE_NO) + u64(2), b"")),
    ("I13", row(schema.VANISHINGS, u64(9) + u64(SUB_NO), None)),
    ("I13", row(schema.VANISHINGS, u64(8) + u64(SUB_NO), b"")),
    ("I14", row(schema.MOVES, u64(7), b"\x01\xc1")),
    ("I14", row(schema.PLACEMENTS, u64(FILE_NO), b"")),
    ("I14", row(schema.REPLICAS, schema.replica_key(FILE_NO, COLD), b"\x01\xc1")),
    ("I8", row(schema.REPLICAS, schema.replica_key(MISSING, COLD), schema.REPLICA.pack(Replica(ReplicaState.BAD)))),
    ("I8", row(schema.DUE, schema.due_key(COLD, MISSING), b"")),
    ("I8", row(schema.DUE, schema.due_key(9, DIR_NO), b"")),
    ("I15", lambda batch: batch.replica(DIR_NO, COLD, Replica(ReplicaState.WANTED))),
    ("I15", lambda batch: batch.replica(FILE_NO, MAIN, Replica(ReplicaState.BAD))),
    ("I15", lambda batch: batch.replica(FILE_NO, COLD, Replica(ReplicaState.CURRENT, version=2))),
    ("I15", row(schema.DUE, schema.due_key(COLD, FILE_NO), b"")),
    ("I15", row(schema.DUE, schema.due_key(MAIN, FILE_NO), b"")),
    ("I8", row(schema.TRASH, schema.trash_key(trashed(root=RootNo(9))), schema.TRASHED.pack(trashed(root=RootNo(9))))),
    ("I14", row(schema.TRASH, u32(MAIN), b"\x01\xc1")),
    ("I16", row(schema.TRASH, schema.trash_key(trashed(until_ns=8)), schema.TRASHED.pack(trashed()))),
    ("I16", in_trash(trashed(), trashed(until_ns=8))),
    ("I16", in_trash(trashed(backing=Backing(MAIN, 10_000 + FILE_NO, 1)))),
    ("I8", row(schema.VERIFIED, u64(MISSING), verified())),
    ("I8", row(schema.VERIFIED, schema.damaged_key(MISSING), b"")),
    ("I14", row(schema.VERIFIED, u64(FILE_NO), b"\x01\xc1")),
    ("I17", row(schema.VERIFIED, u64(DIR_NO), verified())),
    ("I17", row(schema.VERIFIED, u64(FILE_NO), verified(Outcome.DAMAGED))),
    ("I17", row(schema.VERIFIED, schema.damaged_key(FILE_NO), b"")),
    ("I18", row(schema.META, schema.consumer_row("a"), schema.CONSUMER.pack(Consumer(99, 1, 0)))),
    ("I18", row(schema.META, schema.consumer_row("a"), schema.CONSUMER.pack(Consumer(1, 2, 0)))),
    ("I18", row(schema.META, schema.consumer_row("a"), schema.CONSUMER.pack(Consumer(1, 0, 0)))),
    ("I18", row(schema.META, schema.consumer_row("a"), b"\x01\xc1")),
]  # fmt: skip


def test_a_sound_index_has_no_violations(index: Index) -> None:
    assert list(check(index)) == []


@pytest.mark.parametrize(("invariant", "plant"), BROKEN, ids=[f"{name}-{at}" for at, (name, _) in enumerate(BROKEN)])
def test_what_is_broken_is_found(index: Index, invariant: str, plant: Callable[[Batch], None]) -> None:
    batch = Batch()
    plant(batch)
    index.apply(batch)
    found = list(check(index))
    assert invariant in {violation.invariant for violation in found}, found
    assert all(violation.text for violation in found)


def test_every_invariant_is_broken_at_least_once_above() -> None:
    stated = set(re.findall(r"^I\d+", schema.__doc__ or "", re.MULTILINE))
    assert {name for name, _ in BROKEN} == stated


def test_a_cycle_is_told_once(index: Index) -> None:
    batch = Batch()
    cycle(batch)
    index.apply(batch)
    assert sum(violation.invariant == "I5" for violation in check(index)) == 1


def test_an_unreadable_inode_does_not_stop_the_check(index: Index) -> None:
    batch = Batch()
    batch.rows[TAG[schema.INODES] + u64(FILE_NO)] = b"\x01\xc1"
    batch.rows[TAG[schema.XATTRS] + u64(MISSING) + b"user.a"] = b""
    index.apply(batch)
    assert {"I8", "I14"} <= {violation.invariant for violation in check(index)}


@pytest.mark.parametrize("state", [MoveState.DONE, MoveState.SUPERSEDED])
def test_a_finished_move_may_outlive_its_inode(index: Index, state: MoveState) -> None:
    batch = Batch()
    batch.move(Move(MoveNo(2), MISSING, b"", "main", "cold", b"", b"", 0, 0, 1, state=state))
    index.apply(batch)
    assert list(check(index)) == []


def test_an_intent_covers_an_inode_without_a_name(index: Index) -> None:
    batch = Batch()
    no_name(batch)
    batch.intent(index.new_intent(), Create(FILE_NO, b"", RESOURCES, b"file", spot(b"file"), 0o644, 0, 0))
    index.apply(batch)
    assert list(check(index)) == []
