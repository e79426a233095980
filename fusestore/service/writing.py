"""Content: opening, reading, writing, and the writing period that runs from the first writer to durable, hashed bytes.

    opened for writing ── first write or truncate ──► WRITING (version + 1, intent recorded)
         last writer closed ──► `jobs.hasher`: bytes durable ──► READY, `finalized`

A crash leaves the `Writing` intent, and the next start knows which contents are not to be trusted. While writes come
in order from the first byte the content is hashed in passing; otherwise it is read again afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from fusestore.core.intents import Writing
from fusestore.errors import FusestoreError, InvalidRequest, IsADirectory, NotFound, RootOffline
from fusestore.model import UPLOADS, Inode, InodeNo, Layout, State
from fusestore.roots import content
from fusestore.roots.hashing import Hasher
from fusestore.service.looking import see
from fusestore.service.openfiles import InPassing, OpenFile

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.service.store import Store


def open_file(store: Store, number: InodeNo, *, write: bool, truncate: bool) -> int:
    """Open a regular file; returns the handle.

    Raises:
        NotFound, IsADirectory, InvalidRequest (not a regular file), RootOffline, RootReadOnly; OSError as the disk
        says.
    """
    inode = store.inode(number)
    if inode.is_dir:
        raise IsADirectory(number)
    if not inode.is_regular:
        raise InvalidRequest("not a regular file")
    file = store.files.get(number)
    if file is None:
        at = store.place(number)
        if write:
            store.writable(at.driver)
        file = OpenFile(number, at.driver, at.driver.open(at.directory, at.name, write=write), writable=write)
    elif write and not file.writable:
        at = store.place(number)
        store.writable(at.driver)
        file.switch(at.driver, at.driver.open(at.directory, at.name, write=True), writable=True)
    fh = store.files.add(file, write=write)
    if truncate:
        try:
            resize(store, file, 0)
        except BaseException:
            release(store, fh)  # nobody will hold it
            raise
    return fh


def pin(store: Store, inode: Inode) -> bool:
    """Open a file that is about to be replaced, if a program may just have looked it up to open it.

    That open, for reading, then finds the old content, as on a local disk; without this it would fail when the next
    replacement comes before the kernel has looked the name up again. Kept until the kernel forgets the inode, or the
    last of those who opened it is gone.

    Returns:
        whether there is something to take back with `OpenFiles.unpin` if the replacement fails.
    """
    number = inode.number
    if not inode.is_regular or number not in store.lookups or number in store.files:
        return False
    if len(store.index.parents(number)) > 1:
        return False  # it can still be opened by its other names
    try:
        at = store.place(number)
        fd = at.driver.open(at.directory, at.name, write=False)
    except (OSError, FusestoreError):
        return False  # the daemon may not read it, or it is not there: that open will say so
    store.files.pin(OpenFile(number, at.driver, fd, writable=False))
    return True


def is_unchanged(store: Store, number: InodeNo) -> bool:
    """Whether what the kernel has cached of a file may be used at this open.

    Raises:
        NotFound: it is gone.
    """
    before = store.inode(number)
    after = see(store, store.inode(number)).inode
    return before.state is State.WRITING or before.ctime_ns == after.ctime_ns


async def read(store: Store, fh: int, size: int, offset: int) -> bytes | bytearray:
    """Read through a handle; short only at the end of the file."""
    file = store.files.handle(fh).file
    data = content.read_cached(file.fd, size, offset)
    if data is None:
        # The handle keeps the descriptor open: the kernel releases it only after this reply.
        data = await trio.to_thread.run_sync(
            content.read, file.fd, size, offset, limiter=store.threads[file.driver.number]
        )
    return data


async def write(store: Store, fh: int, data: bytes, offset: int) -> int:
    """Write through a handle; all of it or an error."""
    file = store.files.handle(fh).file
    if not file.writing:
        begin(store, file)
    hasher = file.hasher
    if hasher is not None:
        if offset == file.hashed_to:
            hasher.update(data)
            file.hashed_to += len(data)
        else:
            file.hasher = None
    try:
        if len(data) <= content.INLINE_WRITE_BYTES:
            return content.write(file.fd, data, offset)
        limiter = store.threads[file.driver.number]
        return await trio.to_thread.run_sync(content.write, file.fd, data, offset, limiter=limiter)
    except OSError:
        file.hasher = None  # nobody knows how much arrived
        raise


def begin(store: Store, file: OpenFile) -> None:
    """Begin a writing period: from here on the content is a new version."""
    inode = store.index.inode(file.number)
    if inode is not None:  # without a name, its content is nobody's history
        inode.version += 1
        inode.state = State.WRITING
        batch = store.batch()
        record(batch, inode)
        batch.put_inode(inode)
        store.index.apply(batch)
        store.digests.pop(file.number, None)  # of a content that ends here
        store.cut_off.discard(file.number)
    file.failures = file.driver.failed_syncs
    file.writing = True  # only now: an index that refuses is asked again by the next write
    start_hashing(store, file)


def record(batch: Batch, inode: Inode) -> None:
    """Add to a batch that the content of `inode` is being written."""
    batch.writing(inode.number, Writing(inode.number, inode.version))


def _end(store: Store, inode: Inode, driver: Driver) -> None:
    """Record that an upload was closed by its writer: a crash from here on does not cut it off any more."""
    if inode.state is State.WRITING and driver.number == store.tops[UPLOADS]:
        batch = store.batch()
        batch.writing(inode.number, Writing(inode.number, inode.version, closed=True))
        store.index.apply(batch)


def start_hashing(store: Store, file: OpenFile) -> None:
    """Hash in passing, if the file is empty now."""
    if content.stat(file.fd).st_size == 0:
        file.hasher = Hasher(store.config.hash.algorithm)
        file.hashed_to = 0


def resize(store: Store, file: OpenFile, size: int) -> None:
    """Cut or extend an open file."""
    if not file.writing:
        begin(store, file)
    content.truncate(file.fd, size)
    file.hasher = None
    start_hashing(store, file)


def truncate(store: Store, number: InodeNo, size: int) -> None:
    """Cut or extend a file that may not be open.

    Raises:
        as for `open_file`.
    """
    file = store.files.get(number)
    if file is not None and file.writers:  # its last writer's close will end the period
        resize(store, file, size)
        return
    fh = open_file(store, number, write=True, truncate=False)
    try:
        resize(store, store.files.handle(fh).file, size)
    finally:
        release(store, fh)


async def sync(store: Store, fh: int, *, data_only: bool) -> None:
    """Make a file's bytes, and the index entries that lead to them, durable."""
    file = store.files.handle(fh).file

    def durable() -> None:
        content.sync(file.fd, data_only=data_only)
        store.index.sync_log()

    await trio.to_thread.run_sync(durable, limiter=store.threads[file.driver.number])


