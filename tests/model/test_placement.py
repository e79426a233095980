"""The placement rules over a dictionary: names change, bytes do not, until they are brought home."""

from __future__ import annotations

import stat
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from fusestore.core.placement import Placement, by_id, without
from fusestore.model import Inode, InodeNo, Layout, RootNo, Spot
from tests.support.indexes import inode

AREA, HOT, COLD = RootNo(1), RootNo(2), RootNo(3)
LAYOUTS: Final = {AREA: Layout.ID, HOT: Layout.TREE, COLD: Layout.TREE}
TOPS: Final = {InodeNo(10): AREA, InodeNo(11): HOT, InodeNo(12): COLD}
RESOURCES: Final = InodeNo(4)


class Shelf:
    """A catalog of dictionaries; conforms to `core.ports.Catalog`."""

    def __init__(self) -> None:
        self.inodes: dict[InodeNo, Inode] = {top: inode(top, stat.S_IFDIR | 0o755) for top in TOPS}
        self.names: dict[InodeNo, list[tuple[InodeNo, bytes]]] = {top: [(RESOURCES, str(top).encode())] for top in TOPS}
        self.rows: dict[InodeNo, tuple[Spot, ...]] = {}
        self.skeletons: dict[tuple[InodeNo, RootNo], Spot] = {}

    def inode(self, number: InodeNo) -> Inode | None:
        return self.inodes.get(number)

    def dentry(self, parent: InodeNo, name: bytes) -> InodeNo | None:
        return next((number for number, names in self.names.items() if (parent, name) in names), None)

    def parents(self, number: InodeNo) -> list[tuple[InodeNo, bytes]]:
        return sorted(self.names.get(number, []))

    def placement(self, number: InodeNo) -> tuple[Spot, ...] | None:
        return self.rows.get(number)

    def skeleton(self, number: InodeNo, root: RootNo) -> Spot | None:
        return self.skeletons.get((number, root))

    def occupant(self, spot: Spot) -> InodeNo | None:
        return next((number for number, spots in self.rows.items() if spot in spots), None)

    def is_below(self, number: InodeNo, directory: InodeNo) -> bool:
        """Whether `directory` is `number` or lies above it."""
        while number != directory:
            names = self.names.get(number)
            if not names:
                return False
            number = names[0][0]
        return True


