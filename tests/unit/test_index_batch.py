"""Batches: what a change makes visible, and the rows that follow by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fusestore.core.intents import Attributes, Writing
from fusestore.index.batch import Batch
from fusestore.index.check import check
from fusestore.index.store import Index
from fusestore.model import (
    RESOURCES,
    InodeNo,
    JournalEntry,
    Layout,
    Move,
    MoveNo,
    MoveState,
    Replica,
    ReplicaState,
    RootNo,
    RootRecord,
    Spot,
    Stamp,
)
from tests.support.indexes import COLD, DIRECTORY, MAIN, create, furnish, inode, remove, spot, witnesses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusestore.model import Event


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index that must be sound when the test is done with it."""
    with witnesses() as place:
        opened = Index.open(tmp_path / "index", create=True, witnesses=place)
        furnish(opened)
        yield opened
        assert list(check(opened)) == []
        opened.close()


def test_nothing_is_visible_before_apply(index: Index) -> None:
    batch = Batch()
    made = inode(index.new_inode())
    batch.put_inode(made)
    batch.link(RESOURCES, b"a", made.number)
    assert index.inode(made.number) is None
    assert index.dentry(RESOURCES, b"a") is None
    index.apply(batch)
    assert index.inode(made.number) == made
    assert index.dentry(RESOURCES, b"a") == made.number
    assert index.parents(made.number) == ((RESOURCES, b"a"),)
    assert index.by_id(made.id) == made.number


def test_names_are_listed_in_byte_order_and_in_pieces(index: Index) -> None:
    for name in (b"b", b"a", b"\xff", b"ab"):
        create(index, name)
    assert [name for name, _ in index.dentries(RESOURCES)] == [b"a", b"ab", b"b", b"\xff"]
    assert [name for name, _ in index.dentries(RESOURCES, b"a", 2)] == [b"ab", b"b"]
    assert index.dentries(RESOURCES, b"\xff") == []
    assert index.has_dentries(RESOURCES)
    assert not index.has_dentries(InodeNo(300))


def test_a_hard_link_adds_a_name_and_a_rename_moves_one(index: Index) -> None:
    number = create(index, b"a").number
    batch = Batch()
    batch.link(RESOURCES, b"b", number)
    index.apply(batch)
    batch = Batch()
    batch.unlink(RESOURCES, b"a", number)
    batch.link(RESOURCES, b"c", number)
    index.apply(batch)
    assert index.parents(number) == ((RESOURCES, b"b"), (RESOURCES, b"c"))


def test_the_order_of_link_and_unlink_does_not_matter_when_a_name_changes_hands(index: Index) -> None:
    a, b = create(index, b"a"), create(index, b"b")
    batch = Batch()
    batch.link(RESOURCES, b"b", a.number)
    batch.unlink(RESOURCES, b"a", a.number)
    batch.unlink(RESOURCES, b"b", b.number)
    batch.drop_inode(b)
    index.apply(batch)
    assert index.dentries(RESOURCES) == [(b"b", a.number)]


def test_backing_and_hash_are_found_while_they_are_true(index: Index) -> None:
    made = create(index, b"a", hash=b"h" * 32, hash_version=1, hash_algorithm="blake3")
    backing = made.backing
    assert backing is not None
    assert index.by_backing(backing) == made.number
    assert index.by_hash("blake3", b"h" * 32) == [made.number]
    assert index.by_hash("blake3", b"h" * 31) == []
    batch = Batch()
    changed = inode(made.number, version=2, hash=b"h" * 32, hash_version=1, hash_algorithm="blake3", backing=None)
    batch.put_inode(changed)
    index.apply(batch)
    assert index.by_backing(backing) is None
    assert index.by_hash("blake3", b"h" * 32) == []


def test_two_inodes_can_exchange_their_disk_objects(index: Index) -> None:
    a, b = create(index, b"a"), create(index, b"b")
    a_had, b_had = a.backing, b.backing
    assert a_had is not None
    assert b_had is not None
    batch = Batch()
    batch.put_inode(inode(a.number, backing=b_had))
    batch.put_inode(inode(b.number, backing=a_had))
    index.apply(batch)
    assert index.by_backing(a_had) == b.number
    assert index.by_backing(b_had) == a.number


def test_a_placement_occupies_its_spots_and_leaves_them_again(index: Index) -> None:
    number = create(index, b"a").number
    batch = Batch()
    batch.place(number, (spot(b"a"), spot(b"b")), None)
    index.apply(batch)
    assert index.placement(number) == (spot(b"a"), spot(b"b"))
    assert index.occupants(MAIN, RESOURCES) == [(b"a", number), (b"b", number)]
    assert index.any_occupant(MAIN)
    batch = Batch()
    batch.place(number, (spot(b"b"),), (spot(b"a"), spot(b"b")))
    index.apply(batch)
    assert index.occupant(spot(b"a")) is None
    assert index.occupant(spot(b"b")) == number
    batch = Batch()
    batch.place(number, None, (spot(b"b"),))
    index.apply(batch)
    assert index.placement(number) is None
    assert not index.any_occupant(MAIN)


