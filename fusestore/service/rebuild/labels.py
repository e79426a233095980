"""Coming to every object on a root's disk, and what all their labels say together."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.errors import FusestoreError
from fusestore.model import Layout
from fusestore.roots import identity
from fusestore.service.places import At

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fusestore.model import Backing
    from fusestore.roots.local import LocalRoot

    Progress = Callable[[int, int, str], None]

TELL: Final = 500  # objects between two words on the progress


class Survey(NamedTuple):
    """What all labels say together."""

    last_inode: int
    objects: int
    claimed: frozenset[bytes] | None  # ids whose own object is there; None: no copy is to be trusted


class Way(NamedTuple):
    """How to come to a directory on a disk: names below the root's top, or below an object in its id area."""

    root: LocalRoot
    id: bytes
    names: tuple[bytes, ...]

    def open(self) -> int:
        """A descriptor, the caller's.

        Raises:
            OSError, Covered
        """
        root = self.root
        fd = root.open_dir(*root.id_area(self.id)) if self.id else os.dup(root.top)
        for name in self.names:
            try:
                below = root.open_dir(fd, name)
            finally:
                root.close_dir(fd)
            fd = below
        return fd

    def below(self, name: bytes) -> Way:
        return self._replace(names=(*self.names, name))

    def path(self, name: bytes = b"") -> bytes:
        above = (self.root.id_area_path(self.id),) if self.id else ()
        return b"/".join((*above, *self.names, *((name,) if name else ())))


def survey(roots: Sequence[LocalRoot], *, trust_copies: bool, progress: Progress) -> Survey:
    """Read every label once: which numbers are taken, and which ids have their own object."""
    last_inode = count = 0
    claimed: set[bytes] = set()
    ours = {root.uuid for root in roots}
    for root in roots:
        uuids = uuids_near(root, roots)
        for at in objects(root):
            count += 1
            if count % TELL == 0:
                progress(count, 0, "labels")
            label = identity.read(*at)
            if label is None:
                continue
            if label.root_uuid in ours:
                last_inode = max(last_inode, label.inode)
            if trust_copies and tells_of(label, root.backing(at.directory, at.name), uuids):
                claimed.add(label.id)
    return Survey(last_inode, count, frozenset(claimed) if trust_copies else None)


def objects(root: LocalRoot) -> Iterator[At]:
    """Every object on a root, its own directory and what is staged left out; what its disk does not show is not there.

    A place is good until the next one is asked for.
    """
    ways = [Way(root, b"", ())] if root.layout is Layout.TREE else []
    for id in root.ids():
        at = At(root, *root.id_area(id))
        yield at
        if _is_directory(at):
            ways.append(Way(root, id, ()))
    while ways:
        way = ways.pop()
        try:
            fd = way.open()
        except (OSError, FusestoreError):
            continue
        try:
            for name in root.list(fd):
                at = At(root, fd, name)
                yield at
                if _is_directory(at):
                    ways.append(way.below(name))
        except OSError:
            continue
        finally:
            root.close_dir(fd)


def _is_directory(at: At) -> bool:
    try:
        return stat.S_ISDIR(at.driver.stat(at.directory, at.name).st_mode)
    except OSError:
        return False


def uuids_near(root: LocalRoot, roots: Sequence[LocalRoot]) -> set[bytes]:
    """The roots whose objects rename(2) may have brought to this one without a word in their labels."""
    return {each.uuid for each in roots if each.device == root.device}


def tells_of(label: identity.Label, backing: Backing, uuids: set[bytes]) -> bool:
    """Whether a label was written on this very object, on one of these roots."""
    mine = label.backing
    return label.root_uuid in uuids and (mine.st_ino, mine.btime_ns) == (backing.st_ino, backing.btime_ns)
