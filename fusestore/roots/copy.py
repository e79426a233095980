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
from itertools import cycle
from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.model import Backing
from fusestore.roots import syscalls
from fusestore.roots.ahead import AT_A_TIME, ahead
from fusestore.roots.hashing import BLOCK_BYTES, Hasher
from fusestore.roots.identity import IDENTITY_XATTR, write_fd
from fusestore.roots.opening import leave_atime, open_object, open_regular, path_of
from fusestore.roots.syscalls import birth, birth_fd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from fusestore.model import RootNo
    from fusestore.roots.identity import Label

    Progress = Callable[[int], None]

HUGE_BYTES: Final = 64 << 20  # from here on a file would push out of memory what others need there
_WINDOW_BYTES: Final = 16 << 20  # of a huge file are written, and forgotten, at a time
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SET_ID: Final = 0o6000
_PLENTY: Final = 256  # blocks; with so many free, what does not fit never will
_NOT_HERE: Final = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL)


class CopyResult(NamedTuple):
    """A staged regular file."""

    size: int
    digest: bytes
    backing: Backing


def copy_file(
    source: int,
    incoming: int,
    name: bytes,
    *,
    root: RootNo,
    algorithm: str,
    label: Label | None = None,
    progress: Progress | None = None,
) -> CopyResult:
    """Copy the open regular file `source` to the new file `name` in the directory `incoming`; holes stay holes.

    The size is that of `source` at the start: what a writer appends meanwhile is not copied, and a file that is cut
    short ends where its end was met. A leftover of the same name is replaced.

    Args:
        root: the number of the root that `incoming` belongs to, for the backing.
        label: whose bytes these are; it gets the copy's own backing, and stays out where the disk cannot carry it.
        progress: called with the number of bytes done so far; what it raises ends the copy.

    Raises:
        OSError: the disks' own answers; whatever is raised, no file stays behind.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=incoming)
    target = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=incoming)
    try:
        leave_atime(source)
        before = os.fstat(source)  # its access time changes now where the disk does not let us
        hasher = Hasher(algorithm)
        if _is_cloned(source, target, before):
            for _offset, _block in _data(target, before.st_size, hasher):
                if progress is not None:
                    progress(hasher.size)
        else:
            _set_aside(target, before)
            _copy_bytes(source, target, before.st_size, hasher, progress)
        if not os.fstat(target).st_size == hasher.size == before.st_size:
            os.ftruncate(target, hasher.size)  # which takes ext4 a tenth of a millisecond also when it changes nothing
        backing = Backing(root, *birth_fd(target))
        _copy_attributes(source, target, before, label._replace(backing=backing) if label is not None else None)
        return CopyResult(hasher.size, hasher.digest(), backing)
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


def renew_attributes(source: int, target: int) -> None:
    """Give the open file `target`, a copy made earlier, the attributes that `source` has now.

    What the source has lost of its user's xattrs meanwhile goes.
    """
    kept = set(_xattrs(path_of(source)))
    for attribute in _xattrs(path_of(target)):
        if attribute not in kept and attribute.startswith("user."):
            os.removexattr(target, attribute)
    _copy_attributes(source, target, os.fstat(source))


def verify_file(
    incoming: int, name: bytes, size: int, digest: bytes, algorithm: str, *, progress: Progress | None = None
) -> bool:
    """Read a file back from its disk rather than from memory, and say whether it holds what it should.

    The file must have been synced: the page cache lets go only of what is on the disk.

    Args:
        progress: called with the number of bytes read so far; what it raises ends the reading.
    """
    hasher = Hasher(algorithm)
    blocks = blocks_from_disk(incoming, name, size)
    with contextlib.closing(ahead(blocks) if size > BLOCK_BYTES else blocks) as read:
        for block in read:
            hasher.update(block)
            if hasher.size > size:
                return False
            if progress is not None:
                progress(hasher.size)
    return hasher.size == size and hasher.digest() == digest


def _is_cloned(source: int, target: int, status: os.stat_result) -> bool:
    """Whether the copy shares the bytes of its source now; only within a file system, and not every one can."""
    if status.st_dev != os.fstat(target).st_dev:
        return False
    try:
        syscalls.clone(source, target)
    except OSError:
        return False
    return True


def _set_aside(target: int, status: os.stat_result) -> None:
    """Have the disk set aside the room of the whole copy, if it can; not for a small one, nor for one with holes.

    Raises:
        OSError: there is no room.
    """
    if not BLOCK_BYTES < status.st_size <= status.st_blocks * 512:
        return
    try:
        syscalls.fallocate(target, status.st_size)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise


def _copy_bytes(source: int, target: int, size: int, hasher: Hasher, progress: Progress | None) -> None:
    blocks = _data(source, size, hasher)
    behind = _Behind(source, target) if size >= HUGE_BYTES else None
    with contextlib.closing(ahead(blocks) if size > BLOCK_BYTES else blocks) as read:
        for offset, block in read:
            _write_all(target, block, offset)
            if progress is not None:
                progress(offset + len(block))
            if behind is not None:
                behind.is_at(offset + len(block))


def _data(source: int, size: int, hasher: Hasher) -> Generator[tuple[int, memoryview]]:
    """Read and hash all of a file; yields where its data is, and the data, which is good for so long as `ahead` has it.

    A file that is cut short under our hands ends there.
    """
    buffers = cycle(
        [memoryview(bytearray(min(size, BLOCK_BYTES))) for _ in range(AT_A_TIME if size > BLOCK_BYTES else 1)]
    )
    for start, end in _extents(source, size):
        hasher.update_zeros(start - hasher.size)
        while hasher.size < end:
            offset = hasher.size
            block = next(buffers)[: end - offset]
            count = os.preadv(source, [block], offset)
            if count == 0:
                break
            hasher.update(block[:count])
            yield offset, block[:count]
    hole_end = min(size, os.fstat(source).st_size)
    if hole_end > hasher.size:
        hasher.update_zeros(hole_end - hasher.size)


class _Behind:
    """Has a huge copy written out on the way, so that the sync at its end is short, and its pages let go of."""

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target
        self._begun = 0  # being written up to here
        self._gone = 0  # out of memory up to here
        os.posix_fadvise(source, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def is_at(self, offset: int) -> None:
        """The copy has come so far.

        Raises:
            OSError: the disk did not take what was written.
        """
        if offset - self._begun < _WINDOW_BYTES:
            return
        syscalls.write_out(self._target, self._begun, offset - self._begun, wait=False)
        done = self._begun - self._gone
        if done:
            syscalls.write_out(self._target, self._gone, done, wait=True)
            for fd in (self._source, self._target):
                os.posix_fadvise(fd, self._gone, done, os.POSIX_FADV_DONTNEED)
        self._gone, self._begun = self._begun, offset


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


def _copy_attributes(source: int, target: int, status: os.stat_result, label: Label | None = None) -> None:
    """Owner first, which clears set-id bits and capabilities; xattrs before a mode that may forbid them; times last."""
    path = path_of(target)
    mode = stat.S_IMODE(status.st_mode)
    try:
        os.chown(path, status.st_uid, status.st_gid)
    except PermissionError:
        mode &= ~_SET_ID  # they would speak of another owner
    _copy_xattrs(path_of(source), path)
    if label is not None:  # after the user's, whose place it must not take
        write_fd(target, label)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(path, mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_xattrs(source: str, target: str) -> None:
    """The user's xattrs must arrive; the system's do where that is permitted and means something."""
    for attribute in _xattrs(source):
        try:
            os.setxattr(target, attribute, os.getxattr(source, attribute))
        except OSError as error:
            if error.errno == errno.ENOSPC and os.statvfs(target).f_bavail > _PLENTY:  # ext4 has one block for them
                raise OSError(errno.E2BIG, f"the attribute {attribute} does not fit on the target's disk") from error
            if attribute.startswith("user.") or error.errno not in _NOT_HERE:
                raise


def _xattrs(path: str) -> list[str]:
    """The names of all xattrs that are not our own."""
    try:
        return [each for each in os.listxattr(path) if os.fsencode(each) != IDENTITY_XATTR]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def blocks_from_disk(directory: int, name: bytes, size: int = BLOCK_BYTES) -> Generator[memoryview]:
    """The file's bytes past the page cache: by direct I/O, or else after asking the cache to forget them.

    A block is good for so long as `ahead` has it, of a file of no more than one block until the next.
    """
    length = min(BLOCK_BYTES, size // mmap.PAGESIZE * mmap.PAGESIZE + mmap.PAGESIZE)  # one byte too many would be seen
    # Page-aligned, as direct I/O demands.
    buffers = cycle([memoryview(mmap.mmap(-1, length)) for _ in range(AT_A_TIME if size > BLOCK_BYTES else 1)])
    fd, direct = _open_direct(directory, name)
    try:
        leave_atime(fd)
        offset = 0
        while True:
            buffer = next(buffers)
            try:
                count = os.preadv(fd, [buffer], offset)
            except OSError as error:
                if not (direct and error.errno == errno.EINVAL):
                    raise
                # Opened for direct I/O, but reads are not; some file systems say so only here.
                again = _open_forgotten(directory, name)
                os.close(fd)
                fd, direct = again, False
                leave_atime(fd)
                continue
            yield buffer[:count]
            offset += count
            # A direct read from the unaligned end of the file would be refused.
            if count == 0 or (count < length and offset >= os.fstat(fd).st_size):
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