def test_spots_change_hands_in_one_batch(index: Index) -> None:
    a, b = create(index, b"a").number, create(index, b"b").number
    batch = Batch()
    batch.place(a, (spot(b"1"),), None)
    batch.place(b, (spot(b"2"),), None)
    index.apply(batch)
    batch = Batch()
    batch.place(a, (spot(b"2"),), (spot(b"1"),))
    batch.place(b, (spot(b"1"),), (spot(b"2"),))
    index.apply(batch)
    assert index.occupants(MAIN, RESOURCES) == [(b"1", b), (b"2", a)]


def test_a_spot_in_the_id_area_has_no_occupant(index: Index) -> None:
    number = create(index, b"a").number
    batch = Batch()
    batch.place(number, (Spot(MAIN, InodeNo(0), b""),), None)
    index.apply(batch)
    assert not index.any_occupant(MAIN)


def test_a_directory_has_one_skeleton_per_root(index: Index) -> None:
    number = create(index, b"d", DIRECTORY).number
    batch = Batch()
    batch.skeleton(number, spot(b"d"))
    batch.skeleton(number, spot(b"d", root=COLD))
    index.apply(batch)
    assert index.skeleton(number, COLD) == spot(b"d", root=COLD)
    assert index.skeletons(number) == [spot(b"d"), spot(b"d", root=COLD)]
    assert index.any_skeleton(COLD)
    assert index.occupant(spot(b"d")) == number
    batch = Batch()
    batch.drop_skeleton(number, spot(b"d", root=COLD))
    index.apply(batch)
    assert not index.any_skeleton(COLD)
    assert index.skeletons(number) == [spot(b"d")]


def test_a_skeleton_can_become_the_placement_whatever_the_order_of_calls(index: Index) -> None:
    number = create(index, b"d", DIRECTORY).number
    batch = Batch()
    batch.skeleton(number, spot(b"d", root=COLD))
    index.apply(batch)
    batch = Batch()
    batch.place(number, (spot(b"d", root=COLD),), None)
    batch.drop_skeleton(number, spot(b"d", root=COLD))
    index.apply(batch)
    assert index.occupant(spot(b"d", root=COLD)) == number


def test_dropping_an_inode_takes_everything_of_it_along_but_its_history(index: Index) -> None:
    made = create(index, b"d", DIRECTORY)
    number = made.number
    batch = Batch()
    batch.xattr(number, b"user.a", b"1")
    batch.stamp(number, Stamp(MAIN, 5))
    batch.place(number, (spot(b"d"),), None)
    batch.skeleton(number, spot(b"d", root=COLD))
    batch.writing(number, Writing(number, 1))
    batch.vanish(number, 77)
    batch.due(COLD, number)
    batch.due(RootNo(0), number)
    batch.journal(made.id, JournalEntry(1, "rename", "done"))
    index.apply(batch)
    before = index.counts()
    remove(index, b"d")
    after = index.counts()
    taken = ("xattrs", "stamps", "placements", "occupants", "skeletons", "intents", "vanished", "vanishings", "due")
    for table in taken:
        assert before[table] > after[table] == 0, table
    assert [entry.command for entry in index.journal(made.id)] == ["rename"]


def test_a_new_version_makes_current_replicas_stale_and_due(index: Index) -> None:
    file = create(index, b"a")
    other = RootNo(3)
    batch = Batch()
    batch.root(RootRecord(other, "other", b"o" * 16, Layout.TREE, RESOURCES))
    batch.replica(file.number, COLD, Replica(ReplicaState.CURRENT, version=file.version))
    batch.replica(file.number, other, Replica(ReplicaState.WANTED))
    index.apply(batch)
    assert index.due_roots() == [other]
    file.version += 1
    batch = Batch()
    batch.put_inode(file)
    index.apply(batch)
    states = [(root, replica.state) for root, replica in index.replicas(file.number)]
    assert states == [(COLD, ReplicaState.STALE), (other, ReplicaState.WANTED)]
    assert index.due_roots() == [COLD, other]
    assert index.due(COLD, InodeNo(0), 10) == [file.number]
    assert index.due(COLD, file.number, 10) == []
    remove(index, b"a")
    assert (index.counts()["replicas"], index.counts()["due"]) == (0, 0)


def test_a_replica_recorded_with_a_new_version_is_as_it_was_said_to_be(index: Index) -> None:
    file = create(index, b"a")
    file.version += 1
    batch = Batch()
    batch.put_inode(file)
    batch.replica(file.number, MAIN, Replica(ReplicaState.CURRENT, version=file.version))
    index.apply(batch)
    assert not index.is_due(MAIN, file.number)


def test_a_name_and_a_spot_taken_over_in_one_batch_stay_with_the_new_owner(index: Index) -> None:
    old, new = create(index, b"old"), create(index, b"new")
    batch = Batch()
    batch.place(old.number, (spot(b"x"),), None)
    index.apply(batch)
    batch = Batch()
    batch.place(new.number, (spot(b"x"),), None)
    batch.drop_inode(old)
    batch.unlink(RESOURCES, b"old", old.number)
    index.apply(batch)
    assert index.occupant(spot(b"x")) == new.number


