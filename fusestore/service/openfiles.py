"""Open files: one backing descriptor per inode, shared by all its handles.

A file opened for reading first and for writing later gets a second, writable descriptor; the old one stays until the
last handle is gone, because a thread may be reading through it. The same when a move puts other bytes under the inode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fusestore.roots import content

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import InodeNo
    from fusestore.roots.hashing import Hasher


class InPassing(NamedTuple):
    """What is known of a content that was hashed while it was written."""

    digest: bytes
    size: int
    failures: int  # failed syncs of its root when the writing began


class OpenFile:
    """An inode that some handle has open.

    Attributes:
        fd: the descriptor for everything from now on; `writable` says what it can do, `driver` on which root it is.
        writers: handles that may write.
        writing: a writing period is recorded in the index.
        failures: failed syncs of its root when the writing period began.
        hasher: digest of the bytes from 0 to `hashed_to`, as long as writes come in order; None once they did not.
    """

    __slots__ = (
        "driver",
        "failures",
        "fd",
        "handles",
        "hashed_to",
        "hasher",
        "number",
        "retired",
        "writable",
        "writers",
        "writing",
    )

    def __init__(self, number: InodeNo, driver: Driver, fd: int, *, writable: bool) -> None:
        self.number = number
        self.driver = driver
        self.fd = fd
        self.writable = writable
        self.handles = 0
        self.writers = 0
        self.writing = False
        self.failures = driver.failed_syncs
        self.hasher: Hasher | None = None
        self.hashed_to = 0
        self.retired: list[int] = []

    def switch(self, driver: Driver, fd: int, *, writable: bool) -> None:
        """Go on with another descriptor of the same content."""
        self.retired.append(self.fd)
        self.driver = driver
        self.fd = fd
        self.writable = writable


class Handle(NamedTuple):
    """What the kernel holds: an open file and what it may do with it."""

    file: OpenFile
    write: bool


class OpenFiles:
    """All open files by inode, and the handles to them by number."""

    def __init__(self) -> None:
        self._files: dict[InodeNo, OpenFile] = {}
        self._handles: dict[int, Handle] = {}
        self._next = 1

    def __contains__(self, number: InodeNo) -> bool:
        return number in self._files

    def __len__(self) -> int:
        return len(self._handles)

    def get(self, number: InodeNo) -> OpenFile | None:
        return self._files.get(number)

    def handle(self, fh: int) -> Handle:
        return self._handles[fh]

    def add(self, file: OpenFile, *, write: bool) -> int:
        """Count one more handle of `file` and return its number."""
        self._files[file.number] = file
        fh = self._next
        self._next += 1
        self._handles[fh] = Handle(file, write)
        file.handles += 1
        file.writers += write
        return fh

    def remove(self, fh: int) -> Handle:
        """Drop a handle; with the last one the descriptors are closed."""
        handle = self._handles.pop(fh)
        file = handle.file
        file.handles -= 1
        file.writers -= handle.write
        if not file.handles:
            del self._files[file.number]
            for fd in (file.fd, *file.retired):
                content.close(fd)
        return handle

    def pin(self, file: OpenFile) -> None:
        """Keep a descriptor of an inode that nobody has open yet; `unpin` closes it unless somebody has by then."""
        self._files[file.number] = file

    def unpin(self, number: InodeNo) -> None:
        file = self._files.get(number)
        if file is not None and not file.handles:
            del self._files[number]
            content.close(file.fd)

    def has_writer(self, number: InodeNo) -> bool:
        file = self._files.get(number)
        return file is not None and file.writers > 0
