"""Content: opening, reading, writing, and the writing period that runs from the first writer to durable, hashed bytes.

    opened for writing ── first write or truncate ──► WRITING (version + 1, intent recorded)
         last writer closed ──► `jobs.hasher`: bytes durable ──► READY, `finalized`

A crash leaves the `Writing` intent, and the next start knows which contents are not to be trusted. While writes come
in order from the first byte the content is hashed in passing; otherwise it is read again afterwards.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio

from fusestore.core.intents import Writing
from fusestore.errors import FusestoreError, InvalidRequest, IsADirectory, NotFound, RootOffline
from fusestore.model import UPLOADS, Inode, InodeNo, Layout, Outside, State
from fusestore.roots import content, freeing
from fusestore.roots.hashing import Hasher
from fusestore.service import reading, syncing, trash
from fusestore.service.looking import see
from fusestore.service.openfiles import InPassing, OpenFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.service.following import Following
    from fusestore.service.places import At
    from fusestore.service.store import Store


def open_file(store: Store, number: InodeNo, *, write: bool, truncate: bool) -> int:
    """Open a regular file; returns the handle.

    Raises:
        NotFound, IsADirectory, InvalidRequest (not a regular file), RootOffline, RootReadOnly; OSError as the disk
        says.
    """
    inode = store.inode(number)
    check_regular(store, inode)
    file = store.files.get(number)
    if file is None:
        if write:
            at = openable(store, number)
            file = OpenFile(number, at.driver, at.driver.open(at.directory, at.name, write=True), writable=True)
        else:
            file = reading.open_copy(store, inode)
    elif write and not file.writable:
        if number in store.orphans:  # by its handle in /proc
            file.reach()
            file.switch(store.writable(file.driver), content.writable(file.fd), writable=True)
        else:
            at = openable(store, number)
            file.switch(at.driver, at.driver.open(at.directory, at.name, write=True), writable=True)
    fh = store.files.add(file, write=write)
    if truncate:
        try:
            resize(store, file, 0)
        except BaseException:
            release(store, fh)  # nobody will hold it
            raise
    return fh


def check_regular(store: Store, inode: Inode) -> None:
    """Refuse to open what has no bytes.

    Raises:
        IsADirectory, InvalidRequest (not a regular file).
    """
    if inode.is_dir:
        raise IsADirectory(store.path(inode.number) or b"")
    if not inode.is_regular:
        raise InvalidRequest("not a regular file")


def openable(store: Store, number: InodeNo) -> At:
    """Where a file is opened for writing.

    Raises:
        NotFound, RootOffline, RootReadOnly.
    """
    at = store.place(number)
    store.writable(at.driver)
    return at


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
    """Whether what the kernel has cached of a file may be used at this open: what others have not written, nor a disk.

    Raises:
        NotFound: it is gone.
    """
    if number in store.forgetting:
        return False
    driver = store.root_of(number)
    if driver is not None and driver.outside is not Outside.WRITERS:
        return True
    before = store.inode(number)
    after = see(store, store.inode(number)).inode
    return before.state is State.WRITING or before.ctime_ns == after.ctime_ns


async def read(store: Store, fh: int, size: int, offset: int) -> bytes | bytearray:
    """Read through a handle; short only at the end of the file."""
    return await reading.read(store, store.files.handle(fh).file, size, offset)


async def write(store: Store, fh: int, data: bytes, offset: int) -> int:
    """Write through a handle; all of it or an error."""
    file = store.files.handle(fh).file
    if file.following is None:
        return await _write(store, file, data, offset)
    async with store.files.turn(file.number) as following:
        if following is None:
            return await _write(store, file, data, offset)
        following.look(file.fd)
        try:
            done = await _write(store, file, data, offset)
            await following.wrote(data, offset)
        except BaseException:
            following.note(offset, len(data))  # nobody knows how much arrived
            raise
        finally:
            following.see(content.stat(file.fd))
    return done


async def _write(store: Store, file: OpenFile, data: bytes, offset: int) -> int:
    file.reach()
    if not file.writing:
        begin(store, file)
    file.synced = False
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
        return await _write_in_thread(store, file, data, offset)
    except OSError as error:
        file.hasher = None  # nobody knows how much arrived
        if error.errno not in trash.NO_ROOM or not await trash.make_room_soon(store, file.driver, len(data)):
            raise
    return await _write_in_thread(store, file, data, offset)


async def _write_in_thread(store: Store, file: OpenFile, data: bytes, offset: int) -> int:
    with _under_way(file, lambda copy: copy.note(offset, len(data))), file.using() as fd:
        limiter = store.threads[file.driver.number]
        return await trio.to_thread.run_sync(content.write, fd, data, offset, limiter=limiter)


@contextmanager
def _under_way(file: OpenFile, note: Callable[[Following], None]) -> Iterator[None]:
    """A change of a file's bytes in a thread; a copy that begins meanwhile knows that it is under way, and is told."""
    known = file.following
    file.under_way += 1
    try:
        yield
    finally:
        file.under_way -= 1
        copy = file.following
        if copy is not None and copy is not known:
            note(copy)
            copy.landed(file.fd)


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
        store.cut_off.discard(file.number)
    file.failures = file.driver.failed_syncs
    before = store.digests.pop(file.number, None)
    if before is not None and content.stat(file.fd).st_size > 0:
        file.failures -= before.is_doubted  # what one may have lost is still part of it
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
    """Cut or extend an open file.

    Raises:
        RootOffline; OSError as the disk says.
    """
    file.reach()
    if not file.writing:
        begin(store, file)
    file.synced = False
    following = file.following
    if following is not None:
        following.look(file.fd)
    content.truncate(file.fd, size)
    file.hasher = None
    if size == 0:  # what was there before is nobody's content any more
        file.failures = file.driver.failed_syncs
    start_hashing(store, file)
    if following is not None:
        following.was_cut(size)
        following.see(content.stat(file.fd))


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


