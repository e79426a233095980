"""Extended attributes: the object's own, and the virtual ones that tell what the index knows.

    user.fusestore.id .hash .version .root .state .path .move .socket     read-only, not listed by listxattr
    user.fusestore.name .content_type      a file's own, like any other; without one the name is the present one

An object on a disk keeps its own attributes there, so that they travel with it and are readable without us; those of
objects that are only in the index are rows. `user.fusestore` itself is the label on the disk (`roots.identity`) and
hidden.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from typing import TYPE_CHECKING, Final

from fusestore.core.intents import Attributes
from fusestore.errors import InvalidRequest, NoAttribute, NotSupported, Protected, RootOffline
from fusestore.model import Inode, InodeNo, Layout, Operation, State
from fusestore.roots import content
from fusestore.roots.hashing import tagged
from fusestore.roots.identity import IDENTITY_XATTR
from fusestore.service import move_text, moving
from fusestore.service.attributes import settle_attributes
from fusestore.service.deciding import Decided
from fusestore.service.looking import know
from fusestore.service.places import At

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusestore.model import Owner
    from fusestore.service.store import Store

VIRTUAL: Final = b"user.fusestore."
NAME: Final = b"user.fusestore.name"  # under which a file was registered
CONTENT_TYPE: Final = b"user.fusestore.content_type"
KEPT: Final = (NAME, CONTENT_TYPE)
# Asked before every write; there are none here, because a file capability does not survive a move to any root.
CAPABILITY: Final = b"security.capability"
# The kernel checks rights by mode alone here. An ACL that is stored and not obeyed would be a lie; tools that are told
# so set the mode instead.
ACLS: Final = b"system."
# `ls -l` asks each entry for its label; on an offline root it shall list all the same. Told that there is no such
# thing, it asks no more on this device, and is several times as fast.
SECURITY: Final = b"security."
LABEL: Final = b"security.selinux"
NAMESPACES: Final = (b"user", b"trusted", b"security")


def get(store: Store, number: InodeNo, name: bytes) -> bytes:
    """The value of an attribute.

    Raises:
        NoAttribute, NotSupported, NotFound, RootOffline; OSError as the disk says.
    """
    try:
        return _get(store, number, name)
    except (NoAttribute, RootOffline) as error:
        if name == LABEL and isinstance(error, NoAttribute):
            raise NotSupported(name) from None
        present = store.index.parents(number) if name == NAME else ()
        if not present:
            raise
        return present[0][1]


def _get(store: Store, number: InodeNo, name: bytes) -> bytes:
    if name == CAPABILITY:
        raise NoAttribute(name)
    if name.startswith(VIRTUAL) and name not in KEPT:
        value = _virtual(store, store.inode(number), name[len(VIRTUAL) :])
        if value is None:
            raise NoAttribute(name)
        return value
    if name == IDENTITY_XATTR:
        raise NoAttribute(name)
    if name.startswith(ACLS):
        raise NotSupported(name)
    if number in store.orphans:
        opened = store.files.get(number)
        if opened is None:
            raise NoAttribute(name)
        return content.getxattr(opened.fd, name)
    try:
        at = _place(store, number)
    except RootOffline:
        if name.startswith(SECURITY):
            raise NoAttribute(name) from None
        raise
    if at is None:
        _check_name(name)
        stored = store.index.xattr(number, name)
        if stored is None:
            raise NoAttribute(name)
        return stored
    try:
        return at.driver.getxattr(at.directory, at.name, name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise NoAttribute(name) from None
        raise


def names(store: Store, number: InodeNo) -> list[bytes]:
    """The names of the object's own attributes.

    Raises:
        RootOffline: nobody knows; NotFound; OSError as the disk says.
    """
    opened = store.files.get(number) if number in store.orphans else None
    at = _place(store, number)
    if opened is not None:
        stored: Sequence[bytes] = content.listxattr(opened.fd)
    elif at is not None:
        stored = at.driver.listxattr(at.directory, at.name)
    else:
        return store.index.xattrs(number)
    return [name for name in stored if name != IDENTITY_XATTR and not name.startswith(ACLS)]


def put(store: Store, number: InodeNo, name: bytes, value: bytes, owner: Owner) -> None:
    """Set an attribute.

    Raises:
        Protected: it is one of ours; NotSupported: a file capability or an ACL; NotFound; OSError as the disk says.
    """
    _change(store, number, name, value, owner)


def remove(store: Store, number: InodeNo, name: bytes, owner: Owner) -> None:
    """Remove an attribute.

    Raises:
        NoAttribute, and as for `put`.
    """
    _change(store, number, name, None, owner)


def _change(store: Store, number: InodeNo, name: bytes, value: bytes | None, owner: Owner) -> None:
    if (name.startswith(VIRTUAL) and name not in KEPT) or name == IDENTITY_XATTR:
        raise Protected(name)
    if name == CAPABILITY or name.startswith(ACLS):
        raise NotSupported(name)
    inode = store.inode(number)
    if number in store.orphans:
        opened = store.files.get(number)
        if opened is None:
            raise NotSupported(name)  # neither the index nor a disk has a place for it any more
        content.setxattr(opened.fd, name, value)
        return
    at = _place(store, number)
    if at is None:
        _change_in_index(store, inode, name, value, owner)
        return
    store.writable(at.driver)
    inode = know(store, inode, at.driver)
    try:
        with Decided(store, Attributes(number), grows=value is not None) as key:
            if value is None:
                at.driver.removexattr(at.directory, at.name, name)
            else:
                at.driver.setxattr(at.directory, at.name, name, value, 0)
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise NoAttribute(name) from None
        raise
    settle_attributes(store, inode, at, key, owner=owner)


def _change_in_index(store: Store, inode: Inode, name: bytes, value: bytes | None, owner: Owner) -> None:
    number = inode.number
    _check_name(name)
    if value is None and store.index.xattr(number, name) is None:
        raise NoAttribute(name)
    if name.startswith(b"user.") and not (inode.is_dir or inode.is_regular):
        raise Protected(name)  # as on a disk (xattr(7))
    batch = store.batch(grows=value is not None)
    batch.xattr(number, name, value)
    inode.ctime_ns = time.time_ns()
    batch.touch_inode(inode)
    driver = store.root_of(number)
    store.event(
        batch,
        inode,
        Operation.UPDATE,
        "attributes",
        path=store.path(number),
        root=driver.name if driver else "",
        owner=owner,
    )
    store.index.apply(batch)


def _check_name(name: bytes) -> None:
    """Refuse what a disk refuses (xattr(7)), where no disk is asked."""
    namespace, _, rest = name.partition(b".")
    if namespace not in NAMESPACES:
        raise NotSupported(name)
    if not rest:
        raise InvalidRequest("an attribute without a name")


def _place(store: Store, number: InodeNo) -> At | None:
    """Where the disk object is; None when there is none."""
    inode = store.inode(number)
    if number in store.orphans:
        return None
    top = store.tops.get(number)
    if top is not None:
        return At(*store.places.directory(number), b".") if store.layouts[top] is Layout.TREE else None
    spots = store.disk_spots(inode, store.placement.spots(number))
    return store.places.at(spots[0], number) if spots else None


def _virtual(store: Store, inode: Inode, key: bytes) -> bytes | None:
    match key:
        case b"id":
            return str(uuid.UUID(bytes=inode.id)).encode()
        case b"hash":
            return tagged(inode.hash_algorithm, inode.current_hash).encode() or None
        case b"version":
            return str(inode.version).encode()
        case b"state":
            return State(inode.state).name.lower().encode()
        case b"root":
            driver = store.root_of(inode.number)
            return driver.name.encode() if driver else None
        case b"path":
            return store.path(inode.number)
        case b"move":
            move = moving.open_above(store, inode.number)
            return move_text.line(move) if move is not None else None
        case b"socket":
            return os.fsencode(store.socket_path)
    return None