async def sync_directory(store: Store, number: InodeNo) -> None:
    """Make a directory's names durable, on its disk and in the index."""
    fd = limiter = None
    try:
        driver, directory = store.places.directory(number)
        if driver.layout is Layout.TREE:
            fd, limiter = content.open_directory(directory), store.threads[driver.number]
    except (NotFound, RootOffline):
        pass  # its names are in the index alone, or as durable as they can be now

    def durable() -> None:
        if fd is not None:
            content.sync(fd, data_only=False)
        store.index.sync_log()

    try:
        await trio.to_thread.run_sync(durable, limiter=limiter)
    finally:
        if fd is not None:
            content.close(fd)


def release(store: Store, fh: int) -> None:
    """Drop a handle. The last writer's ends the writing; what remains is to make it durable and hash it."""
    file = store.files.handle(fh).file
    number = file.number
    last_writer = store.files.handle(fh).write and file.writers == 1
    if last_writer and file.writing:
        size = content.stat(file.fd).st_size
        if file.hasher is not None and file.hashed_to == size:
            store.digests[number] = InPassing(file.hasher.digest(), size, file.failures)
        file.writing = False
        file.hasher = None
    store.files.remove(fh)
    if last_writer:
        inode = store.index.inode(number)
        if inode is not None:
            _end(store, inode, file.driver)
            store.on_unsettled(number)
        waiting = store.awaited.pop(number, None)
        if waiting is not None:
            store.on_retry(waiting)
    store.let_go(number)
