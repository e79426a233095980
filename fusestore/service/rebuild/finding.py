"""Looking at every object on every disk, to bring an index that was read from manifests up to what is there.

On `tree` roots the disk says what is called what, except where an object lies at a spot of its own (a ghost, aside, a
skeleton): there, and on `id` roots, it is what the manifests said. Who an object is, is for `identifying` to say;
`mending` makes of it all what an index must be.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fusestore.core.placement import by_id
from fusestore.errors import FusestoreError
from fusestore.model import CONTROL_NAME, NAME_MAX, Inode, InodeNo, Layout, Replica, ReplicaState, RootNo, Spot
from fusestore.roots import identity
from fusestore.service import walking
from fusestore.service.places import At
from fusestore.service.rebuild.identifying import NOBODY, Known, Object, look
from fusestore.service.rebuild.labels import TELL, Way

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusestore.roots.local import LocalRoot
    from fusestore.service.rebuild.identifying import Found, Identities
    from fusestore.service.rebuild.labels import Progress
    from fusestore.service.rebuild.tally import Tally
    from fusestore.service.store import Store

CHUNK: Final = 500


class Finder:
    """One look at all disks.

    Args:
        roots: all roots of the store.
        found: what is found is added to it.
        total: how many objects there are, as far as anybody knows.
    """

    def __init__(
        self,
        store: Store,
        roots: Mapping[RootNo, LocalRoot],
        identities: Identities,
        found: Found,
        tally: Tally,
        *,
        total: int,
        progress: Progress,
    ) -> None:
        self._store = store
        self._index = store.index
        self._roots = roots
        self._identities = identities
        self._found = found
        self._tally = tally
        self._total = total
        self._progress = progress
        self._done = 0
        self._todo: list[tuple[InodeNo, Way]] = []

    def run(self) -> None:
        """Look; further copies come last, when it is known of what."""
        tops = {root: top for top, root in self._store.tops.items()}
        for number, root in self._roots.items():
            if root.layout is Layout.TREE:
                self._walk(tops[number], Way(root, b"", ()))
        further = []
        for root in self._roots.values():
            for id in root.ids():
                known = self._index.by_id(id)
                if known is not None and (known in self._found.inodes or self._index.replica(known, root.number)):
                    further.append((root, id))
                else:
                    self._see_by_id(root, id)
        for root, id in further:
            self._see_further(root, id)
        self._store.places.close()  # opened where the manifests said, which need not be so

    # -- going through the disks ----------------------------------------------------------------------------------

    def _walk(self, top: InodeNo, way: Way) -> None:
        self._todo.append((top, way))
        while self._todo:
            self._see_directory(*self._todo.pop())

    def _see_directory(self, number: InodeNo, way: Way) -> None:
        root = way.root
        try:
            fd = way.open()
        except (OSError, FusestoreError):
            self._leave_unseen(number, way.path(), root.number)
            return
        try:
            names = set(root.list(fd))
            for name in names:
                self._see_name(number, way, At(root, fd, name))
        except OSError:
            self._leave_unseen(number, way.path(), root.number)
            return
        finally:
            root.close_dir(fd)
        self._forget_missing(number, root, names)

    def _see_name(self, parent: InodeNo, way: Way, at: At) -> None:
        self._tick()
        if len(at.name) > NAME_MAX or (at.name == CONTROL_NAME and parent in self._store.tops):
            return
        spot = Spot(at.driver.number, parent, at.name)
        holder = self._index.occupant(spot)
        each = look(at, spot)
        if each is None:
            known = holder or self._index.dentry(parent, at.name)
            if known is not None:
                self._identities.note(known, spot)
                self._leave_unseen(known, way.path(at.name), spot.root)
            return
        who = self._identities.identify(each)
        held = holder is not None and self._is_held_by(holder, each, who)
        number = holder if held else self._see_named(parent, way, each, who)
        if number is not None and each.is_dir:
            self._todo.append((number, way.below(at.name)))

    def _is_held_by(self, holder: InodeNo, each: Object, who: Known) -> bool:
        """Whether the inode that a spot belongs to, though its name is another, lies there; if so, it is taken."""
        if self._index.skeleton(holder, each.root) == each.spot:  # it gets its label when it is the directory's place
            there = each.is_dir and (who.number == holder or not (who.number or who.id))
            if there:
                self._found.skeletons.add((holder, each.spot))
            return there
        taken = who.number == holder and self._identities.take(holder, each, who)
        if taken:
            self._identities.note(holder, each.spot, linked=each.is_linked)
        return taken

    def _see_named(self, parent: InodeNo, way: Way, each: Object, who: Known) -> InodeNo | None:
        """An object that is called what the disk calls it; returns who it is.

        None for what a move has left here: its object lies elsewhere.
        """
        store, index, name = self._store, self._index, each.at.name
        directory = self._see_further_place(parent, each, who) if each.is_dir else None
        if directory is not None:
            return directory
        known = who.number or (self._known_by_name(parent, name) if who.how == "new" else None)
        if known is not None and self._identities.is_left(known, each, who):
            self._leave_behind(known, parent, each)
            return None
        if known is not None and not who.number and self._identities.is_arrived(known, each):
            who = Known(known, "by_manifest")
        number = who.number or self._identities.add(each, who)
        if who.number and not self._identities.take(number, each, who):
            if index.dentry(parent, name) == number and self._identities.is_copy(number, each):
                self._tell_further(each.root, way.path(name))
                return None
            number = self._identities.add(each, Known(NOBODY, "conflicts"))
            self._tally.tell(each.root, "conflict", store.join(parent, name) or name)
        old = index.dentry(parent, name)
        if old != number:
            batch = store.batch()
            if old is not None:
                self._found.missing.setdefault(old, store.join(parent, name) or name)
                batch.unlink(parent, name, old)
            guest = index.placement(number) is not None
            for other in index.parents(number):
                if each.is_dir or (not guest and each.root not in self._roots_of_directory(other[0])):
                    batch.unlink(*other, number)
            batch.link(parent, name, number)
            index.apply(batch)
            if each.is_dir:
                store.directory_changed()
        self._identities.note(number, each.spot, linked=each.is_linked)
        return number

    def _roots_of_directory(self, number: InodeNo) -> tuple[RootNo | None, RootNo | None]:
        """Where a directory lies, and where it belongs."""
        return self._store.placement.default_root(number), self._store.placement.directory_home(number)

    def _known_by_name(self, parent: InodeNo, name: bytes) -> InodeNo | None:
        """What has a name, or had it and is found at another place or not yet."""
        return self._index.dentry(parent, name) or self._found.was.get((parent, name))

    def _leave_behind(self, number: InodeNo, parent: InodeNo, each: Object) -> None:
        """What a move has left shows a name that its copy belongs to as well, and may not have been given yet."""
        self._identities.leave(number, each.backing, each.spot)
        inode, name = self._index.inode(number), each.at.name
        if inode is None or inode.backing is None or number not in self._found.arrived:
            return
        is_its = self._found.was.get((parent, name)) == number and self._index.dentry(parent, name) is None
        if is_its and self._store.placement.directory_home(parent) == inode.backing.root:
            batch = self._store.batch()
            batch.link(parent, name, number)
            self._index.apply(batch)

    # -- directories on their way -------------------------------------------------------------------------------------

    def _see_further_place(self, parent: InodeNo, each: Object, who: Known) -> InodeNo | None:
        """A directory that is another place of one that is known; returns which.

        The younger is where it goes, and has the name that it was given; the elder is where it still is.
        """
        number = who.number or (self._index.dentry(parent, each.at.name) if who.how == "new" else None)
        inode = self._index.inode(number) if number else None
        if number is None or inode is None or not inode.is_dir:
            return None
        here = inode.backing.root if inode.backing is not None else self._store.placement.default_root(number)
        if here == each.root:
            return None
        if number not in self._found.inodes and inode.backing is not None and who.number:
            return None  # as far as anybody can tell, it is here
        if number not in self._found.inodes or not self._identities.is_elder(inode, each):
            self._goes_to(number, parent, each)
        elif who.number and number in self._found.arrived:
            self._comes_from(inode, each, who)
        else:
            return None
        return number

    def _goes_to(self, number: InodeNo, parent: InodeNo, each: Object) -> None:
        store, index, name = self._store, self._index, each.at.name
        batch = store.batch()
        batch.skeleton(number, each.spot)
        self._found.skeletons.add((number, each.spot))
        old = index.dentry(parent, name)
        if old != number:
            spots = store.placement.spots(number)
            if old is not None:
                self._found.missing.setdefault(old, store.join(parent, name) or name)
                batch.unlink(parent, name, old)
            for other in index.parents(number):
                batch.unlink(*other, number)
            batch.link(parent, name, number)
            batch.place(number, spots, index.placement(number))
            self._found.spots[number] = dict.fromkeys(spots)
        index.apply(batch)
        store.directory_changed()

    def _comes_from(self, inode: Inode, each: Object, who: Known) -> None:
        """What was found in the younger place, and inherits it, gets rows of its own."""
        store, index, number = self._store, self._index, inode.number
        young = store.placement.spots(number)[0]
        batch = store.batch()
        for name, child in index.dentries(number):
            if child in self._found.inodes and index.placement(child) is None:
                spots = self._found.spots.setdefault(child, {})
                spots[Spot(young.root, number, name)] = None
                batch.place(child, tuple(spots), None)
        batch.skeleton(number, young)
        self._found.skeletons.add((number, young))
        batch.place(number, (each.spot,), index.placement(number))
        self._found.spots[number] = {each.spot: None}
        index.apply(batch)
        self._identities.refresh(inode, each, who)
        store.directory_changed()

    # -- the id areas -----------------------------------------------------------------------------------------------

    def _see_by_id(self, root: LocalRoot, id: bytes) -> None:
        """An object that lies under its id: its name is what the manifests say."""
        self._tick()
        each = look(At(root, *root.id_area(id)), by_id(root.number))
        if each is None or (root.layout is Layout.ID and not stat.S_ISREG(each.seen.st_mode)):
            return
        label = identity.read(*each.at)
        wanted = label.inode if label is not None and label.id == id else NOBODY
        who = Known(self._index.by_id(id) or NOBODY, "by_label" if wanted else "by_manifest", id, wanted)
        if who.number and self._identities.is_left(who.number, each, who):
            self._identities.leave(who.number, each.backing, each.spot)
            return
        number = who.number or self._identities.add(each, who)
        if who.number:
            self._identities.take(number, each, who)
        self._identities.note(number, each.spot)
        if each.is_dir:
            self._walk(number, Way(root, id, ()))

    def _see_further(self, root: LocalRoot, id: bytes) -> None:
        """A further copy: one that the manifest knows is a replica, and takes the place of what is not there.

        So is one that was made of the file since; an older one is what a move has left. Or the old directory of one
        that has arrived.
        """
        self._tick()
        number = self._index.by_id(id)
        inode = self._index.inode(number) if number is not None else None
        each = look(At(root, *root.id_area(id)), by_id(root.number))
        if number is None or inode is None or each is None:
            return
        if each.is_dir:
            self._see_old_directory(inode, each, Way(root, id, ()))
            return
        replica = self._index.replica(number, root.number)
        if (replica is None or replica.backing is None) and self._is_replica(inode, each):
            replica = Replica(ReplicaState.STALE, backing=each.backing)
        if replica is None or replica.backing is None:
            self._identities.leave(number, each.backing, each.spot)
            return
        if number in self._found.inodes:
            self._tally.count(root.number, "replicas")
            ours = (replica.backing.st_ino, replica.backing.btime_ns) == (each.backing.st_ino, each.backing.btime_ns)
            state = replica.state if ours else ReplicaState.STALE
            replica = replace(replica, state=state, backing=each.backing)
        else:
            self._tally.tell(root.number, "taken from a replica", self._store.path(number) or id)
            self._identities.take(number, each, Known(number, "by_manifest"))
            self._identities.note(number, each.spot)
            replica = None
        batch = self._store.batch()
        batch.replica(number, root.number, replica)
        self._index.apply(batch)
        self._found.replicas.add((number, root.number))

    def _see_old_directory(self, inode: Inode, each: Object, way: Way) -> None:
        number = inode.number
        if self._index.skeleton(number, each.root) == each.spot:
            self._found.skeletons.add((number, each.spot))
        elif number in self._found.arrived and self._store.placement.default_root(number) != each.root:
            self._comes_from(inode, each, Known(number, "by_label"))
        else:
            self._tell_further(each.root, way.path())
            return
        self._walk(number, way)

    def _is_replica(self, inode: Inode, each: Object) -> bool:
        """Whether a further copy that no manifest knows was made of the file, and is no older place of it."""
        is_elsewhere = each.root not in {spot.root for spot in self._store.placement.spots(inode.number)}
        in_tree = each.at.driver.layout is Layout.TREE
        return inode.is_regular and is_elsewhere and in_tree and not self._identities.is_elder(inode, each)

    # -- what is not there ------------------------------------------------------------------------------------------

    def _forget_missing(self, number: InodeNo, root: LocalRoot, there: set[bytes]) -> None:
        """Forget the names of a directory that its disk would show and does not."""
        store, index = self._store, self._index
        if store.placement.default_root(number) != root.number:
            return
        after = b""
        while names := index.dentries(number, after, CHUNK):
            after = names[-1][0]
            batch = store.batch()
            for name, child in names:
                if name not in there and index.placement(child) is None and child not in store.tops:
                    batch.unlink(number, name, child)
                    self._found.was[number, name] = child
                    self._found.missing.setdefault(child, store.join(number, name) or name)
            index.apply(batch)

    def _leave_unseen(self, number: InodeNo, path: bytes, root: RootNo) -> None:
        """A disk does not show an object, or what lies in it: what is known of it stays."""
        self._tally.count(root, "unseen")
        self._tally.tell(root, "not seen", path)
        for inode in walking.below(self._store, number):
            self._found.inodes.add(inode.number)
            for spot in self._index.placement(inode.number) or ():
                self._identities.note(inode.number, spot)

    def _tell_further(self, root: RootNo, path: bytes) -> None:
        self._tally.count(root, "further_copies")
        self._tally.tell(root, "further copy", path)

    def _tick(self) -> None:
        self._done += 1
        if self._done % TELL == 0:
            self._progress(min(self._done, self._total), self._total, "objects")
            if self._index.wants_commit:
                self._index.commit()
