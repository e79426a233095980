"""The end of a writing period: the bytes are durable and their hash is known, so the content is announced.

`jobs.hasher` reads and syncs; here is what is decided before and recorded after.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from fusestore.core.intents import Writing
from fusestore.model import Cause, FileStamp, Operation, Outside, State
from fusestore.service import keeping, replicas
from fusestore.service.looking import see
from fusestore.service.soundness import unsound

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import InodeNo
    from fusestore.service.looking import Seen
    from fusestore.service.openfiles import InPassing
    from fusestore.service.store import Store

log = structlog.get_logger()

DAEMON_ENDED: Final = "the daemon ended while it was being written"
CUT_OFF: Final = f"may have been cut off: {DAEMON_ENDED}"


class Unsettled(NamedTuple):
    """A file whose content has come to rest."""

    number: InodeNo
    version: int
    stamp: FileStamp
    passing: InPassing | None  # None where nobody wrote it here
    driver: Driver  # where it lies now

    @property
    def digest(self) -> bytes:
        """What it was when it was written; b"" when it has to be read."""
        return self.passing.digest if self.passing is not None else b""

    @property
    def is_doubted(self) -> bool:
        """Whether a disk has failed to take something of it, as far as anybody knows."""
        return self.passing is not None and self.passing.is_doubted


def take(store: Store, number: InodeNo) -> Unsettled | None:
    """What there is to settle about a file; None while a writer has it open, or when it is gone or at rest."""
    inode = store.index.inode(number)
    if inode is None or not inode.is_regular or store.files.has_writer(number):
        return None
    if inode.state is State.READY and inode.hash_version == inode.version and number not in store.suspects:
        replicas.settled(store, number)  # while it was open for writing nobody could know that nothing would come
        keeping.look_again(store, number)
        return None
    driver = store.root_of(number)
    if driver is None or not driver.online:
        return None
    seen = see(store, inode)
    passing = store.digests.get(number)
    if passing is not None and (passing.size != inode.size or _is_written_since(passing, seen)):
        passing = passing._replace(digest=b"")
    return Unsettled(number, seen.inode.version, _stamp(seen), passing, driver)


def _is_written_since(passing: InPassing, seen: Seen) -> bool:
    """Whether somebody else has written a content after its last writer here had closed it."""
    watched = seen.driver is not None and seen.driver.outside is Outside.WRITERS
    return watched and seen.driver is passing.driver and passing.mtime_ns not in (0, seen.inode.mtime_ns)


def _stamp(seen: Seen) -> FileStamp:
    """Size, mtime, and ctime where others may put the mtime back; elsewhere only we move the ctime, as by a rename."""
    inode, _, driver = seen
    watched = driver is not None and driver.outside is Outside.WRITERS
    return FileStamp(inode.size, inode.mtime_ns, inode.ctime_ns if watched else 0)


def settle(store: Store, work: Unsettled, digest: bytes) -> bool:
    """Record that a content is durable and has this digest; False if it has changed meanwhile.

    A disk that lost what was written to it is found out here: such a content is kept and never taken for complete.
    """
    inode = store.index.inode(work.number)
    if inode is None:
        return True
    if store.files.has_writer(work.number) or inode.version != work.version:
        return False
    seen = see(store, inode)
    if seen.stat is None or _stamp(seen) != work.stamp:
        return False
    passing = work.passing
    if passing is not None and passing.is_doubted and digest != passing.digest:
        lost = "lost" if passing.digest else "may have lost"  # nobody knows what it should be
        reason = f"the disk of {passing.driver.name} {lost} what was written"
        log.error("a content may not be what was written", inode=work.number, reason=reason)
        interrupt(store, work.number, reason, cause=Cause.OUTSIDE)
        return True
    algorithm = store.config.hash.algorithm
    batch = store.batch()
    batch.then(partial(store.digests.pop, work.number, None))
    batch.then(partial(store.suspects.discard, work.number))
    cut_off = work.number in store.cut_off
    cause = Cause.RECOVER if cut_off else Cause.USER
    if work.number in store.suspects:
        as_known = (inode.hash_algorithm, inode.hash) == (algorithm, digest)  # only the ctime had moved
        if as_known or unsound(store, inode) is not None:  # who is known to be bad does not become a version by a look
            store.suspects.discard(work.number)
            return True
        inode.version += 1  # written outside, with the mtime put back
        cause = Cause.OUTSIDE
    inode.hash, inode.hash_algorithm, inode.hash_version = digest, algorithm, inode.version
    was_writing = inode.state is State.WRITING
    if was_writing:
        inode.state = State.READY
        batch.written(work.number)
    batch.put_inode(inode)
    path = store.path(work.number)
    if cause is Cause.OUTSIDE:
        store.journal(batch, inode, "change", "outside", new=path or b"")
    store.event(
        batch,
        inode,
        Operation.UPDATE,
        "finalized" if was_writing else "hashed",
        path=path,
        root=work.driver.name,
        cause=cause,
        detail=CUT_OFF if cut_off else "",
    )
    if was_writing:
        store.journal(batch, inode, "write", CUT_OFF if cut_off else "done", new=path or b"", new_root=work.driver.name)
    batch.then(partial(store.cut_off.discard, work.number))
    if store.copies and inode.state is State.READY:
        keeping.consider(store, batch, inode, store.placement.home(work.number))
    store.index.apply(batch)
    replicas.settled(store, work.number)
    return True


def resume(store: Store) -> None:
    """Have every content settled that still waits for it; for a root that is back."""
    for _, intent in store.index.intents():
        if isinstance(intent, Writing):
            store.on_unsettled(intent.inode)


def interrupt(store: Store, number: InodeNo, reason: str, *, cause: Cause) -> None:
    """A content is not what its writer wrote: keep it, and never take it for complete."""
    inode = store.index.inode(number)
    if inode is None:
        return
    inode = see(store, inode).inode  # what was written is ours: it must not look like an outside change later
    inode.state = State.INTERRUPTED
    batch = store.batch()
    batch.then(partial(store.digests.pop, number, None))
    batch.written(number)
    batch.put_inode(inode)
    path = store.path(number)
    driver = store.root_of(number)
    store.event(
        batch,
        inode,
        Operation.UPDATE,
        "interrupted",
        path=path,
        root=driver.name if driver else "",
        cause=cause,
        detail=reason,
    )
    store.journal(batch, inode, "write", f"interrupted: {reason}", new=path or b"")
    if store.copies:
        keeping.consider(store, batch, inode, store.placement.home(number))
    store.index.apply(batch)
