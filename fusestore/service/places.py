"""Open descriptors of the directories that hold disk objects, so that a spot becomes (driver, descriptor, name).

A descriptor stays true whatever is renamed above its directory, so it is dropped only when the directory itself goes,
steps aside or changes its default realization. The least recently used are closed beyond a limit.

A returned descriptor is good until the next `await`: longer use needs a duplicate.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.errors import Covered, NotFound, ReplicaError, RootOffline
from fusestore.model import Layout

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from fusestore.core.placement import Placement
    from fusestore.core.ports import Catalog, Driver
    from fusestore.model import Backing, InodeNo, RootNo, Spot

MAX_DESCRIPTORS: Final = 4096


class At(NamedTuple):
    """A name in an open directory of a root."""

    driver: Driver
    directory: int
    name: bytes


class Places:
    """Resolves spots and directories to descriptors."""

    def __init__(
        self,
        catalog: Catalog,
        placement: Placement,
        roots: Mapping[RootNo, Driver],
        tops: Mapping[InodeNo, RootNo],
    ) -> None:
        self._catalog = catalog
        self._placement = placement
        self._roots = roots
        self._tops = tops
        self._open: OrderedDict[tuple[InodeNo, Driver], int] = OrderedDict()

    def directory(self, number: InodeNo, root: RootNo | None = None) -> tuple[Driver, int]:
        """Driver and descriptor of a directory on `root` (default: where it is).

        Raises:
            RootOffline, NotFound: the directory has no realization there; OSError as the disk says.
        """
        if root is None:
            root = self._placement.default_root(number)
            if root is None:
                raise NotFound(number)
        driver = self._roots[root]
        if not driver.online:
            raise RootOffline(driver.name)
        key = (number, driver)
        found = self._open.get(key)
        if found is not None:
            self._open.move_to_end(key)
            return driver, found
        if self._tops.get(number) == driver.number:
            return driver, driver.top
        spot = self._placement.realization(number, driver.number)
        if spot is None or driver.layout is Layout.ID:
            raise NotFound(number)  # on an id root it is in the index only
        at = self.at(spot, number)
        opened = self._open[key] = driver.open_dir(at.directory, at.name)
        if len(self._open) > MAX_DESCRIPTORS:
            (_, old_driver), old = self._open.popitem(last=False)
            old_driver.close_dir(old)
        return driver, opened

    def at(self, spot: Spot, number: InodeNo, id: bytes = b"") -> At:
        """The place of `spot`, which belongs to `number`; `id` where the index has no record of it (any more, or yet).

        Raises:
            RootOffline, NotFound: see `directory`.
        """
        if not spot.by_id:
            return At(*self.directory(spot.directory, spot.root), spot.name)
        driver = self._roots[spot.root]
        if not driver.online:
            raise RootOffline(driver.name)
        if not id:
            inode = self._catalog.inode(number)
            if inode is None:
                raise NotFound(number)
            id = inode.id
        return At(driver, *driver.id_area(id))

    @contextmanager
    def keeping_times(self, spots: Iterable[Spot]) -> Iterator[None]:
        """Leave the directories of these spots their times, but for the ctime, while bytes come or go by themselves.

        For programs the directory changed when the name came or went.
        """
        before: dict[tuple[InodeNo, RootNo], os.stat_result] = {}
        for spot in spots:
            if not spot.by_id:
                with suppress(OSError, NotFound, RootOffline):
                    driver, directory = self.directory(spot.directory, spot.root)
                    before[spot.directory, spot.root] = driver.stat_dir(directory)
        yield
        for (number, root), seen in before.items():
            with suppress(OSError, NotFound, ReplicaError):
                driver, directory = self.directory(number, root)
                driver.utime(directory, b".", seen.st_atime_ns, seen.st_mtime_ns)

    def still_has(self, spot: Spot, number: InodeNo, backing: Backing) -> bool:
        """Whether the object of an inode still lies at a spot, as far as anybody can tell.

        Raises:
            RootOffline; OSError as the disk says.
        """
        try:
            return is_object(self.at(spot, number), backing)
        except Covered:
            return True
        except (FileNotFoundError, NotADirectoryError, NotFound):
            return False

    def is_open(self, number: InodeNo, driver: Driver) -> bool:
        """Whether a descriptor of this directory is open, which keeps its inode number from another."""
        return (number, driver) in self._open

    def forget(self, number: InodeNo) -> None:
        """Close the descriptors of a directory: its default place changed, or it is gone."""
        for driver in self._roots.values():
            opened = self._open.pop((number, driver), None)
            if opened is not None:
                driver.close_dir(opened)

    def opened_on(self, driver: Driver) -> list[tuple[InodeNo, int]]:
        """The directories of a root that are open, with their descriptors."""
        return [(number, fd) for (number, root), fd in self._open.items() if root is driver]

    def forget_root(self, driver: Driver) -> None:
        """Close every descriptor on a root that went offline, so that its disk can be taken out."""
        for key in [key for key in self._open if key[1] is driver]:
            driver.close_dir(self._open.pop(key))

    def close(self) -> None:
        while self._open:
            (_, driver), opened = self._open.popitem()
            driver.close_dir(opened)


def is_object(at: At, backing: Backing) -> bool:
    """Whether the very object that `backing` speaks of lies at a place.

    Raises:
        OSError: as the disk says.
    """
    seen = at.driver.backing(at.directory, at.name)
    return (seen.st_ino, seen.btime_ns) == (backing.st_ino, backing.btime_ns)
