"""Open files: one backing descriptor per inode, shared by all its handles.

A file opened for reading first and for writing later gets a second, writable descriptor; the old one stays as long as
a thread is reading through it, and no longer: it keeps bytes that are not needed any more on their disk. The same when
a move puts other bytes under the inode.
As long as a file is being copied, what is done to its bytes is known to the copy (`following`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from fusestore.errors import RootOffline
from fusestore.roots import content

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterator

    from fusestore.core.ports import Driver
    from fusestore.model import InodeNo
    from fusestore.roots.hashing import Hasher
    from fusestore.service.following import Following


class InPassing(NamedTuple):
    """What is known of a content that was written here, until it is settled."""

    digest: bytes  # taken while it was written; b"" if it was not written in order
    size: int
    mtime_ns: int  # by our own doing; another one shows that somebody else has written since; 0: not known
    driver: Driver  # where it was written, wherever it lies now
    failures: int  # failed syncs there when the writing began
    synced: bool  # its writer has had all of it made durable, before any of them

    @property
    def is_doubted(self) -> bool:
        """Whether its disk has failed to take something since it was written, whatever the page cache shows."""
        return not self.synced and self.failures != self.driver.failed_syncs


class OpenFile:
    """An inode that some handle has open.

    Attributes:
        fd: the descriptor for everything from now on; `writable` says what it can do, `driver` on which root it is.
        replica: the version of the replica that it is of, which can only be read; 0: it is of the file's place.
        writers: handles that may write.
        lost: its root went away; until it is found there again, `fd` leads nowhere.
        writing: a writing period is recorded in the index.
        failures: failed syncs of its root when the writing period began.
        synced: nothing was written since its writer has had it made durable, and no sync had failed before.
        following: it is being copied.
        retired: earlier descriptors, which a thread may be using yet.
        under_way: changes of its bytes that go on in threads.
        hasher: digest of the bytes from 0 to `hashed_to`, as long as writes come in order; None once they did not.
    """

    __slots__ = (
        "_users",
        "driver",
        "failures",
        "fd",
        "following",
        "handles",
        "hashed_to",
        "hasher",
        "lost",
        "number",
        "replica",
        "retired",
        "synced",
        "under_way",
        "writable",
        "writers",
        "writing",
    )

    def __init__(self, number: InodeNo, driver: Driver, fd: int, *, writable: bool, replica: int = 0) -> None:
        self.number = number
        self.driver = driver
        self.fd = fd
        self.writable = writable
        self.replica = replica
        self.handles = 0
        self.writers = 0
        self.writing = False
        self.lost = False
        self.failures = driver.failed_syncs
        self.synced = False
        self.following: Following | None = None
        self.under_way = 0
        self._users = 0
        self.hasher: Hasher | None = None
        self.hashed_to = 0
        self.retired: list[int] = []

    def switch(self, driver: Driver, fd: int, *, writable: bool, replica: int = 0) -> None:
        """Go on with another descriptor of the same content."""
        self.retired.append(self.fd)
        self._close_retired()
        doubted = self.failures != self.driver.failed_syncs
        self.failures = driver.failed_syncs - doubted  # what one disk may have lost is not trusted on the next
        self.driver = driver
        self.fd = fd
        self.writable = writable
        self.replica = replica
        self.lost = False

    @property
    def is_reachable(self) -> bool:
        return not self.lost and self.driver.online

    def reach(self) -> None:
        """Before anything is done with `fd`.

        Raises:
            RootOffline
        """
        if not self.is_reachable:
            raise RootOffline(self.driver.name)

    def lose(self) -> None:
        """Let go of a file whose root went away."""
        self.lost = True
        for fd in (self.fd, *self.retired):
            content.disconnect(fd)

    def find_again(self, fd: int) -> None:
        """Go on with `fd`, the same object on the root that is back."""
        content.reconnect(self.fd, fd)
        self.lost = False
        if self.synced:  # nothing of it can have gone with the disk
            self.failures = self.driver.failed_syncs

    @contextmanager
    def using(self) -> Iterator[int]:
        """The descriptor for a thread, open until that is done: a handle keeps the file, and this the descriptor."""
        self._users += 1
        try:
            yield self.fd
        finally:
            self._users -= 1
            self._close_retired()

    def _close_retired(self) -> None:
        while self.retired and not self._users:
            self.close(self.retired.pop())

    def close(self, fd: int) -> None:
        """Close a descriptor; a network's disk may say only then that it has not taken what was written."""
        try:
            content.close(fd)
        except OSError:
            self.failures, self.synced = self.driver.failed_syncs - 1, False


