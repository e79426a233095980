"""What is still on the disk of a root that is to be empty: each name on it is looked at, and held against the index."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from fusestore.core.placement import by_id
from fusestore.errors import NotFound
from fusestore.model import CONTROL_NAME, InodeNo, Spot, counted
from fusestore.roots import manifest
from fusestore.roots.local import INCOMING_NAME, TRASH_NAME
from fusestore.roots.marker import MARKER_NAME
from fusestore.service.emptying import PAGE, is_on

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from fusestore.core.ports import Driver
    from fusestore.service.store import Store

OWN: Final = frozenset({MARKER_NAME, manifest.NAME, manifest.FRESH_NAME, INCOMING_NAME})  # in a root's own area
SHOWN: Final = 3
STAYING: Final = ("directory, symlink or special file stays", "directories, symlinks and special files stay")
REFUSED: Final = ("old copy that the disk does not let go of is", "old copies that the disk does not let go of are")


class Remains(NamedTuple):
    """What a look at a whole disk found.

    Attributes:
        files: of ours, that have not left, or turned up since.
        refused: files that nothing needs any more and that the disk does not let go of, or not yet.
        stays: directories, symlinks and special files, which the index keeps.
        hidden: what the index cannot take over, because its name stands for something else or is too long, by path.
        strange: files in the root's own area that nothing speaks of, by path on the disk.
        trashed: files in the root's trash.
        beside: other roots on the same file system.
    """

    files: int
    refused: int
    stays: int
    hidden: list[bytes]
    strange: list[bytes]
    trashed: int
    beside: list[str]

    def __str__(self) -> str:
        """What is there of a root that no file is left on, and whether its disk can go."""
        said = ["no file is left"]
        if self.stays:
            said.append(f"{counted(self.stays, *STAYING)}, which the index knows")
        if self.refused:
            said.append(f"{counted(self.refused, *REFUSED)} not needed any more")
        if self.trashed:
            said.append(f"{counted(self.trashed, 'file in its trash goes', 'files in its trash go')} with it")
        if self.strange:
            names = [path.decode(errors="backslashreplace") for path in self.strange[:SHOWN]]
            more = len(self.strange) - len(names)
            listed = ", ".join(names) + (f" and {more} more" if more else "")
            said.append(
                f"{counted(len(self.strange), 'file', 'files')} that fusestore did not put there"
                f" {'goes' if len(self.strange) == 1 else 'go'} with it, save what is yours: {listed}"
            )
        if self.beside:
            said.append(f"nothing here is needed any more, but {', '.join(self.beside)} on the same file system is")
        else:
            said.append("its disk can be pulled")
        return "; ".join(said)


class _Found:
    def __init__(self) -> None:
        self.files = self.refused = self.stays = self.trashed = 0
        self.hidden: list[bytes] = []
        self.strange: list[bytes] = []


async def look_through(store: Store, root: Driver) -> Remains:
    """Look at every name on a root's disk.

    Raises:
        RootOffline; OSError as the disk says.
    """
    found = _Found()
    after = InodeNo(0)
    while numbers := store.index.numbers_after(after, PAGE):
        after = numbers[-1]
        for number in numbers:
            inode = store.index.inode(number)
            if inode is not None and inode.is_dir and _lies_on(store, number, root):
                _look_at(store, root, number, found)
                await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
    await _look_at_area(store, root, found)
    beside = [each.name for each in store.roots.values() if each is not root and each.device == root.device]
    return Remains(found.files, found.refused, found.stays, found.hidden, found.strange, found.trashed, beside)


def _lies_on(store: Store, number: InodeNo, root: Driver) -> bool:
    return store.tops.get(number) == root.number or any(spot.root == root.number for spot in _spots(store, number))


def _spots(store: Store, number: InodeNo) -> tuple[Spot, ...]:
    return (*store.placement.spots(number), *store.index.skeletons(number))


def _look_at(store: Store, root: Driver, number: InodeNo, found: _Found) -> None:
    """Look at every name in one directory."""
    try:
        _, directory = store.places.directory(number, root.number)
    except (NotFound, FileNotFoundError):
        return  # it vanished; its content with it
    for name, mode in _names(root, directory):
        spot = Spot(root.number, number, name)
        known = store.index.occupant(spot) or store.index.dentry(number, name)
        if spot in store.condemned:
            found.refused += 1
        elif known is None or spot not in _spots(store, known):
            found.hidden.append(store.join(number, name) or name)
        elif stat.S_ISREG(mode):
            found.files += 1
        else:
            found.stays += 1


async def _look_at_area(store: Store, root: Driver, found: _Found) -> None:
    """Look at every file in the root's own area: what lies there under its id, in the trash, or for no known reason."""
    decided = store.condemned.of(store.condemned.keys())
    condemned = {intent.id for _, intent in decided if by_id(root.number) in intent.spots}
    trashed = {each.name for each in store.index.trash(root.number)}
    todo = [(CONTROL_NAME, root.open_dir(root.top, CONTROL_NAME))]
    try:
        while todo:
            path, directory = todo.pop()
            try:
                for name, mode in _names(root, directory):
                    below = path + b"/" + name
                    if path == CONTROL_NAME and name in OWN:
                        continue
                    if path == CONTROL_NAME + b"/" + TRASH_NAME and name in trashed:
                        found.trashed += 1
                        continue
                    if _is_known(store, root, name, condemned, found):
                        continue
                    if stat.S_ISDIR(mode):
                        todo.append((below, root.open_dir(directory, name)))
                    else:
                        found.strange.append(below)
            finally:
                root.close_dir(directory)
            await trio.lowlevel.checkpoint()
    finally:
        for _, directory in todo:
            root.close_dir(directory)


def _is_known(store: Store, root: Driver, name: bytes, condemned: set[bytes], found: _Found) -> bool:
    """Count what lies under its id; False if it is nothing of that kind."""
    try:
        id = bytes.fromhex(name.decode())
    except ValueError:
        return False
    if id in condemned:
        found.refused += 1
        return True
    number = store.index.by_id(id)
    inode = store.index.inode(number) if number is not None else None
    if inode is None:
        return False
    if is_on(store, inode, root.number):
        found.files += 1
        return True
    if inode.is_regular or by_id(root.number) not in store.placement.spots(inode.number):
        return False
    found.stays += 1
    return True


def _names(root: Driver, directory: int) -> Iterator[tuple[bytes, int]]:
    """The names in a directory, with the mode of what each leads to."""
    for name in list(root.list(directory)):
        try:
            seen: os.stat_result = root.stat(directory, name)
        except FileNotFoundError:
            continue
        yield name, seen.st_mode
