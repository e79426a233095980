"""Which copy of a file is read: its place or a current replica, in the order of preference, and the next if one fails.

Writers have the place open, whatever is preferred; so does a reader from the moment that the content is written over.
A place that is known to be damaged comes last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

from fusestore.core.replicas import in_order
from fusestore.errors import RootOffline
from fusestore.model import ReplicaState
from fusestore.roots import content
from fusestore.service import replicas, soundness
from fusestore.service.openfiles import OpenFile
from fusestore.service.soundness import BROKEN

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from fusestore.model import Inode, Replica, RootNo
    from fusestore.service.store import Store

log = structlog.get_logger()


def open_copy(store: Store, inode: Inode) -> OpenFile:
    """Open the first copy that can be had, for reading.

    Raises:
        Gone; RootOffline; OSError as the disk of the place says, if there is no replica instead.
    """
    current = _current(store, inode)
    at_place = store.root_of(inode.number)
    if not current or at_place is None:
        return _open_place(store, inode)
    trouble: RootOffline | OSError | None = None
    roots = in_order([at_place.number, *current], store.preference)
    if soundness.unsound(store, inode) is not None:
        roots.sort(key=at_place.number.__eq__)  # the last
    for root in roots:
        if root == at_place.number:
            try:
                return _open_place(store, inode)
            except RootOffline as error:
                trouble = error
            except OSError as error:
                if error.errno not in BROKEN:
                    raise
                trouble = error
        elif (fd := _open_replica(store, inode, root, current[root])) is not None:
            return OpenFile(inode.number, store.roots[root], fd, writable=False, replica=inode.version)
    assert trouble is not None  # the place was among them
    raise trouble


def _open_place(store: Store, inode: Inode) -> OpenFile:
    at = store.place(inode.number)
    return OpenFile(inode.number, at.driver, at.driver.open(at.directory, at.name, write=False), writable=False)


def _current(store: Store, inode: Inode) -> dict[RootNo, Replica]:
    """The replicas that hold the present content, by root."""
    found = store.index.replicas(inode.number)
    return {root: record for root, record in found if record.state is ReplicaState.CURRENT}


def _open_replica(store: Store, inode: Inode, root: RootNo, record: Replica) -> int | None:
    """A descriptor of a replica; None if it is out of reach, or not what was verified, which is recorded."""
    at = replicas.reach(store, inode, root, record)
    if at is None:
        return None
    try:
        return at.driver.open(at.directory, at.name, write=False)
    except RootOffline:
        return None
    except OSError as error:
        replicas.note_failure(store, inode, root, error)
        return None


async def read(store: Store, file: OpenFile, size: int, offset: int) -> bytes | bytearray:
    """Read from the copy that is open, or from the next good one if its disk fails; short only at the end of the file.

    Raises:
        OSError: as the disk says, when no copy can be read; RootOffline: the content is newer than any that can.
    """
    tried: set[RootNo] = set()
    while True:
        if file.replica:
            _renew(store, file)
        driver, replica = file.driver, file.replica
        try:
            file.reach()
            return await _read(store, file, size, offset)
        except (RootOffline, OSError) as error:
            if isinstance(error, OSError) and error.errno not in BROKEN and not file.lost:
                raise
            reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
            tried.add(driver.number)
            inode = store.index.inode(file.number)
            if inode is None:
                raise
            if replica and file.is_reachable:
                replicas.mark_bad(store, inode, driver.number, reason)
            if file.writers:
                return await _read_once(store, inode, size, offset, error)
            if file.driver.number in tried and not _go_on(store, file, inode, tried):
                raise
            log.info("a read goes on with another copy", inode=file.number, root=file.driver.name, reason=reason)


async def _read(store: Store, file: OpenFile, size: int, offset: int) -> bytes | bytearray:
    data = content.read_cached(file.fd, size, offset)
    if data is None:
        with file.using() as fd:
            limiter = store.threads[file.driver.number]
            data = await trio.to_thread.run_sync(content.read, fd, size, offset, limiter=limiter)
    return data


def _renew(store: Store, file: OpenFile) -> None:
    """Leave a replica whose file has been written since, for the file's place."""
    inode = store.index.inode(file.number)
    if inode is not None and inode.version != file.replica:
        at = store.place(file.number)
        file.switch(at.driver, at.driver.open(at.directory, at.name, write=False), writable=False)


def _go_on(store: Store, file: OpenFile, inode: Inode, tried: AbstractSet[RootNo]) -> bool:
    """Have an open file read from a copy on a root that was not tried; False if there is none."""
    place = store.root_of(file.number)
    if file.replica and place is not None and place.number not in tried:
        try:
            other = _open_place(store, inode)
        except (RootOffline, OSError) as error:
            log.debug("the place cannot be read either", inode=file.number, error=str(error))
        else:
            file.switch(other.driver, other.fd, writable=False)
            return True
    for root, record in _current(store, inode).items():
        if root not in tried and (fd := _open_replica(store, inode, root, record)) is not None:
            file.switch(store.roots[root], fd, writable=False, replica=inode.version)
            return True
    return False


async def _read_once(store: Store, inode: Inode, size: int, offset: int, error: RootOffline | OSError) -> bytes:
    """Read a replica of what a writer has open, and has not written yet.

    Raises:
        RootOffline, OSError: `error`, when there is none.
    """
    for root, record in _current(store, inode).items():
        fd = _open_replica(store, inode, root, record)
        if fd is None:
            continue
        try:
            return await trio.to_thread.run_sync(content.read, fd, size, offset, limiter=store.threads[root])
        except OSError as again:
            replicas.note_failure(store, inode, root, again)
        finally:
            content.close(fd)
    raise error