class Handle(NamedTuple):
    """What the kernel holds: an open file and what it may do with it."""

    file: OpenFile
    write: bool


class OpenFiles:
    """All open files by inode, and the handles to them by number.

    Attributes:
        followed: the files that are being copied, open or not.
    """

    def __init__(self) -> None:
        self.followed: dict[InodeNo, Following] = {}
        self._files: dict[InodeNo, OpenFile] = {}
        self._handles: dict[int, Handle] = {}
        self._next = 1

    def __contains__(self, number: InodeNo) -> bool:
        return number in self._files

    def __len__(self) -> int:
        return len(self._handles)

    def get(self, number: InodeNo) -> OpenFile | None:
        return self._files.get(number)

    def on(self, driver: Driver) -> list[OpenFile]:
        """The files that are open on a root."""
        return [file for file in self._files.values() if file.driver is driver]

    def handle(self, fh: int) -> Handle:
        return self._handles[fh]

    def add(self, file: OpenFile, *, write: bool) -> int:
        """Count one more handle of `file` and return its number."""
        self._files[file.number] = file
        file.following = self.followed.get(file.number)
        fh = self._next
        self._next += 1
        self._handles[fh] = Handle(file, write)
        file.handles += 1
        file.writers += write
        return fh

    def remove(self, fh: int, *, keep: bool = False) -> Handle:
        """Drop a handle; with the last one the descriptors are closed, or kept as `pin` keeps one."""
        handle = self._handles.pop(fh)
        file = handle.file
        file.handles -= 1
        file.writers -= handle.write
        if not keep:
            self.unpin(file.number)
        return handle

    def pin(self, file: OpenFile) -> None:
        """Keep a descriptor of an inode that nobody has open yet; `unpin` closes it unless somebody has by then."""
        self._files[file.number] = file

    def unpin(self, number: InodeNo) -> None:
        file = self._files.get(number)
        if file is not None and not file.handles:
            del self._files[number]
            for fd in (file.fd, *file.retired):
                file.close(fd)

    def follow(self, number: InodeNo, following: Following) -> None:
        """A copy of this file begins."""
        self.followed[number] = following
        file = self._files.get(number)
        if file is not None:
            file.following = following

    def unfollow(self, number: InodeNo) -> None:
        """It has ended, if there was one."""
        following = self.followed.pop(number, None)
        file = self._files.get(number)
        if file is not None:
            file.following = None
        if following is not None:
            following.end()

    @asynccontextmanager
    async def turn(self, number: InodeNo) -> AsyncIterator[Following | None]:
        """Take the turn to change the bytes of a file that is being copied; None if it is not, or not any more."""
        while (following := self.followed.get(number)) is not None:
            async with following.turn.held():
                if self.followed.get(number) is following:
                    yield following
                    return
        yield None

    def touched(self, number: InodeNo, seen: os.stat_result | None) -> None:
        """We have changed the attributes or times of a file; `seen`: as they are now."""
        following = self.followed.get(number)
        if following is not None and seen is not None:
            following.was_touched = True
            following.see(seen)

    def has_writer(self, number: InodeNo) -> bool:
        file = self._files.get(number)
        return file is not None and file.writers > 0
