"""Records as plain dicts, the form in which the socket and the command line show them.

Names are bytes; here they become text with `surrogateescape`, which loses nothing.
"""

from __future__ import annotations

import os
import stat
import uuid
from typing import TYPE_CHECKING, Any, Final

from fusestore.errors import FusestoreError
from fusestore.model import Layout, State
from fusestore.roots.hashing import tagged
from fusestore.service.looking import see

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import Event, Inode, JournalEntry, Move, Spot
    from fusestore.service.store import Store

TYPES: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def text(name: bytes | None) -> str:
    """A name or path as text."""
    return os.fsdecode(name) if name else ""


def id_text(id: bytes) -> str:
    return str(uuid.UUID(bytes=id))


def record(store: Store, inode: Inode) -> dict[str, Any]:
    """Everything the index knows of an inode, with its attributes as of now."""
    inode = see(store, inode).inode
    driver = store.root_of(inode.number)
    home = store.placement.home(inode.number)
    paths = [store.join(*name) for name in store.index.parents(inode.number)]
    return {
        "id": id_text(inode.id),
        "inode": inode.number,
        "path": text(store.path(inode.number)),
        "paths": [text(path) for path in paths],
        "type": TYPES[stat.S_IFMT(inode.mode)],
        "mode": stat.S_IMODE(inode.mode),
        "uid": inode.uid,
        "gid": inode.gid,
        "nlink": inode.nlink,
        "size": inode.size,
        "mtime_ns": inode.mtime_ns,
        "ctime_ns": inode.ctime_ns,
        "created_ns": inode.created_ns,
        "version": inode.version,
        "state": State(inode.state).name.lower(),
        "hash": tagged(inode.hash_algorithm, inode.current_hash),
        "root": driver.name if driver else "",
        "home": store.roots[home].name if home is not None else "",
    }


def location(store: Store, inode: Inode, spot: Spot) -> dict[str, Any]:
    """One place of an inode's bytes: on which root, where on its disk, and whether it is really there."""
    driver = store.roots[spot.root]
    if spot in store.placement.home_spots(inode.number):
        role = "home"
    else:
        role = "aside" if spot.by_id and driver.layout is Layout.TREE else "on its way"
    size = 0
    present = False
    try:
        at = store.places.at(spot, inode.number)
        size = at.driver.stat(at.directory, at.name).st_size
        present = True
    except (OSError, FusestoreError):
        size = inode.size
    return {
        "root": driver.name,
        "path": disk_path(store, driver, spot, inode),
        "role": role,
        "present": present,
        "size": size,
        "hash": tagged(inode.hash_algorithm, inode.current_hash),
    }


def disk_path(store: Store, driver: Driver, spot: Spot, inode: Inode) -> str:
    """Where a spot is on the disk, for people; the daemon itself never goes by such a path."""
    parts: list[bytes] = []
    number = inode.number
    while True:
        if spot.by_id:
            parts.append(driver.id_area_path(inode.id))
            break
        parts.append(spot.name)
        number = spot.directory
        if store.tops.get(number) == driver.number:
            break
        above = store.placement.realization(number, driver.number)
        if above is None:
            return ""
        inode, spot = store.inode(number), above
    return text(b"/".join([os.fsencode(driver.path), *reversed(parts)]))


def event(event: Event) -> dict[str, Any]:
    """One line of the event feed."""
    return {
        "seq": event.seq,
        "epoch": event.epoch,
        "time_ns": event.time_ns,
        "operation": event.operation.value,
        "kind": event.kind,
        "id": id_text(event.id),
        "inode": event.inode,
        "type": TYPES.get(event.type, ""),
        "path": text(event.path),
        "old_path": text(event.old_path),
        "root": event.root,
        "old_root": event.old_root,
        "version": event.version,
        "size": event.size,
        "mtime_ns": event.mtime_ns,
        "hash": event.hash,
        "cause": event.cause.value,
        "uid": event.uid,
        "pid": event.pid,
        "move": event.move,
        "detail": event.detail,
    }


def history(entry: JournalEntry) -> dict[str, Any]:
    """One line of an object's history."""
    return {
        "time_ns": entry.time_ns,
        "command": entry.command,
        "outcome": entry.outcome,
        "old": text(entry.old),
        "new": text(entry.new),
        "old_root": entry.old_root,
        "new_root": entry.new_root,
        "uid": entry.uid,
        "pid": entry.pid,
        "move": entry.move,
        "version": entry.version,
        "hash": entry.hash,
    }


def move(move: Move) -> dict[str, Any]:
    """A move with its counts."""
    return {
        "number": move.number,
        "id": id_text(move.id),
        "path": text(move.path),
        "old_path": text(move.old_path),
        "source": move.source,
        "target": move.target,
        "state": move.state.value,
        "reason": move.reason,
        "files_done": move.files_done,
        "files_total": move.files_total,
        "bytes_done": move.bytes_done,
        "bytes_total": move.bytes_total,
        "created_ns": move.created_ns,
        "finished_ns": move.finished_ns,
        "uid": move.uid,
        "pid": move.pid,
    }


def root(store: Store, driver: Driver) -> dict[str, Any]:
    """A storage place and the room on it."""
    space = driver.space() if driver.online else None
    return {
        "name": driver.name,
        "path": os.fspath(driver.path),
        "uuid": str(uuid.UUID(bytes=driver.uuid)),
        "layout": driver.layout.value,
        "outside": driver.outside.value,
        "state": "offline" if not driver.online else "read-only" if driver.read_only else "online",
        "resource": driver.layout is Layout.TREE,
        "device": driver.device,
        "total_bytes": space.total if space else None,
        "free_bytes": space.available if space else None,
        "promised_bytes": sum(promise.left for promise in store.reserved[driver.number].values()),
    }