def test_xattrs_are_set_listed_and_removed(index: Index) -> None:
    number = create(index, b"a").number
    batch = Batch()
    batch.xattr(number, b"user.b", b"2")
    batch.xattr(number, b"user.a", b"")
    index.apply(batch)
    assert index.xattrs(number) == [b"user.a", b"user.b"]
    assert index.xattr(number, b"user.a") == b""
    batch = Batch()
    batch.xattr(number, b"user.a", None)
    index.apply(batch)
    assert index.xattr(number, b"user.a") is None


def test_intents_are_rows_until_settled(index: Index) -> None:
    number = create(index, b"a").number
    first, second = index.new_intent(), index.new_intent()
    batch = Batch()
    batch.writing(number, Writing(number, 2))
    batch.intent(second, Attributes(number))
    batch.intent(first, Attributes(number))
    index.apply(batch)
    assert [key for key, _ in index.intents()][:2] == [first, second]
    assert index.writing(number) == Writing(number, 2)
    batch = Batch()
    batch.settle(first)
    batch.settle(second)
    batch.written(number)
    index.apply(batch)
    assert index.intents() == []
    assert index.writing(number) is None


def test_events_get_consecutive_seqs_and_are_told_after_they_are_visible(index: Index) -> None:
    told: list[int] = []

    def tell(events: list[Event]) -> None:
        assert [event.seq for event in index.events(told[-1] if told else 0, 10)] == [event.seq for event in events]
        told.extend(event.seq for event in events)

    index.on_events = tell
    for name in (b"a", b"b"):
        create(index, name)
    assert told == [1, 2]
    assert (index.first_seq, index.last_seq, index.epoch) == (1, 2, 1)
    assert all(event.epoch == 1 and event.time_ns > 0 for event in index.events(0, 10))


def test_retention_cuts_events_at_the_front_only(index: Index) -> None:
    for number in range(10):
        create(index, b"%d" % number)
    batch = Batch()
    assert index.forget_events(batch, keep=3) == 7  # the last that goes
    index.apply(batch)
    assert [event.seq for event in index.events(0, 100)] == [8, 9, 10]
    assert index.first_seq == 8
    assert index.forget_events(Batch(), keep=3) == 0
    batch = Batch()
    index.forget_events(batch, keep=0)
    index.apply(batch)
    assert (index.first_seq, index.last_seq) == (11, 10)


def test_the_journal_keeps_its_order(index: Index) -> None:
    made = create(index, b"a")
    for step in range(3):
        batch = Batch()
        batch.journal(made.id, JournalEntry(step, "move", "begun"))
        batch.journal(made.id, JournalEntry(step, "move", "done"))
        index.apply(batch)
    assert [(entry.time_ns, entry.outcome) for entry in index.journal(made.id)] == [
        (step, outcome) for step in range(3) for outcome in ("begun", "done")
    ]


def test_open_moves_are_found_until_they_are_done(index: Index) -> None:
    made = create(index, b"a")
    move = Move(index.new_move(), made.number, made.id, "main", "cold", b"a", b"b", 0, 0, 1)
    batch = Batch()
    batch.move(move)
    index.apply(batch)
    assert index.open_moves_of(made.number) == [move]
    assert index.moves(open_only=True) == [move]
    assert index.new_move() == MoveNo(2)
    move.state = MoveState.DONE
    batch = Batch()
    batch.move(move)
    index.apply(batch)
    assert index.open_moves_of(made.number) == []
    assert index.moves() == [move]
    assert index.move(move.number) == move


def test_vanished_inodes_are_found_oldest_first(index: Index) -> None:
    numbers = [create(index, b"%d" % at).number for at in range(3)]
    batch = Batch()
    for at_ns, number in zip((30, 10, 20), numbers, strict=True):
        batch.vanish(number, at_ns)
    index.apply(batch)
    assert index.vanished(30, 10) == [numbers[1], numbers[2]]
    assert index.vanished(30, 1) == [numbers[1]]
    assert index.vanished_at(numbers[0]) == 30
    batch = Batch()
    batch.unvanish(numbers[0], 30)
    index.apply(batch)
    assert index.vanished_at(numbers[0]) is None


def test_roots_are_kept(index: Index) -> None:
    assert [root.name for root in index.roots()] == ["main", "cold"]
    assert index.new_root() == 3


def test_a_row_that_cannot_be_stored_changes_nothing_and_the_index_goes_on(index: Index) -> None:
    a = create(index, b"a")
    batch = Batch()
    batch.link(RESOURCES, b"n" * 600, a.number)
    batch.link(RESOURCES, b"b", a.number)
    with pytest.raises(ValueError, match="cannot be stored"):
        index.apply(batch)
    assert index.dentries(RESOURCES) == [(b"a", a.number)]
    create(index, b"c")
    assert index.last_seq == 2