@asynccontextmanager
async def cut_before(store: Store, number: InodeNo, size: int) -> AsyncIterator[None]:
    """Before a file is cut by the body: take the turn if it is being copied, and if it is large, cut it in a thread.

    Its disk takes its time for that; it is done in the writing period of what the body does.

    Raises:
        as for `open_file`.
    """
    async with store.files.turn(number) as following:
        if following is not None:
            following.cutter = True
        try:
            async with _large_cut_before(store, number, size, following):
                yield
        finally:
            if following is not None:
                following.cutter = False


@asynccontextmanager
async def _large_cut_before(
    store: Store, number: InodeNo, size: int, following: Following | None
) -> AsyncIterator[None]:
    if see(store, store.inode(number)).inode.size - size < freeing.LARGE_BYTES:
        yield
        return
    fh = open_file(store, number, write=True, truncate=False)
    try:
        file = store.files.handle(fh).file
        file.reach()
        if not file.writing:
            begin(store, file)
        file.hasher = None
        file.synced = False
        if following is not None:
            following.look(file.fd)
        with _under_way(file, lambda copy: copy.note_cut(size)), file.using() as fd:
            await trio.to_thread.run_sync(content.truncate, fd, size, limiter=store.threads[file.driver.number])
        if following is not None:
            following.see(content.stat(file.fd))
            await following.was_cut_by_much(size)
        yield
    finally:
        release(store, fh)


async def sync(store: Store, fh: int, *, data_only: bool) -> None:
    """Make a file's bytes, and the index entries that lead to them, durable."""
    file = store.files.handle(fh).file
    file.reach()
    following = file.following
    copy = following.descriptor() if following is not None else None

    def durable() -> None:
        with store.index.syncing_log():
            content.sync(fd, data_only=data_only)
        if following is not None and copy is not None:
            try:
                content.sync(copy, data_only=data_only)
            except OSError as error:
                following.fail(error)

    file.synced = not file.under_way  # as long as nobody writes meanwhile
    try:
        with file.using() as fd:
            await trio.to_thread.run_sync(durable, limiter=store.threads[file.driver.number])
        file.synced = file.synced and file.failures == file.driver.failed_syncs
    except BaseException:
        file.synced = False
        raise
    finally:
        if copy is not None:
            content.close(copy)


async def sync_directory(store: Store, number: InodeNo) -> None:
    """Make a directory's names durable, in the index and on every disk that they depend on.

    Where its names are in the index alone, what they lead to lies anywhere on the root's disk.
    """
    fd = limiter = None
    owing = syncing.owing(store)
    root = store.placement.default_root(number)
    if root is not None and store.layouts[root] is Layout.ID:
        owing.add(store.roots[root])
    for driver in owing:
        if driver.online:  # else they are as durable as they can be now
            await syncing.sync(store, driver)
    try:
        driver, directory = store.places.directory(number)
        if driver.layout is Layout.TREE:
            fd, limiter = content.open_directory(directory), store.threads[driver.number]
    except (NotFound, RootOffline):
        pass

    def durable() -> None:
        with store.index.syncing_log():
            if fd is not None:
                content.sync(fd, data_only=False)

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
    written: tuple[bytes, int, int] | None = None  # digest, size, mtime
    if last_writer and file.writing:
        seen = content.stat(file.fd) if file.is_reachable else None
        size, mtime_ns = (seen.st_size, seen.st_mtime_ns) if seen is not None else (file.hashed_to, 0)
        digest = file.hasher.digest() if file.hasher is not None and file.hashed_to == size else b""
        written = digest, size, mtime_ns
        file.writing = False
        file.hasher = None
    # Who still knows it without a name, by an O_PATH descriptor, may open it again by its handle in /proc.
    store.files.remove(fh, keep=number in store.orphans and number in store.lookups)
    if last_writer:
        inode = store.index.inode(number)
        if inode is not None:
            if written is not None:  # only now: closing may have shown that the disk did not take it
                store.digests[number] = InPassing(*written, file.driver, file.failures, file.synced)
            _end(store, inode, file.driver)
            store.on_unsettled(number)
    store.let_go(number)