class World:
    """A shelf that was filled at random, and its placement."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.placement = Placement(self.shelf, TOPS, LAYOUTS)
        self._next = 100

    def directories(self) -> list[InodeNo]:
        return [number for number, inode in self.shelf.inodes.items() if inode.is_dir]

    def movable(self) -> list[InodeNo]:
        return [number for number in self.shelf.inodes if number not in TOPS]

    def create(self, parent: InodeNo, *, directory: bool) -> InodeNo:
        """As a use case does: at home, with a row below a directory that has not got there."""
        number = InodeNo(self._next)
        self._next += 1
        self.shelf.inodes[number] = inode(number, stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644)
        name = (parent, b"n%d" % number)
        self.shelf.names[number] = [name]
        home = self.placement.home(parent)
        assert home is not None
        self.put(number, (self.placement.spot_in(home, *name),))
        return number

    def put(self, number: InodeNo, spots: tuple[Spot, ...]) -> None:
        row = self.placement.row_for(spots, self.shelf.parents(number))
        if row is None:
            self.shelf.rows.pop(number, None)
        else:
            self.shelf.rows[number] = row
        if self.shelf.inodes[number].is_dir:
            self.placement.forget()

    def rename(self, number: InodeNo, which: int, parent: InodeNo) -> None:
        """Change a name and nothing else, as a rename across roots does."""
        spots = self.placement.spots(number)
        names = self.shelf.parents(number)
        names[which % len(names)] = (parent, b"r%d" % self._next)
        self._next += 1
        self.shelf.names[number] = names
        self.put(number, spots)

    def link(self, number: InodeNo, parent: InodeNo) -> None:
        """A further name on the root where the bytes are."""
        name = (parent, b"l%d" % self._next)
        self._next += 1
        root = self.placement.home(parent)
        spots = self.placement.spots(number)
        assert root is not None
        if spots[0].root == root == self.placement.home(number):
            self.shelf.names[number] = [*self.shelf.parents(number), name]
            self.put(number, tuple(dict.fromkeys((*spots, self.placement.spot_in(root, *name)))))

    def everything(self) -> dict[InodeNo, tuple[Spot, ...]]:
        return {number: self.placement.spots(number) for number in self.movable()}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World()
    for _ in range(draw(st.integers(1, 25))):
        parent = draw(st.sampled_from(world.directories()))
        what = draw(st.sampled_from(["directory", "file", "rename", "link"]))
        movable = world.movable()
        if what in {"directory", "file"} or not movable:
            world.create(parent, directory=what == "directory")
            continue
        number = draw(st.sampled_from(movable))
        if world.shelf.is_below(parent, number):
            continue
        if what == "rename":
            world.rename(number, draw(st.integers(0, 3)), parent)
        elif not world.shelf.inodes[number].is_dir:
            world.link(number, parent)
    return world


def roots_of(world: World, number: InodeNo) -> set[RootNo | None]:
    return {world.placement.home(parent) for parent, _ in world.shelf.parents(number)}


@given(worlds(), st.data())
def test_a_rename_in_the_index_moves_no_bytes_of_anything(world: World, data: st.DataObject) -> None:
    movable = world.movable()
    if not movable:
        return
    before = world.everything()
    number = data.draw(st.sampled_from(movable))
    parents = [each for each in world.directories() if not world.shelf.is_below(each, number)]
    world.rename(number, data.draw(st.integers(0, 3)), data.draw(st.sampled_from(parents)))
    assert {each: set(spots) for each, spots in world.everything().items()} == {
        each: set(spots) for each, spots in before.items()
    }


@given(worlds())
def test_home_is_what_the_names_say(world: World) -> None:
    for number in world.movable():
        home = world.placement.home(number)
        assert home in roots_of(world, number)
        if home is not None and world.placement.spots(number)[0].root in roots_of(world, number):
            assert home == world.placement.spots(number)[0].root  # bytes stay while a name is left there


@given(worlds())
def test_all_spots_of_an_inode_are_on_one_root(world: World) -> None:
    for number in world.movable():
        assert len({spot.root for spot in world.placement.spots(number)}) == 1


@given(worlds())
def test_no_row_says_what_would_be_inherited_anyway(world: World) -> None:
    for number in world.movable():
        inherited = world.placement.inherited(world.shelf.parents(number))
        assert world.placement.row_for(inherited, world.shelf.parents(number)) is None
        row = world.shelf.placement(number)
        assert row is None or row == world.placement.row_for(row, world.shelf.parents(number))


@given(worlds())
def test_brought_home_from_the_top_down_nothing_but_guests_has_a_row(world: World) -> None:
    todo = list(TOPS)
    while todo:
        directory = todo.pop()
        for number in world.movable():
            is_in_it = any(parent == directory for parent, _ in world.shelf.parents(number))
            if is_in_it and world.shelf.inodes[number].is_dir:
                world.put(number, world.placement.home_spots(number))
                todo.append(number)
    for number in world.movable():
        world.put(number, world.placement.home_spots(number))
    for number in world.movable():
        assert world.placement.is_home(number)
        assert len(roots_of(world, number)) > 1 or world.shelf.placement(number) is None


@given(worlds())
def test_a_directory_is_realized_where_it_lies_and_where_it_has_a_skeleton(world: World) -> None:
    for number in world.movable():
        if world.shelf.inodes[number].is_dir:
            (spot,) = world.placement.spots(number)
            assert world.placement.realization(number, spot.root) == spot
            assert world.placement.default_root(number) == spot.root
            other = COLD if spot.root != COLD else HOT
            assert world.placement.realization(number, other) is None
            world.shelf.skeletons[number, other] = Spot(other, RESOURCES, b"s")
            assert world.placement.realization(number, other) == Spot(other, RESOURCES, b"s")


def test_above_the_roots_nothing_has_a_place() -> None:
    world = World()
    assert world.placement.home(RESOURCES) is None
    assert world.placement.spots(RESOURCES) == ()
    assert world.placement.default_root(RESOURCES) is None
    assert [world.placement.home(top) for top in TOPS] == [AREA, HOT, COLD]


SPOTS: Final = st.lists(
    st.sampled_from([by_id(HOT), *(Spot(HOT, InodeNo(11), name) for name in (b"a", b"b", b"c"))]),
    min_size=1,
    unique=True,
).map(tuple)


@given(SPOTS, SPOTS.map(lambda spots: spots[0]), st.booleans())
def test_a_name_that_goes_takes_its_own_spot_and_never_the_last_one(
    spots: tuple[Spot, ...], name_spot: Spot, last: bool
) -> None:
    going, staying = without(spots, name_spot, last=last)
    assert sorted((*going, *staying), key=repr) == sorted(spots, key=repr)
    assert bool(staying) is not last
    if not last:
        assert set(going) <= {name_spot} - {by_id(HOT)}
