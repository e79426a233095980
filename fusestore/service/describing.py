"""Records as plain dicts, the form in which the socket and the command line show them.

Names are bytes; here they become text with `surrogateescape`, which loses nothing.
"""

from __future__ import annotations

import os
import stat
import time
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from fusestore.core.moves import eta_s
from fusestore.model import Layout, State
from fusestore.roots.hashing import tagged
from fusestore.service import moving
from fusestore.service.looking import see
from fusestore.service.space import room

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.index.store import Index
    from fusestore.model import Consumer, Event, Inode, JournalEntry, Move, Spot, Verified
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


def type_of(inode: Inode) -> str:
    return TYPES[stat.S_IFMT(inode.mode)]


def state_of(inode: Inode) -> str:
    return State(inode.state).name.lower()


def record(store: Store, inode: Inode) -> dict[str, Any]:
    """Everything the index knows of an inode, with its attributes as of now."""
    return known(store, see(store, inode).inode)


def known(store: Store, inode: Inode) -> dict[str, Any]:
    """The same, with the attributes that the record has."""
    driver = store.root_of(inode.number)
    home = store.placement.home(inode.number)
    paths = [store.join(*name) for name in store.index.parents(inode.number)]
    return {
        "id": id_text(inode.id),
        "inode": inode.number,
        "path": text(store.path(inode.number)),
        "paths": [text(path) for path in paths],
        "type": type_of(inode),
        "mode": stat.S_IMODE(inode.mode),
        "uid": inode.uid,
        "gid": inode.gid,
        "nlink": inode.nlink,
        "size": inode.size,
        "mtime_ns": inode.mtime_ns,
        "ctime_ns": inode.ctime_ns,
        "created_ns": inode.created_ns,
        "version": inode.version,
        "state": state_of(inode),
        "hash": tagged(inode.hash_algorithm, inode.current_hash),
        **verification(store, inode),
        "reserved": store.reservations.owners(inode.number),
        "root": driver.name if driver else "",
        "home": store.roots[home].name if home is not None else "",
    }


def verification(store: Store, inode: Inode) -> dict[str, Any]:
    """When the present content was last read again and compared with its hash, and what that showed."""
    verified = store.index.verified(inode.number)
    if verified is None or verified.version != inode.version:
        return {"verified_ns": 0, "verified": ""}
    return {"verified_ns": verified.time_ns, "verified": verified.outcome.name.lower()}


def unsound(store: Store, inode: Inode, verified: Verified) -> dict[str, Any]:
    """A file that is not what it should be."""
    return {
        "id": id_text(inode.id),
        "path": text(store.path(inode.number)),
        "root": store.roots[verified.root].name,
        "outcome": verified.outcome.name.lower(),
        "expected": tagged(inode.hash_algorithm, inode.current_hash),
        "found": tagged(inode.hash_algorithm, verified.found),
        "time_ns": verified.time_ns,
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
    told: dict[str, Any] = {
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
    if event.tid is not None:
        told["tid"] = event.tid
    if event.other_paths:
        told["other_paths"] = [text(path) for path in event.other_paths]
    return told


def consumer(name: str, consumer: Consumer, index: Index) -> dict[str, Any]:
    """How far a named watcher is; `lag` counts seqs, some of which an epoch may have skipped."""
    return {
        "consumer": name,
        "seq": consumer.seq,
        "epoch": consumer.epoch,
        "acked_ns": consumer.acked_ns,
        "lag": max(0, index.last_seq - consumer.seq),
        "lost": consumer.has_lost,
    }


def present(inode: Inode, path: bytes, root: str, home: str) -> dict[str, Any]:
    """An object as it is under one of its names, in the words of an event."""
    return {
        "kind": "present",
        "id": id_text(inode.id),
        "inode": inode.number,
        "type": type_of(inode),
        "path": text(path),
        "root": root,
        "home": home,
        "version": inode.version,
        "size": inode.size,
        "mtime_ns": inode.mtime_ns,
        "hash": tagged(inode.hash_algorithm, inode.current_hash),
        "state": state_of(inode),
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


def move(store: Store, move: Move) -> dict[str, Any]:
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
        "held_path": text(moving.held_path(store, move)),
        "files_done": move.files_done,
        "files_total": move.files_total,
        "bytes_done": move.bytes_done,
        "bytes_total": move.bytes_total,
        "eta_s": eta_s(move, time.time_ns()),
        "created_ns": move.created_ns,
        "finished_ns": move.finished_ns,
        "uid": move.uid,
        "pid": move.pid,
    }


def root(store: Store, driver: Driver) -> dict[str, Any]:
    """A storage place and the room on it; `since_ns` and `reason` of one that is offline."""
    space = room(driver)
    absence = store.absent.get(driver.number)
    return {
        "name": driver.name,
        "path": os.fspath(driver.path),
        "uuid": str(uuid.UUID(bytes=driver.uuid)),
        "layout": driver.layout.value,
        "outside": driver.outside.value,
        "state": "doubted" if absence and absence.is_doubted else _state(store, driver),
        "reason": absence.reason if absence else "",
        "since_ns": absence.since_ns if absence else 0,
        "resource": driver.layout is Layout.TREE,
        "device": driver.device,
        "total_bytes": space.total if space else None,
        "free_bytes": space.available if space else None,
        "trash_bytes": store.trashed[driver.number],
        "promised_bytes": store.reserved[driver.number].total,
        "drain": drain(store, driver),
        "watch": asdict(watch) if (watch := store.watches.get(driver.number)) is not None else None,
    }


def _state(store: Store, driver: Driver) -> str:
    record = store.drains.get(driver.number)
    if not driver.online and not (record and record.released_ns):
        return "offline"
    if record is not None:
        return "drained" if record.finished_ns else "draining"
    return "read-only" if driver.read_only else "online"


def drain(store: Store, driver: Driver) -> dict[str, Any] | None:
    """How far a root is that is to be empty; None if it is not to be."""
    record, progress = store.drains.get(driver.number), store.emptying.get(driver.number)
    if record is None:
        return None
    return {
        "state": "drained" if record.finished_ns else "draining",
        "to": [store.roots[each].name for each in record.to],
        "started_ns": record.started_ns,
        "finished_ns": record.finished_ns,
        "proof": record.proof,
        "released_ns": record.released_ns,
        "files_left": progress.files_left if progress else None,
        "bytes_left": progress.bytes_left if progress else None,
        "held": [{"path": text(path), "reason": reason} for path, reason in progress.held.items()] if progress else [],
    }


def trouble_of(root: dict[str, Any]) -> str:
    """Why a root is not online, and what an operator can do about it; `root` is what `root` says."""
    name = root["name"]
    trouble = f"root {name} is {root['state']}: {root['reason']}"
    if root["state"] != "doubted":
        return trouble
    return (
        f"{trouble}; if that is right: fusestore root accept {name}, when it was put right: fusestore root retry {name}"
    )
