"""A verified copy takes its place: the switch of a move, after which the bytes are read from the target root.

The copy is renamed into place, never over anything (a stranger there is a conflict), the further names become hard
links, and one batch makes it the inode's place. The old bytes are released by a recorded decision, when the switch is
durable.
"""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING, NamedTuple

from fusestore.core.intents import Arrive
from fusestore.errors import Conflict, NotFound
from fusestore.model import Cause, FileStamp, Operation
from fusestore.roots import content, identity
from fusestore.service import ghosts
from fusestore.service.deciding import Decided
from fusestore.service.discarding import destroy, discard
from fusestore.service.looking import fill
from fusestore.service.parents import prepare
from fusestore.service.replicas import give_way, settled
from fusestore.service.syncing import keep

if TYPE_CHECKING:
    import os

    from fusestore.core.intents import Discard
    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.model import Inode, InodeNo, Move
    from fusestore.service.places import At
    from fusestore.service.store import Store

Discards = list[tuple[int, "Discard"]]


class Copy(NamedTuple):
    """A copy in the target root's incoming area, with the label of its inode if it has content.

    Attributes:
        digest: was verified on it, by `algorithm`; b"" for what has no content.
        stamp: of the original, as it was copied; None for what was only in the index.
    """

    staged: bytes
    algorithm: str
    digest: bytes
    stamp: FileStamp | None


def open_copy(driver: Driver, staged: bytes, *, write: bool) -> int:
    """Open a staged copy, also one whose mode does not let us write: whoever made such a file may go on writing it."""
    incoming = driver.incoming()
    try:
        return driver.open(incoming, staged, write=write)
    except PermissionError:
        if not write:
            raise
    mode = stat.S_IMODE(driver.stat(incoming, staged).st_mode)
    driver.chmod(incoming, staged, mode | stat.S_IWUSR | stat.S_IRUSR)
    try:
        return driver.open(incoming, staged, write=True)
    finally:
        driver.chmod(incoming, staged, mode)


def arrive(store: Store, move: Move, inode: Inode, made: Copy) -> Discards:
    """Switch `inode` to its copy.

    All that can fail comes before the switch, or is taken back: readers get their descriptor of the copy while it is
    still staged.

    Returns:
        what to destroy once the switch is durable.

    Raises:
        Conflict: something unknown is at the target; OSError as the disk says. Nothing was changed.
    """
    number = inode.number
    spots = store.placement.home_spots(number)
    driver = store.roots[spots[0].root]
    places = [prepare(store, spot, number, inode.id) for spot in spots]
    incoming, staged = driver.incoming(), made.staged
    backing = driver.backing(incoming, staged)
    intent = Arrive(
        number,
        move.number,
        inode.version,
        driver.number,
        staged,
        spots,
        backing,
        made.algorithm,
        made.digest,
        made.stamp,
    )
    opened = store.files.get(number)
    with contextlib.ExitStack() as unused:
        if opened is not None:
            fd = open_copy(driver, staged, write=opened.writers > 0)
            unused.callback(content.close, fd)
        try:
            with store.places.keeping_times(spots), Decided(store, intent, grows=True) as key:
                driver.rename(incoming, staged, places[0].directory, places[0].name, replace=False)
                seen = _link_rest(places)
        except FileExistsError:
            if _take_back_leftovers(store, number) or _take_away_lost(places, inode, staged):
                return arrive(store, move, inode, made)
            raise Conflict(driver.name, store.path(number) or b"") from None
        discards = _settle(store, intent, key, inode, seen)
        if opened is not None:
            unused.pop_all()
            opened.switch(driver, fd, writable=opened.writers > 0)
    return discards


def is_blocked(store: Store, inode: Inode) -> bool:
    """Whether something unknown has a place that a copy of this file would take, so that there is no use in making one.

    Not what may be an earlier copy of it that a crash or a power cut left: `arrive` compares that with a new one.
    """
    for spot in store.placement.home_spots(inode.number):
        if spot.by_id or spot in store.condemned or store.index.occupant(spot) is not None:
            continue
        try:
            driver, directory, name = store.places.at(spot, inode.number)
            driver.stat(directory, name)
        except (FileNotFoundError, NotFound):
            continue
        label = identity.read(driver, directory, name)
        if (label is None or label.id != inode.id) and not _leftovers(store, inode.number):
            return True
    return False


def _link_rest(places: list[At]) -> os.stat_result:
    """Give an arrived copy its further names, or take it back; returns what the disk says of it then."""
    first = places[0]
    made = [first]
    try:
        for place in places[1:]:
            first.driver.link(first.directory, first.name, place.directory, place.name)
            made.append(place)
        return first.driver.stat(first.directory, first.name)
    except OSError:
        for place in made:
            with contextlib.suppress(FileNotFoundError):
                place.driver.unlink(place.directory, place.name)
        raise


def _take_away_lost(places: list[At], inode: Inode, staged: bytes) -> bool:
    """Clear the way of an earlier copy that had arrived when a power cut took what the index knew of it."""
    found = False
    for place in places:
        with contextlib.suppress(FileNotFoundError):
            if _is_lost_copy(place, inode, staged):
                place.driver.unlink(place.directory, place.name)
                found = True
    return found


