"""Who an object on a disk is, and what its record says from now on; for a rebuild (`finding`).

The first of these that holds:

    its label tells of itself, and the index does not
    know it by another id                                 that id and inode number
    the index knows it by (root, st_ino, birth time)      that inode; for what carries no label, or an older one
    its label tells of another object, copies are to be
    trusted, and nobody else claims that id               that id and inode number
    else                                                  somebody new
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from fusestore.core.intents import Writing
from fusestore.core.reconcile import Verdict, compare
from fusestore.errors import FusestoreError
from fusestore.model import FIRST_INODE, Backing, Inode, InodeNo, Layout, ReplicaState, RootNo, Spot, State
from fusestore.roots import identity
from fusestore.service.adopting import first_record
from fusestore.service.looking import fill
from fusestore.service.places import is_object
from fusestore.service.rebuild.labels import tells_of, uuids_near

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from fusestore.roots.local import LocalRoot
    from fusestore.service.places import At
    from fusestore.service.rebuild.labels import Survey
    from fusestore.service.rebuild.tally import Tally
    from fusestore.service.store import Store

NOBODY: Final = InodeNo(0)
NOT_OURS: Final = ("by_copy", "conflicts")  # their labels tell of another object


class Numbers:
    """A set of inode numbers, one byte each."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, number: InodeNo) -> None:
        if number >= len(self._bytes):
            self._bytes.extend(bytes(number + 65536 - len(self._bytes)))
        self._bytes[number] = 1

    def __contains__(self, number: InodeNo) -> bool:
        return number < len(self._bytes) and self._bytes[number] == 1


class Found:
    """What was found where.

    Attributes:
        inodes: of which there is an object, or may be.
        arrived: of those, what lies where no manifest has it, so that it may have come from elsewhere.
        left: what moves have left behind, by inode and object, with its places.
        was: names and places where the manifests had an object that is not there.
        spots: where those lie that do not lie where their names say, or may not.
        skeletons: the further places of directories that are there.
        replicas: further copies that are there, with their roots.
        missing: what was not where its name said, with the first path that is gone.
        moving: of which the manifests say that they are on their way.
    """

    def __init__(self, moving: set[InodeNo]) -> None:
        self.moving = moving
        self.inodes = Numbers()
        self.arrived = Numbers()
        self.left: dict[tuple[InodeNo, Backing], dict[Spot, None]] = {}
        self.was: dict[tuple[InodeNo, bytes], InodeNo] = {}
        self.spots: dict[InodeNo, dict[Spot, None]] = {}
        self.skeletons: set[tuple[InodeNo, Spot]] = set()
        self.replicas: set[tuple[InodeNo, RootNo]] = set()
        self.missing: dict[InodeNo, bytes] = {}


class Known(NamedTuple):
    """Who an object is.

    Attributes:
        number: NOBODY: somebody new, with `id` if there is one, and the number `wanted` if it is free.
        how: the field of `RootReport` that counts it.
    """

    number: InodeNo
    how: str
    id: bytes = b""
    wanted: InodeNo = NOBODY


class Object(NamedTuple):
    """One look at one object."""

    at: At
    seen: os.stat_result
    backing: Backing
    spot: Spot

    @property
    def root(self) -> RootNo:
        return self.spot.root

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.seen.st_mode)

    @property
    def is_linked(self) -> bool:
        """Whether it has further names on its disk."""
        return self.seen.st_nlink > 1 and not self.is_dir


def look(at: At, spot: Spot) -> Object | None:
    """What lies at a place; None for what its disk does not let us look at, or is another disk's."""
    try:
        seen = at.driver.stat(at.directory, at.name)
        backing = at.driver.backing(at.directory, at.name)
    except (OSError, FusestoreError):
        return None
    return Object(at, seen, backing, spot) if seen.st_dev == at.driver.device else None


