"""New names: files, directories, symlinks, special files and hard links."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from uuid_utils import uuid7

from fusestore.core.intents import Create, Link
from fusestore.core.namespace import check_name, check_parent
from fusestore.core.placement import by_id
from fusestore.errors import AlreadyExists, CrossesRoots, NotFound
from fusestore.model import Inode, InodeNo, Layout, Operation, Stamp, State
from fusestore.roots import content, identity
from fusestore.roots.hashing import Hasher
from fusestore.service import adopting, draining, trash, writing
from fusestore.service.deciding import Decided
from fusestore.service.looking import Seen, fill, know
from fusestore.service.openfiles import OpenFile
from fusestore.service.parents import prepare, touch_parent

if TYPE_CHECKING:
    from fusestore.model import Owner
    from fusestore.service.places import At
    from fusestore.service.store import Store


class Created(NamedTuple):
    """A new inode, and the descriptor of its bytes when it is a regular file (the caller's to close)."""

    seen: Seen
    fd: int | None


def make(
    store: Store,
    parent: InodeNo,
    name: bytes,
    mode: int,
    owner: Owner,
    *,
    rdev: int = 0,
    target: bytes = b"",
    opened: bool = False,
) -> Created:
    """Make a new file, directory, symlink or special file.

    Args:
        mode: type and permission bits, umask applied.
        opened: a writer comes with it, so a writing period begins at once.

    Raises:
        AlreadyExists, NotFound, NotADirectory, Protected, NameTooLong, BadName, RootOffline, RootReadOnly, IndexFull;
        OSError as the disk says.
    """
    check_name(name)
    directory = check_parent(store.index.inode(parent), name, store.tops)
    if store.index.dentry(parent, name) is not None:
        raise AlreadyExists(name)
    root = store.home_root(parent)
    if root.number in store.drains and stat.S_ISREG(mode):
        root = draining.haven(store, root)
        spot = by_id(root.number)
    else:
        spot = store.placement.spot_in(store.writable(root).number, parent, name)
    gid = owner.gid
    if directory.mode & stat.S_ISGID:  # the directory gives its group, and to directories the bit itself (open(2))
        gid = directory.gid
        if stat.S_ISDIR(mode):
            mode |= stat.S_ISGID
    intent = Create(
        inode=store.index.new_inode(),
        id=uuid7().bytes,
        parent=parent,
        name=name,
        spot=spot,
        mode=mode,
        uid=owner.uid,
        gid=gid,
        rdev=rdev,
        target=target,
    )
    if root.layout is Layout.ID and not stat.S_ISREG(mode):
        return Created(settle_create(store, intent, None, owner=owner), None)
    at = prepare(store, intent.spot, intent.inode, intent.id)
    try:
        key, fd = _make_at(store, intent, at)
    except FileExistsError:
        if not spot.by_id:
            adopting.adopt_name(store, parent, at)  # somebody else was faster on the disk
        raise AlreadyExists(name) from None
    try:
        return Created(settle_create(store, intent, at, key=key, owner=owner, opened=opened, fd=fd), fd)
    except BaseException:
        if fd is not None:
            content.close(fd)
        raise


def _make_at(store: Store, intent: Create, at: At) -> tuple[int, int | None]:
    """Decide, and make the disk object; the trash gives up its room for it. Returns the intent's key too."""
    for may_ask in (True, False):
        try:
            with Decided(store, intent, grows=True) as key:
                return key, effect_create(intent, at)
        except OSError as error:
            if error.errno not in trash.NO_ROOM or not may_ask or not trash.make_room(store, at.driver, 0):
                raise
    raise AssertionError("the second try ends")


def effect_create(intent: Create, at: At) -> int | None:
    """Make the disk object; returns the descriptor of a regular file."""
    driver, directory, name = at
    kind = stat.S_IFMT(intent.mode)
    if kind == stat.S_IFREG:
        return driver.create(directory, name, stat.S_IMODE(intent.mode), intent.uid, intent.gid)
    if kind == stat.S_IFDIR:
        driver.mkdir(directory, name, stat.S_IMODE(intent.mode), intent.uid, intent.gid)
    elif kind == stat.S_IFLNK:
        driver.symlink(directory, name, intent.target, intent.uid, intent.gid)
    else:
        driver.mknod(directory, name, intent.mode, intent.rdev, intent.uid, intent.gid)
    return None


def settle_create(
    store: Store,
    intent: Create,
    at: At | None,
    *,
    key: int | None = None,
    owner: Owner | None = None,
    opened: bool = False,
    fd: int | None = None,
) -> Seen:
    """Record a new inode; `at` is where its disk object is, None when it has none; `fd` where it is open already."""
    now_ns = time.time_ns()
    is_dir = stat.S_ISDIR(intent.mode)
    inode = Inode(
        number=intent.inode,
        id=intent.id,
        mode=intent.mode,
        uid=intent.uid,
        gid=intent.gid,
        rdev=intent.rdev,
        size=len(intent.target),
        nlink=2 if is_dir else 1,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        created_ns=now_ns,
        target=intent.target,
    )
    batch = store.batch(grows=key is None)  # what was decided and done on a disk has to be recorded
    root = store.roots[intent.spot.root]
    stat_now = None
    if at is not None:
        inode.backing = root.backing_fd(fd) if fd is not None else root.backing(at.directory, at.name)
        label = identity.Label(inode.id, inode.number, root.uuid, inode.backing)
        if fd is not None:
            identity.write_fd(fd, label)
        elif is_dir or inode.is_regular:
            identity.write(root, at.directory, at.name, label)
        stat_now = content.stat(fd) if fd is not None else root.stat(at.directory, at.name)
        fill(inode, stat_now, links=root.layout is Layout.TREE)
        if is_dir:
            batch.stamp(inode.number, Stamp(root.number, inode.ctime_ns))
    if key is not None:
        batch.settle(key)
    if opened:
        inode.state = State.WRITING
        writing.record(batch, inode)
    batch.put_inode(inode)
    batch.link(intent.parent, intent.name, inode.number)
    is_aside = intent.spot.by_id and root.layout is Layout.TREE
    if is_aside or store.placement.default_root(intent.parent) != root.number:
        batch.place(inode.number, (intent.spot,), None)
    touch_parent(store, batch, intent.parent, links=int(is_dir))
    if intent.trash is not None:
        trash.take_out(store, batch, intent.trash, inode, store.join(intent.parent, intent.name), owner)
    store.event(
        batch,
        inode,
        Operation.INSERT,
        "created",
        path=store.join(intent.parent, intent.name),
        root=root.name,
        owner=owner,
    )
    store.index.apply(batch)
    return Seen(inode, stat_now, root)


def create(store: Store, parent: InodeNo, name: bytes, mode: int, owner: Owner) -> tuple[Seen, int]:
    """Make a regular file and open it for writing; returns it with its handle."""
    seen, fd = make(store, parent, name, stat.S_IFREG | stat.S_IMODE(mode), owner, opened=True)
    assert fd is not None
    assert seen.driver is not None
    file = OpenFile(seen.inode.number, seen.driver, fd, writable=True)
    file.hasher = Hasher(store.config.hash.algorithm)  # it is empty
    file.writing = True
    return seen, store.files.add(file, write=True)


def mknod(store: Store, parent: InodeNo, name: bytes, mode: int, rdev: int, owner: Owner) -> Seen:
    """Make a file of any type but directory or symlink, without opening it."""
    seen, fd = make(store, parent, name, mode, owner, rdev=rdev)
    if fd is not None:
        content.close(fd)
        store.on_unsettled(seen.inode.number)
    return seen


def link(store: Store, number: InodeNo, parent: InodeNo, name: bytes, owner: Owner) -> Inode:
    """Give an inode a further name on its own root.

    Raises:
        CrossesRoots: the name would lie on another root (EXDEV; tools then copy).
        AlreadyExists, NotFound, Protected, …: as for `make`.
    """
    check_name(name)
    check_parent(store.index.inode(parent), name, store.tops)
    if store.index.dentry(parent, name) is not None:
        raise AlreadyExists(name)
    inode = store.index.inode(number)
    if inode is None:
        raise NotFound(name)
    root = draining.namable(store, store.home_root(parent), inode)
    if store.placement.home(number) != root.number:
        raise CrossesRoots(name)
    spots = store.placement.spots(number)
    spot = store.placement.spot_in(root.number, parent, name)
    if spot.by_id or spots[0].root != root.number:
        # No disk object of its own: an id root, or bytes that are still on their way and get the link on arrival.
        intent = Link(number, parent, name, spots[0], spot, inode.backing)
        return settle_link(store, intent, None, owner=owner)
    at = prepare(store, spot, number, inode.id)
    start = store.placement.spots(number)[0]  # it may have made way itself
    source = store.places.at(start, number)
    inode = know(store, inode, root)
    intent = Link(number, parent, name, start, spot, inode.backing)
    with Decided(store, intent, grows=True) as key:
        root.link(source.directory, source.name, at.directory, at.name)
    return settle_link(store, intent, at, key=key, owner=owner)


def settle_link(
    store: Store, intent: Link, at: At | None, *, key: int | None = None, owner: Owner | None = None
) -> Inode:
    """Record a further name; `at` is where its own disk object is, None when it has none."""
    number = intent.inode
    inode = store.inode(number)
    batch = store.batch(grows=key is None)
    names = [*store.index.parents(number), (intent.parent, intent.name)]
    row = store.index.placement(number)
    spots = row or store.placement.spots(number)
    if at is not None:
        spots = (*spots, intent.spot)
    after = store.placement.row_for(spots, names)
    batch.place(number, after, row)
    inode.nlink += 1
    if at is not None:
        fill(inode, at.driver.stat(at.directory, at.name), links=after is None)
    elif not store.keeps_ctime(spots):
        inode.ctime_ns = time.time_ns()
    batch.touch_inode(inode)
    batch.link(intent.parent, intent.name, number)
    if key is not None:
        batch.settle(key)
    touch_parent(store, batch, intent.parent, links=0)
    root = store.roots[intent.spot.root]
    store.event(
        batch,
        inode,
        Operation.INSERT,
        "linked",
        path=store.join(intent.parent, intent.name),
        old_path=store.path(number) or b"",
        root=root.name,
        owner=owner,
    )
    store.index.apply(batch)
    return inode
