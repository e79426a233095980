"""What the rules and use cases ask of the outside: the index's reading side and a root's driver.

Both are protocols, so that the rules can be tested against a dictionary, and a driver against the contract suite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fusestore.model import Backing, Inode, InodeNo, Layout, Outside, RootNo, Spot


class Catalog(Protocol):
    """The reads that placement and namespace rules need; the index implements it."""

    def inode(self, number: InodeNo) -> Inode | None: ...
    def dentry(self, parent: InodeNo, name: bytes) -> InodeNo | None: ...
    def parents(self, number: InodeNo) -> Sequence[tuple[InodeNo, bytes]]: ...
    def placement(self, number: InodeNo) -> tuple[Spot, ...] | None: ...
    def skeleton(self, number: InodeNo, root: RootNo) -> Spot | None: ...
    def occupant(self, spot: Spot) -> InodeNo | None: ...


class Space(NamedTuple):
    """What statvfs says of a root's file system; sizes in bytes."""

    total: int
    free: int
    available: int  # free to an ordinary user
    files: int
    files_free: int


class Driver(Protocol):
    """A storage place. Directories are open descriptors (int), so that nothing planted on the disk leads outside.

    Errors are `OSError` with the disk's own errno, or `RootOffline`. No method follows a symlink in the last component.
    All calls block; callers decide whether to make them inline or in a thread.
    """

    number: RootNo
    name: str
    uuid: bytes
    layout: Layout
    outside: Outside
    online: bool
    is_open: bool  # its descriptors are; it may be offline all the same
    read_only: bool
    device: int  # st_dev; two roots with the same can rename(2) between each other
    top: int  # descriptor of the root directory

    @property
    def path(self) -> Path: ...  # for people to read; nothing is opened by it
    def id_area_path(self, id: bytes) -> bytes: ...  # where `id` lies in the id area, below `path`

    # directories
    def open_dir(self, parent: int, name: bytes) -> int: ...
    def close_dir(self, directory: int) -> None: ...
    def list(self, directory: int) -> Iterator[bytes]: ...  # its names, in no order
    def count(self, limit: int) -> int: ...  # objects on its disk, but for the daemon's own; at most `limit`
    def id_area(self, id: bytes) -> tuple[int, bytes]: ...  # (descriptor, name) under which `id` lies in the id area
    def incoming(self) -> int: ...  # descriptor of the directory where copies are staged
    def trash(self) -> int: ...  # descriptor of the directory where bytes wait for their end

    # looking
    def stat(self, directory: int, name: bytes) -> os.stat_result: ...
    def stat_dir(self, directory: int) -> os.stat_result: ...
    def backing(self, directory: int, name: bytes) -> Backing: ...
    def backing_fd(self, fd: int) -> Backing: ...
    def readlink(self, directory: int, name: bytes) -> bytes: ...
    def space(self) -> Space: ...

    # changing names
    def create(self, directory: int, name: bytes, mode: int, uid: int, gid: int) -> int: ...
    def mkdir(self, directory: int, name: bytes, mode: int, uid: int, gid: int) -> None: ...
    def mknod(self, directory: int, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> None: ...
    def symlink(self, directory: int, name: bytes, target: bytes, uid: int, gid: int) -> None: ...
    def link(self, directory: int, name: bytes, to_directory: int, to_name: bytes) -> None: ...
    def unlink(self, directory: int, name: bytes) -> None: ...
    def rmdir(self, directory: int, name: bytes) -> None: ...
    def rename(self, directory: int, name: bytes, to_directory: int, to_name: bytes, *, replace: bool) -> None: ...
    def exchange(self, directory: int, name: bytes, to_directory: int, to_name: bytes) -> None: ...

    # bytes and attributes
    def open(self, directory: int, name: bytes, *, write: bool) -> int: ...
    def chmod(self, directory: int, name: bytes, mode: int) -> None: ...
    def chown(self, directory: int, name: bytes, uid: int, gid: int) -> None: ...
    def utime(self, directory: int, name: bytes, atime_ns: int, mtime_ns: int) -> None: ...
    def getxattr(self, directory: int, name: bytes, attribute: bytes) -> bytes: ...
    def setxattr(self, directory: int, name: bytes, attribute: bytes, value: bytes, flags: int) -> None: ...
    def listxattr(self, directory: int, name: bytes) -> Sequence[bytes]: ...
    def removexattr(self, directory: int, name: bytes, attribute: bytes) -> None: ...

    def twin(self) -> Driver: ...  # the same root, closed, for a look at it that nobody else shares
    def detach(self) -> None: ...  # offline, and its disk given back
    def reopen(self) -> None: ...  # after `detach`; RootUnavailable when it is not there, or not ours any more
    def close(self) -> None: ...  # give the root up for good

    # durability
    failed_syncs: int  # the kernel tells of bytes that it could not write only once, to whoever asks first

    def sync(self) -> None: ...  # syncfs: everything written to this root's file system so far