class Identities:
    """Decides who objects are, and brings the records up to what is seen of them.

    Args:
        roots: all roots of the store.
        survey: of their disks.
        found: what is found is added to it.
        recorded: the roots that have a manifest, so that what it does not know is younger than it.
        write_labels: give an object whose label tells of another one its own.
    """

    def __init__(
        self,
        store: Store,
        roots: Mapping[RootNo, LocalRoot],
        survey: Survey,
        tally: Tally,
        found: Found,
        *,
        recorded: set[RootNo],
        write_labels: bool,
    ) -> None:
        self._store = store
        self._index = store.index
        self._roots = roots
        self._claimed = set(survey.claimed) if survey.claimed is not None else None
        self._tally = tally
        self._found = found
        self._recorded = recorded
        self._write_labels = write_labels
        self._uuids = {number: uuids_near(root, list(roots.values())) for number, root in roots.items()}

    def identify(self, each: Object) -> Known:
        """Who an object is."""
        index = self._index
        label = None
        if stat.S_ISREG(each.seen.st_mode) or each.is_dir:
            label = identity.read(*each.at)
        recorded = self._recorded_as(each)
        is_own = label is not None and tells_of(label, each.backing, self._uuids[each.root])
        if recorded is not None and not (is_own and label is not None and label.id == recorded.id):
            return Known(recorded.number, "by_manifest")
        if label is not None and is_own:
            return Known(index.by_id(label.id) or NOBODY, "by_label", label.id, label.inode)
        if label is None:
            return Known(NOBODY, "new")
        if self._claimed is not None and label.id not in self._claimed:
            self._claimed.add(label.id)
            return Known(index.by_id(label.id) or NOBODY, "by_copy", label.id, label.inode)
        return Known(NOBODY, "copies")

    def _recorded_as(self, each: Object) -> Inode | None:
        for root in self._roots.values():
            if root.uuid in self._uuids[each.root]:
                number = self._index.by_backing(replace(each.backing, root=root.number))
                inode = self._index.inode(number) if number is not None else None
                if inode is not None and _same_type(inode, each):
                    return inode
        return None

    def note(self, number: InodeNo, spot: Spot, *, linked: bool = False) -> None:
        """Remember where an object was found, unless that is plain from its names; `linked`: it has several on disk."""
        self._found.inodes.add(number)
        if linked or number in self._found.spots or self._index.placement(number) is not None:
            plain = False
        else:
            plain = spot in self._store.placement.inherited(self._index.parents(number))
        if not plain:
            self._found.spots.setdefault(number, {})[spot] = None

    def take(self, number: InodeNo, each: Object, who: Known) -> bool:
        """Have this object be an inode's; False when another one is already, and this is none of its links."""
        inode = self._index.inode(number)
        assert inode is not None
        if number in self._found.inodes:
            if _is(inode, each):
                return True
            if not self._outlives(inode, each):
                return False
            self._leave_found(inode)
        else:
            self._tally.count(each.root, who.how)
        if not _is(inode, each):
            self._found.arrived.add(number)
            self._forget_row(number, each.root)
        self.refresh(inode, each, who)
        return True

    def _leave_found(self, inode: Inode) -> None:
        """What was found of an inode is what a move has left."""
        number, backing = inode.number, inode.backing
        assert backing is not None
        spots = self._found.spots.pop(number, None) or self._store.placement.spots(number)
        self.leave(number, backing, *(spot for spot in spots if spot.root == backing.root))

    def leave(self, number: InodeNo, backing: Backing, *spots: Spot) -> None:
        """Remember what a move has left behind."""
        self._found.left.setdefault((number, backing), {}).update(dict.fromkeys(spots))

    def _forget_row(self, number: InodeNo, root: RootNo) -> None:
        """Drop the row of an inode that lies on another root than it says."""
        row = self._index.placement(number)
        if row is None or any(spot.root == root for spot in row):
            return
        self._found.was.update({(spot.directory, spot.name): number for spot in row if not spot.by_id})
        batch = self._store.batch()
        batch.place(number, None, row)
        self._index.apply(batch)

    def is_copy(self, number: InodeNo, each: Object) -> bool:
        """Whether an object looks like the one that an inode has been found to be."""
        inode = self._index.inode(number)
        stamp = (each.seen.st_size, each.seen.st_mtime_ns)
        if inode is None or not _same_type(inode, each) or (inode.size, inode.mtime_ns) != stamp:
            return False
        return not stat.S_ISLNK(inode.mode) or each.at.driver.readlink(each.at.directory, each.at.name) == inode.target

    def is_left(self, number: InodeNo, each: Object, who: Known) -> bool:
        """Whether an object is what a move has left: the inode's bytes are on another root, as its record says.

        The copy is the younger of the two, whatever was written to it since. One that is younger than the record's was
        made after the last word of the manifests. What tells of nobody has to look like a copy, too.
        """
        inode = self._index.inode(number)
        if inode is None or inode.backing is None or inode.backing.root == each.root or each.is_dir:
            return False
        if not who.number and not self.is_copy(number, each):
            return False
        return self.is_elder(inode, each) and (number in self._found.inodes or self._is_in_place(inode))

    def is_elder(self, inode: Inode, each: Object) -> bool:
        """Whether an object is older than the one that a record speaks of: moves go from elder to younger."""
        if inode.backing is None:
            return False  # in the index only
        born_ns, its_ns = each.backing.btime_ns, inode.backing.btime_ns
        if born_ns and its_ns and born_ns != its_ns:
            return born_ns < its_ns
        return self.is_copy(inode.number, each) and each.spot not in self._store.placement.home_spots(inode.number)

    def is_arrived(self, number: InodeNo, each: Object) -> bool:
        """Whether an object without a label, at the name of an inode, is the copy that a move has made of it."""
        inode = self._index.inode(number)
        if inode is None or inode.is_dir or inode.is_regular:
            return False
        came = inode.backing is None or inode.backing.root != each.root
        at_home = self._store.placement.directory_home(each.spot.directory) == each.root
        return came and at_home and self.is_copy(number, each) and not self.is_elder(inode, each)

    def _is_in_place(self, inode: Inode) -> bool:
        """Whether the object that a record speaks of is where its row says."""
        store, number, backing = self._store, inode.number, inode.backing
        try:
            return backing is not None and any(
                spot.root == backing.root and is_object(store.places.at(spot, number), backing)
                for spot in store.placement.spots(number)
            )
        except (OSError, FusestoreError):
            return False

    def _outlives(self, inode: Inode, each: Object) -> bool:
        """Of two objects with one id, a move's source and its copy: whether the second is the copy."""
        is_elsewhere = inode.backing is not None and inode.backing.root != each.root
        return is_elsewhere and not inode.is_dir and not self.is_elder(inode, each)

    def add(self, each: Object, who: Known) -> InodeNo:
        """A new inode for an object, with the id and number of its label where they are its own and free."""
        index = self._index
        self._tally.count(each.root, who.how)
        if who.how in ("copies", "conflicts"):
            self._tally.count(each.root, "new")
        number = who.wanted
        if not FIRST_INODE <= number < index.numbers.next_inode or index.inode(number) is not None:
            number = index.new_inode()
        inode = first_record(number, who.id, each.at, each.seen, each.backing)
        batch = self._store.batch()
        # Labelled and not in the manifest: written in the moments before the index was lost.
        if who.how == "by_label" and inode.is_regular and each.root in self._recorded:
            inode.state = State.WRITING
            batch.writing(number, Writing(number, inode.version))
        self._label(each, inode, who)
        batch.put_inode(inode)
        index.apply(batch)
        self._found.inodes.add(number)
        self._found.arrived.add(number)
        return number

    def refresh(self, inode: Inode, each: Object, who: Known) -> None:
        """Bring a record up to what its object shows."""
        batch = self._store.batch()
        times = inode.atime_ns, inode.mtime_ns, inode.ctime_ns
        replica = self._index.replica(inode.number, each.root)
        inode.backing = each.backing
        verdict = compare(inode, each.seen, each.backing.btime_ns, links=False)
        fill(inode, each.seen, links=each.at.driver.layout is Layout.TREE)
        if inode.is_regular and inode.state is State.WRITING:
            batch.writing(inode.number, Writing(inode.number, inode.version))
        elif replica is not None and (replica.state, replica.version) == (ReplicaState.CURRENT, inode.version):
            pass  # its times are its own
        elif inode.is_regular and verdict is Verdict.CONTENT:
            inode.version += 1
            inode.state = State.WRITING
            batch.writing(inode.number, Writing(inode.number, inode.version, closed=True))
        elif verdict is Verdict.SUSPECT and who.how != "by_copy":
            inode.ctime_ns = times[2]  # the next look at it compares the bytes
        elif self._index.skeletons(inode.number):
            inode.atime_ns, inode.mtime_ns, inode.ctime_ns = times  # on its way, they are our doing on the disks
        self._label(each, inode, who)
        batch.put_inode(inode)
        self._index.apply(batch)

    def _label(self, each: Object, inode: Inode, who: Known) -> None:
        """Replace a label that tells of another object, so that this one is known by its own from now on."""
        if who.how not in NOT_OURS or not self._write_labels:
            return
        at = each.at
        try:
            identity.write(*at, identity.Label(inode.id, inode.number, at.driver.uuid, each.backing))
            inode.ctime_ns = at.driver.stat(at.directory, at.name).st_ctime_ns
        except (OSError, FusestoreError):
            self._tally.tell(each.root, "not labelled", self._store.path(inode.number) or at.name)


def _same_type(inode: Inode | None, each: Object) -> bool:
    return inode is not None and stat.S_IFMT(inode.mode) == stat.S_IFMT(each.seen.st_mode)


def _is(inode: Inode, each: Object) -> bool:
    mine = inode.backing
    return mine is not None and (mine.st_ino, mine.btime_ns) == (each.backing.st_ino, each.backing.btime_ns)