def _is_lost_copy(place: At, inode: Inode, staged: bytes) -> bool:
    """Whether the very copy that is staged lies at its target too: ours by its label, and unchanged since."""
    driver, directory, name = place
    incoming = driver.incoming()
    there, fresh = driver.stat(directory, name), driver.stat(incoming, staged)
    one, two = ((seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_rdev) for seen in (there, fresh))
    if one != two:
        return False
    if stat.S_ISLNK(there.st_mode):
        return driver.readlink(directory, name) == driver.readlink(incoming, staged)
    if not inode.is_regular:
        return True
    label = identity.read(driver, directory, name)
    return label is not None and label.id == inode.id and label.belongs_to(driver.backing(directory, name), driver.uuid)


def _take_back_leftovers(store: Store, number: InodeNo) -> bool:
    """Clear the way of what a crash left half arrived, while a root was away at the start after it."""
    leftovers = _leftovers(store, number)
    for key, intent in leftovers:
        take_back(store, intent, key)
    return bool(leftovers)


def _leftovers(store: Store, number: InodeNo) -> list[tuple[int, Arrive]]:
    return [
        (key, intent)
        for key, intent in store.index.intents()
        if isinstance(intent, Arrive) and intent.inode == number and not intent.done
    ]


def take_back(store: Store, intent: Arrive, key: int) -> None:
    """End an arrival that was cut off by destroying the copy: the original has gone on without it."""
    for spot in intent.spots:
        destroy(store, spot, intent.inode, intent.backing)
    batch = store.batch()
    batch.settle(key)
    store.index.apply(batch)


def finish_arrive(store: Store, intent: Arrive, key: int) -> Discards:
    """After a crash: the copy has its first name, and gets the others now."""
    places = [store.places.at(spot, intent.inode) for spot in intent.spots]
    first = places[0]
    for place in places[1:]:
        try:
            first.driver.link(first.directory, first.name, place.directory, place.name)
        except FileExistsError:
            pass
    return _settle(store, intent, key, store.inode(intent.inode), first.driver.stat(first.directory, first.name))


def _settle(store: Store, intent: Arrive, key: int, inode: Inode, seen: os.stat_result) -> Discards:
    """Record that the bytes are at home; returns what is to be destroyed."""
    number = intent.inode
    target = store.roots[intent.root]
    old_row = store.index.placement(number)
    old_spots = store.placement.spots(number)
    batch = store.batch()
    keep(store, batch, key, intent, target)
    discards = discard(store, batch, inode, old_spots, moved=True)
    give_way(store, batch, inode, {target.number})
    inode.backing = intent.backing
    fill(inode, seen, links=False)
    inode.nlink = len(store.index.parents(number))  # names on other roots are not counted by this disk
    if intent.digest and inode.version == intent.version:
        inode.hash, inode.hash_algorithm, inode.hash_version = intent.digest, intent.algorithm, intent.version
    batch.put_inode(inode)
    batch.place(number, store.placement.row_for(intent.spots, store.index.parents(number)), old_row)
    announce(store, batch, intent.move, inode, store.roots[old_spots[0].root], target)
    store.index.apply(batch)
    store.on_stale(number)
    settled(store, number)  # a copy may be wanted where its place was
    return discards


def settle_in_index(store: Store, move: Move, inode: Inode) -> Discards:
    """Bring home what has no disk object there: directories, symlinks and special files of an `id` root."""
    number = inode.number
    spots = store.placement.spots(number)
    wanted = store.placement.home_spots(number)
    source, target = store.roots[spots[0].root], store.roots[wanted[0].root]
    batch = store.batch()
    discards = discard(store, batch, inode, spots, moved=True)
    if discards:
        at = store.places.at(spots[0], number)
        fill(inode, at.driver.stat(at.directory, at.name), links=False)
        keep_xattrs(store, batch, inode, at)
    inode.backing = None
    inode.nlink = len(store.index.parents(number))
    batch.put_inode(inode)
    row = store.placement.row_for(wanted, store.index.parents(number))
    batch.place(number, row, store.index.placement(number))
    announce(store, batch, move.number, inode, source, target)
    store.index.apply(batch)
    return discards


def keep_xattrs(store: Store, batch: Batch, inode: Inode, at: At) -> None:
    """Take an object's xattrs into the index, because it will have no disk object to carry them."""
    for name in at.driver.listxattr(at.directory, at.name):
        if name != identity.IDENTITY_XATTR:
            batch.xattr(inode.number, name, at.driver.getxattr(at.directory, at.name, name))


def announce(store: Store, batch: Batch, move: int, inode: Inode, source: Driver, target: Driver) -> None:
    """Add to a batch that the bytes of an inode are on another root now."""
    store.event(
        batch,
        inode,
        Operation.UPDATE,
        "arrived",
        path=store.path(inode.number),
        root=target.name,
        old_root=source.name,
        cause=Cause.MOVE,
        move=move,
    )
    if all(each.number != move for each in store.index.open_moves_of(inode.number)):  # it came with its directory
        path = store.path(inode.number) or b""
        store.journal(batch, inode, "move", new=path, old_root=source.name, new_root=target.name, move=move)


def come_home(store: Store, inode: Inode) -> None:
    """Bring an object's physical names in line with its names, where rename(2) and link(2) reach.

    Hard links that are too many go at once: the file system makes what it did durable in the order of doing.

    Raises:
        FileExistsError: something unknown has its place.
    """
    number = inode.number
    wanted = store.placement.home_spots(number)
    for spot in wanted:
        have = store.placement.spots(number)
        if spot in have:
            continue
        prepare(store, spot, number, inode.id)
        spare = [each for each in have if each not in wanted]
        ghosts.relocate(store, number, spare[0] if spare else have[0], spot, keep=not spare)
    for spot in store.placement.spots(number):
        if spot not in wanted:
            ghosts.relocate(store, number, spot, wanted[0])
