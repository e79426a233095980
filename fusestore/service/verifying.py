"""Reading bytes again and comparing them with the recorded hashes: what `verify` and the scrubber do with one file.

    examine: read past the page cache, look whether somebody wrote meanwhile ──► a finding, which changes nothing
    record:  when it was, and what it showed ──► shown by `stat`, `where`, `explain`, `status`

A file that is not sound stays as it is, and a move refuses to copy it, until it reads well again, is written anew, or
is repaired (`repairing`).
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
import trio

from fusestore.errors import FusestoreError, NotFound, RootOffline, Stopped
from fusestore.model import FileStamp, Operation, Outcome, Verified
from fusestore.roots import content
from fusestore.roots.hashing import tagged
from fusestore.roots.rereading import digest_from_disk
from fusestore.service import describing, refreshing, walking
from fusestore.service.looking import see
from fusestore.service.soundness import BROKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fusestore.index.batch import Batch
    from fusestore.model import Cause, Inode, InodeNo, Kind, Owner
    from fusestore.service.places import At
    from fusestore.service.store import Store

    Report = Callable[[int, int, str], None]
    Read = Callable[[At, str], Awaitable[bytes]]  # the digest of what lies there, by this algorithm

log = structlog.get_logger()


class Finding(NamedTuple):
    """What a look at one file has shown."""

    inode: Inode
    outcome: Outcome | None  # None: nothing can be said; no hash is recorded, or somebody writes
    found: bytes = b""
    error: str = ""


async def examine(store: Store, known: Inode, read: Read) -> Finding:
    """Read a file again, and compare it with its hash."""
    try:
        inode = _as_now(store, known)
    except NotFound:
        return Finding(known, None)
    except (OSError, RootOffline):
        inode = known  # reading will say so, too
    if not inode.current_hash or store.files.has_writer(inode.number):
        return Finding(inode, None)
    try:
        at = store.place(inode.number)
        before = FileStamp.of(at.driver.stat(at.directory, at.name))
        found = await read(at, inode.hash_algorithm)
        at = store.place(inode.number)
        after = FileStamp.of(at.driver.stat(at.directory, at.name))
    except OSError as error:
        outcome = Outcome.UNREADABLE if error.errno in BROKEN else None
        return Finding(inode, outcome, error=error.strerror or str(error))
    except FusestoreError as error:
        return Finding(inode, None, error=str(error))
    now = store.index.inode(inode.number)
    if found == inode.current_hash:
        return Finding(inode, Outcome.SOUND)
    if now is None or now.version != inode.version or before != after:
        return Finding(inode, None)
    return Finding(inode, Outcome.DAMAGED, found)


def record(
    store: Store, batch: Batch, finding: Finding, *, cause: Cause | None = None, owner: Owner | None = None
) -> None:
    """Add to a batch when a file was read again and what that showed; an event says if it is another than before."""
    inode, outcome = finding.inode, finding.outcome
    driver = store.root_of(inode.number)
    if outcome is None or driver is None or store.index.inode(inode.number) is None:
        return
    before = store.index.verified(inode.number)
    batch.verified(inode.number, Verified(time.time_ns(), inode.version, driver.number, outcome, finding.found))
    was = before.outcome if before is not None and before.version == inode.version else Outcome.SOUND
    if outcome is was:
        return
    store.forgetting.add(inode.number)  # it may have been read
    detail = finding.error
    if outcome is Outcome.DAMAGED:
        expected, found = (tagged(inode.hash_algorithm, each) for each in (inode.current_hash, finding.found))
        detail = f"expected {expected}, found {found}"
        log.warning("a file does not match its hash", inode=inode.number, root=driver.name, detail=detail)
    path = store.path(inode.number)
    kind: Kind = "mended" if outcome is Outcome.SOUND else "damaged"
    store.event(
        batch, inode, Operation.UPDATE, kind, path=path, root=driver.name, cause=cause, owner=owner, detail=detail
    )
    store.journal(batch, inode, "verify", detail or "sound again", new=path or b"", new_root=driver.name, owner=owner)


async def compare(store: Store, known: Inode, owner: Owner | None) -> Finding:
    """Read a file again as soon as its disk allows, and record what that showed."""
    finding = await examine(store, known, partial(read_at_once, store))
    batch = store.batch()
    record(store, batch, finding, owner=owner)
    if batch.rows:
        store.index.apply(batch)
    return finding


async def read_at_once(store: Store, at: At, algorithm: str) -> bytes:
    """The digest of a file as its disk has it, while nobody else reads too much there."""
    return await read_in(store.rereading[at.driver.number], at, algorithm, lambda count: None)


async def read_in(limiter: trio.CapacityLimiter, at: At, algorithm: str, pace: Callable[[int], None]) -> bytes:
    """The same in a thread that `limiter` counts, at somebody's pace (`roots.rereading`).

    When it is cancelled nobody waits for the thread, which stops at its next block, or once its disk answers.
    """
    is_wanted = True

    def go_on(count: int) -> None:
        if not is_wanted:
            raise Stopped
        pace(count)

    handles = [content.duplicate(at.directory)]

    def digest() -> bytes:
        return digest_from_disk(handles.pop(), at.name, algorithm, go_on)

    try:
        return await trio.to_thread.run_sync(digest, limiter=limiter, abandon_on_cancel=True)
    finally:
        is_wanted = False
        with contextlib.suppress(IndexError):
            os.close(handles.pop())  # no thread has begun


async def verify(
    store: Store, top: InodeNo, root: str | None, report: Report, owner: Owner | None = None
) -> dict[str, Any]:
    """Compare every file below `top`, or of one root, with its recorded hash.

    Returns:
        counts of files: `checked`, `ok`, `unknown` (no hash is recorded for the present content, or somebody writes
        it), and `bad`: a line for each that differs or cannot be read. `away`: one for each whose root is, which is
        not among the checked.
    """

    checked = ok = unknown = read_bytes = 0
    bad: list[dict[str, Any]] = []
    away: list[dict[str, Any]] = []
    total = 0
    async for _, inode in _files_below(store, top, root):
        total += inode.size
    async for path, known in _files_below(store, top, root):
        finding = await compare(store, known, owner)
        inode = finding.inode
        line = {"path": describing.text(path), "id": describing.id_text(inode.id)}
        driver = store.root_of(inode.number)
        is_away = finding.outcome is not Outcome.SOUND and driver is not None and not driver.online
        checked += not is_away
        if is_away and driver is not None:
            away.append({**line, "root": driver.name})
        elif finding.found or finding.error:
            line["expected"] = tagged(inode.hash_algorithm, inode.current_hash)
            found = (
                {"found": tagged(inode.hash_algorithm, finding.found)} if finding.found else {"error": finding.error}
            )
            bad.append({**line, **found})
        elif finding.outcome is Outcome.SOUND:
            ok += 1
        else:
            unknown += 1
        read_bytes += inode.size
        report(read_bytes, total, "bytes")
    return {"checked": checked, "ok": ok, "unknown": unknown, "bad": bad, "away": away}


def _as_now(store: Store, inode: Inode) -> Inode:
    """The record, with what others made of the file meanwhile, which is no trouble; only its bytes can be, then.

    Raises:
        NotFound: it is gone; RootOffline, OSError: it cannot be looked at.
    """
    at, backing = store.place(inode.number), inode.backing
    seen = at.driver.stat(at.directory, at.name)
    as_known = (seen.st_size, seen.st_mtime_ns) == (inode.size, inode.mtime_ns)
    if as_known and backing is not None and seen.st_ino == backing.st_ino:
        return inode  # a look would take bytes that changed under the same time for somebody's
    return see(store, inode).inode


async def _files_below(store: Store, top: InodeNo, root: str | None) -> AsyncIterator[tuple[bytes, Inode]]:
    """Every regular file below `top`, each once however many names it has, as (path, record)."""
    seen: set[InodeNo] = set()
    for inode in walking.below(store, top):
        await trio.lowlevel.checkpoint()
        number = inode.number
        if inode.is_dir:
            await refreshing.refresh(store, number)
        elif inode.is_regular and number not in seen:
            if inode.nlink > 1:
                seen.add(number)
            driver = store.root_of(number)
            if root is None or (driver is not None and driver.name == root):
                yield store.path(number) or os.fsencode(str(number)), inode
