"""Where bytes are, where their names say they belong, and what that leaves to do.

Two questions run through the whole store. *Home* is what the names say: the root under whose directory an inode's first
name lies. *Place* is what the disks say: the spots that hold the disk object. Renaming across roots changes only
names, so home and place part; a move brings them together again.

    placement row?  ── yes ──► its spots, exactly these            (ghost, aside, or arrived below a pending directory)
          │ no
          ▼
    for each name (parent, name):  default realization of the parent / name        (at home, or inherited from a ghost)

A directory can lie on several roots while its children arrive: its *default realization* is its own place and the one
its children inherit, a *skeleton* row names a further one. Nothing physical moves when a name changes, so a spot
refers to its directory by inode and stays true whatever is renamed above it.

Rules:
  P1  An inode without a row has a disk object under every one of its names.
  P2  All spots of an inode lie on one root; several are hard links to one disk object.
  P3  A row that says what would be inherited anyway is dropped (`row_for`).
  P4  Bytes stay on their root as long as any name of theirs is left there; further names elsewhere are guests, which
      have no disk object (a hard link cannot join two disks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.model import InodeNo, Layout, RootNo, Spot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fusestore.core.ports import Catalog

MEMORY: Final = 10_000  # directories whose roots are remembered


class Placement:
    """Answers from the index alone; no disk is touched.

    Args:
        catalog: the index's reading side.
        tops: the inode that shows each root's own directory.
        layouts: the layout of each root.
    """

    def __init__(self, catalog: Catalog, tops: Mapping[InodeNo, RootNo], layouts: Mapping[RootNo, Layout]) -> None:
        self._catalog = catalog
        self._tops = tops
        self._layouts = layouts
        self._homes: dict[InodeNo, RootNo] = {}  # of directories, which every request walks up again
        self._defaults: dict[InodeNo, RootNo] = {}

    def forget(self) -> None:
        """Drop what was worked out for directories; for whoever changes a directory's name or place."""
        self._homes.clear()
        self._defaults.clear()

    def home(self, number: InodeNo) -> RootNo | None:
        """The root that the names of `number` say; None for the skeleton above the roots and for what has no name."""
        top = self._tops.get(number)
        if top is not None:
            return top
        return self.home_of(self._catalog.parents(number), lambda: self.spots(number))

    def home_of(self, names: Sequence[tuple[InodeNo, bytes]], spots: Callable[[], tuple[Spot, ...]]) -> RootNo | None:
        """The root that these names say, for an inode that lies at `spots`, which are asked for only if it matters."""
        if not names:
            return None
        if len(names) == 1:
            return self.directory_home(names[0][0])
        roots = [self.directory_home(parent) for parent, _ in names]
        at = spots()  # P4
        return at[0].root if at and at[0].root in roots else roots[0]

    def directory_home(self, directory: InodeNo) -> RootNo | None:
        """The same as `home`, for a directory."""
        return self._homes.get(directory) or self._walk_up(directory, self._homes, by_place=False)

    def default_root(self, directory: InodeNo) -> RootNo | None:
        """The root of a directory's default realization."""
        return self._defaults.get(directory) or self._walk_up(directory, self._defaults, by_place=True)

    def _walk_up(self, directory: InodeNo, known: dict[InodeNo, RootNo], *, by_place: bool) -> RootNo | None:
        """The root of the nearest answer above; remembered for every directory on the way."""
        way: list[InodeNo] = []
        while (root := known.get(directory)) is None:
            root = self._tops.get(directory)
            if root is None and by_place and (row := self._catalog.placement(directory)):
                root = row[0].root
            way.append(directory)
            if root is not None:
                break
            names = self._catalog.parents(directory)
            if not names:
                return None
            directory = names[0][0]  # a directory has one name
        if len(known) > MEMORY:
            known.clear()
        known.update(dict.fromkeys(way, root))
        return root

    def spots(self, number: InodeNo) -> tuple[Spot, ...]:
        """Every physical name of `number`; the first is where its bytes are read. Empty above the roots."""
        row = self._catalog.placement(number)
        return row if row is not None else self.inherited(self._catalog.parents(number))

    def inherited(self, names: Sequence[tuple[InodeNo, bytes]]) -> tuple[Spot, ...]:
        """The spots that an inode with these names has when it has no row of its own (P1)."""
        if len(names) == 1:  # nearly always, and asked several times a change
            parent, name = names[0]
            root = self.default_root(parent)
            return (self.spot_in(root, parent, name),) if root is not None else ()
        spots: dict[Spot, None] = {}
        for parent, name in names:
            root = self.default_root(parent)
            if root is not None:
                spots[self.spot_in(root, parent, name)] = None
        return tuple(spots)

    def spot_in(self, root: RootNo, directory: InodeNo, name: bytes) -> Spot:
        """The spot on `root` that the name (`directory`, `name`) calls for."""
        return Spot(root, directory, name) if self._layouts[root] is Layout.TREE else by_id(root)

    def row_for(self, spots: tuple[Spot, ...], names: Sequence[tuple[InodeNo, bytes]]) -> tuple[Spot, ...] | None:
        """The placement row to store for an inode that has `names` and lies at `spots` (P3)."""
        return None if are_same(spots, self.inherited(names)) else spots

    def home_spots(self, number: InodeNo) -> tuple[Spot, ...]:
        """The physical names that `number` has once it is home."""
        return self.home_spots_of(self._catalog.parents(number), self.spots(number))

    def home_spots_of(self, names: Sequence[tuple[InodeNo, bytes]], spots: tuple[Spot, ...]) -> tuple[Spot, ...]:
        """The same for an inode that would have these names and lie at `spots`."""
        home = self.home_of(names, lambda: spots)
        if home is None:
            return ()
        if len(names) == 1:
            return (self.spot_in(home, *names[0]),)
        wanted = (self.spot_in(home, parent, name) for parent, name in names if self.directory_home(parent) == home)
        return tuple(dict.fromkeys(wanted))

    def is_home(self, number: InodeNo) -> bool:
        """Whether place and home agree; a directory's children are another matter."""
        return are_same(self.spots(number), self.home_spots(number))

    def realization(self, directory: InodeNo, root: RootNo) -> Spot | None:
        """Where `directory` lies on `root`: its default place, or its skeleton there. Not for a root's top."""
        spots = self.spots(directory)
        if spots and spots[0].root == root:
            return spots[0]
        return self._catalog.skeleton(directory, root)


def by_id(root: RootNo) -> Spot:
    """The spot in `root`'s id area."""
    return Spot(root, InodeNo(0), b"")


def are_same(spots: tuple[Spot, ...], others: tuple[Spot, ...]) -> bool:
    """Whether these are the same spots, in whatever order."""
    return spots == others or set(spots) == set(others)


class Parted(NamedTuple):
    """The spots of an inode that loses a name."""

    going: tuple[Spot, ...]
    staying: tuple[Spot, ...]


def without(spots: tuple[Spot, ...], name_spot: Spot, *, last: bool) -> Parted:
    """Split `spots` when the name that calls for `name_spot` goes.

    The last name takes every spot with it. Otherwise only the spot of that very name goes, and it stays, as a ghost,
    when it is the only one that holds the bytes.
    """
    if last:
        return Parted(spots, ())
    if name_spot in spots and len(spots) > 1 and not name_spot.by_id:
        return Parted((name_spot,), tuple(spot for spot in spots if spot != name_spot))
    return Parted((), spots)
