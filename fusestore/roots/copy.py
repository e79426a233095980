"""Staged copies: an object goes whole into the incoming area, with all it carries, hashed on the way, and is read back.

Nothing here knows of names in the mount or decides anything: a copy is started, verified and put in place by the mover,
and what is left of a copy that failed is removed. Descriptors and staged names cross the border; syncing between copy
and verification is the caller's, so that one sync can serve many files.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.model import Backing
from fusestore.roots.hashing import BLOCK_BYTES, Hasher
from fusestore.roots.identity import IDENTITY_XATTR
from fusestore.roots.opening import open_object, open_regular, path_of
from fusestore.roots.syscalls import birth, birth_fd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusestore.model import RootNo

    Progress = Callable[[int], None]

_SET_ID: Final = 0o6000
_NOT_HERE: Final = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL)


class CopyResult(NamedTuple):
    """A staged regular file."""

    size: int
    digest: bytes
    backing: Backing


def copy_file(
    source: int, incoming: int, name: bytes, *, root: RootNo, algorithm: str, progress: Progress | None = None
) -> CopyResult:
    """Copy the open regular file `source` to the new file `name` in the directory `incoming`; holes stay holes.

    The size is that of `source` at the start: what a writer appends meanwhile is not copied, and a file that was cut
    short ends where it ends now. A leftover of the same name is replaced.

    Args:
        root: the number of the root that `incoming` belongs to, for the backing.
        progress: called with the number of bytes done so far; what it raises ends the copy.

    Raises:
        OSError: the disks' own answers; whatever is raised, no file stays behind.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=incoming)
    target = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=incoming)
    try:
        before = os.fstat(source)  # its access time is about to change
        hasher = Hasher(algorithm)
        _copy_bytes(source, target, before.st_size, hasher, progress)
        _copy_attributes(source, target, before)
        return CopyResult(hasher.size, hasher.digest(), Backing(root, *birth_fd(target)))
    except BaseException:
        os.unlink(name, dir_fd=incoming)
        raise
    finally:
        os.close(target)


def copy_object(directory: int, name: bytes, incoming: int, staged: bytes, *, root: RootNo) -> Backing:
    """Make the symlink, FIFO, socket or device `name` again as `staged` in the directory `incoming`."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staged, dir_fd=incoming)
    source = open_object(directory, name)
    try:
        status = os.fstat(source)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(b"", dir_fd=source), staged, dir_fd=incoming)
        else:
            os.mknod(staged, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=incoming)
        try:
            _copy_attributes_to(source, incoming, staged, status)
            return Backing(root, *birth(incoming, staged))
        except BaseException:
            os.unlink(staged, dir_fd=incoming)
            raise
    finally:
        os.close(source)


def copy_attributes(directory: int, name: bytes, to_directory: int, to_name: bytes) -> None:
    """Give one object of whatever type the owner, mode, xattrs and times of another."""
    source = open_object(directory, name)
    try:
        _copy_attributes_to(source, to_directory, to_name, os.fstat(source))
    finally:
        os.close(source)


def verify_file(incoming: int, name: bytes, size: int, digest: bytes, algorithm: str) -> bool:
    """Read a file back from its disk rather than from memory, and say whether it holds what it should.

    The file must have been synced: the page cache lets go only of what is on the disk.
    """
    hasher = Hasher(algorithm)
    for block in _blocks_from_disk(incoming, name):
        hasher.update(block)
        if hasher.size > size:
            return False
    return hasher.size == size and hasher.digest() == digest


def _copy_bytes(source: int, target: int, size: int, hasher: Hasher, progress: Progress | None) -> None:
    buffer = memoryview(bytearray(BLOCK_BYTES))
    for start, end in _extents(source, size):
        hasher.update_zeros(start - hasher.size)
        while hasher.size < end:
            block = buffer[: min(BLOCK_BYTES, end - hasher.size)]
            count = os.preadv(source, [block], hasher.size)
            if count == 0:  # cut short under our hands
                break
            _write_all(target, block[:count], hasher.size)
            hasher.update(block[:count])
            if progress is not None:
                progress(hasher.size)
    hole_end = min(size, os.fstat(source).st_size)
    if hole_end > hasher.size:
        hasher.update_zeros(hole_end - hasher.size)
    os.ftruncate(target, hasher.size)


def _extents(source: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that hold data, in order; the whole file where the disk does not tell."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
            end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            if error.errno != errno.EINVAL:
                raise
            start, end = end, size
        if start < end:
            yield start, end


def _write_all(target: int, block: memoryview, offset: int) -> None:
    while block:
        count = os.pwrite(target, block, offset)
        block, offset = block[count:], offset + count


def _copy_attributes_to(source: int, directory: int, name: bytes, status: os.stat_result) -> None:
    target = open_object(directory, name)
    try:
        _copy_attributes(source, target, status)
    finally:
        os.close(target)


def _copy_attributes(source: int, target: int, status: os.stat_result) -> None:
    """Owner first, which clears set-id bits and capabilities; xattrs before a mode that may forbid them; times last."""
    path = path_of(target)
    mode = stat.S_IMODE(status.st_mode)
    try:
        os.chown(path, status.st_uid, status.st_gid)
    except PermissionError:
        mode &= ~_SET_ID  # they would speak of another owner
    _copy_xattrs(path_of(source), path)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(path, mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_xattrs(source: str, target: str) -> None:
    """The user's xattrs must arrive; the system's do where that is permitted and means something."""
    try:
        attributes = os.listxattr(source)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return
        raise
    for attribute in attributes:
        if os.fsencode(attribute) == IDENTITY_XATTR:
            continue
        try:
            os.setxattr(target, attribute, os.getxattr(source, attribute))
        except OSError as error:
            if attribute.startswith("user.") or error.errno not in _NOT_HERE:
                raise


def _blocks_from_disk(directory: int, name: bytes) -> Iterator[memoryview]:
    """The file's bytes past the page cache: by direct I/O, or else after asking the cache to forget them."""
    buffer = memoryview(mmap.mmap(-1, BLOCK_BYTES))  # page-aligned, as direct I/O demands
    fd, direct = _open_direct(directory, name)
    try:
        offset = 0
        while True:
            try:
                count = os.preadv(fd, [buffer], offset)
            except OSError as error:
                if not (direct and error.errno == errno.EINVAL):
                    raise
                # Opened for direct I/O, but reads are not; some file systems say so only here.
                again = _open_forgotten(directory, name)
                os.close(fd)
                fd, direct = again, False
                continue
            yield buffer[:count]
            offset += count
            # A direct read from the unaligned end of the file would be refused.
            if count == 0 or (count < BLOCK_BYTES and offset >= os.fstat(fd).st_size):
                return
    finally:
        os.close(fd)


def _open_direct(directory: int, name: bytes) -> tuple[int, bool]:
    try:
        return open_regular(directory, name, os.O_RDONLY | os.O_DIRECT), True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return _open_forgotten(directory, name), False


def _open_forgotten(directory: int, name: bytes) -> int:
    fd = open_regular(directory, name, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd
