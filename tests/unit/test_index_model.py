"""The index against a dictionary: random changes, commits and restarts, and after each step every invariant."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fusestore.index.batch import Batch
from fusestore.index.check import check
from fusestore.index.store import Index
from fusestore.model import RESOURCES, InodeNo
from tests.support.indexes import DIRECTORY, FILE, create, event, furnish, inode, spot, witnesses

if TYPE_CHECKING:
    from fusestore.model import Spot

names = st.sampled_from([b"a", b"b", b"\xff\xfe", b"a b", b"n" * 255])
picks = st.integers(0, 1000)


class IndexModel(RuleBasedStateMachine):
    """Names and places of a small tree, kept twice."""

    @initialize()
    def open(self) -> None:
        self.place = witnesses()
        self.witnesses = self.place.__enter__()
        self.directory = Path(tempfile.mkdtemp(dir=self.witnesses)) / "index"
        self.index = Index.open(self.directory, create=True, witnesses=self.witnesses)
        furnish(self.index)
        self.names: dict[tuple[InodeNo, bytes], InodeNo] = {}
        self.directories = [RESOURCES]
        self.placed: dict[InodeNo, tuple[Spot, ...]] = {}
        self.events = 0

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.index.close()
            self.place.__exit__(None, None, None)

    def some_name(self, pick: int) -> tuple[InodeNo, bytes]:
        return sorted(self.names)[pick % len(self.names)]

    def unname(self, batch: Batch, key: tuple[InodeNo, bytes]) -> None:
        number = self.names.pop(key)
        batch.unlink(*key, number)
        if number not in self.names.values():
            old = self.index.inode(number)
            assert old is not None
            batch.drop_inode(old)
            self.placed.pop(number, None)

    @rule(pick=picks, name=names, directory=st.booleans())
    def make(self, pick: int, name: bytes, directory: bool) -> None:
        parent = self.directories[pick % len(self.directories)]
        if (parent, name) not in self.names:
            made = create(self.index, name, DIRECTORY if directory else FILE, parent)
            self.names[parent, name] = made.number
            self.events += 1
            if directory:
                self.directories.append(made.number)

    @precondition(lambda self: self.names)
    @rule(pick=picks, name=names, where=picks)
    def rename_or_link_a_file(self, pick: int, name: bytes, where: int) -> None:
        old = self.some_name(pick)
        number = self.names[old]
        new = (self.directories[where % len(self.directories)], name)
        if number in self.directories or self.names.get(new) in (number, *self.directories):
            return
        batch = Batch()
        batch.link(*new, number)
        if new in self.names:
            self.unname(batch, new)
        self.names[new] = number
        if where % 2:
            del self.names[old]
            batch.unlink(*old, number)
        batch.event(event(inode(number), "renamed"))
        self.events += 1
        self.index.apply(batch)

    @precondition(lambda self: self.names)
    @rule(pick=picks)
    def unlink_a_file(self, pick: int) -> None:
        key = self.some_name(pick)
        if self.names[key] not in self.directories:
            batch = Batch()
            self.unname(batch, key)
            self.index.apply(batch)

    @precondition(lambda self: self.names)
    @rule(pick=picks, names=st.sets(names, max_size=2))
    def place_or_bring_home(self, pick: int, names: set[bytes]) -> None:
        number = self.names[self.some_name(pick)]
        spots = tuple(spot(name, directory=RESOURCES) for name in sorted(names))
        taken = {taken for other, row in self.placed.items() if other != number for taken in row}
        if taken.isdisjoint(spots):
            batch = Batch()
            batch.place(number, spots or None, self.placed.pop(number, None))
            if spots:
                self.placed[number] = spots
            self.index.apply(batch)

    @rule()
    def commit(self) -> None:
        self.index.commit()

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        self.index.close(clean=clean)
        self.index = Index.open(self.directory, witnesses=self.witnesses)
        assert self.index.was_clean is clean

    @invariant()
    def both_say_the_same(self) -> None:
        if hasattr(self, "index"):
            assert list(check(self.index)) == []
            for parent in self.directories:
                listed = {(parent, name): number for name, number in self.index.dentries(parent)}
                assert listed == {key: number for key, number in self.names.items() if key[0] == parent}
            for number in set(self.names.values()):
                assert self.index.placement(number) == self.placed.get(number)
            assert (self.index.epoch, self.index.last_seq) == (1, self.events)


IndexModel.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestIndexModel = IndexModel.TestCase
