"""Blocks of a file that were written while it was copied: copied again, and compared with what the copy's disk has."""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

from fusestore.roots.hashing import BLOCK_BYTES
from fusestore.roots.opening import leave_atime, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable


def blocks_of(offset: int, size: int) -> range:
    """The numbers of the blocks that `size` bytes from `offset` lie in."""
    return range(offset // BLOCK_BYTES, (offset + max(size, 1) - 1) // BLOCK_BYTES + 1)


def repeat(source: int, target: int, cut_to: int | None, blocks: Iterable[int]) -> None:
    """Bring the copy `target` up to its source: cut it to `cut_to`, copy `blocks`, and give it the source's size.

    What is written to the source meanwhile may arrive in part.
    """
    if cut_to is not None:
        os.ftruncate(target, cut_to)
    buffer = memoryview(bytearray(BLOCK_BYTES))
    for number in sorted(blocks):
        offset = number * BLOCK_BYTES
        block = buffer[: os.preadv(source, [buffer], offset)]
        while block:
            count = os.pwrite(target, block, offset)
            block, offset = block[count:], offset + count
    os.ftruncate(target, os.fstat(source).st_size)


def differing(source: int, directory: int, name: bytes, blocks: Iterable[int]) -> set[int]:
    """Those of `blocks` in which the disk under the synced file `name` holds anything else than `source`."""
    wanted, found = (memoryview(mmap.mmap(-1, BLOCK_BYTES)) for _ in range(2))  # aligned, as direct I/O demands
    fd, direct = _open(directory, name, found)
    try:
        leave_atime(fd)
        differ = set()
        for number in sorted(blocks):
            offset = number * BLOCK_BYTES
            if not direct:
                os.posix_fadvise(fd, offset, BLOCK_BYTES, os.POSIX_FADV_DONTNEED)
            count = os.preadv(source, [wanted], offset)
            if os.preadv(fd, [found], offset) != count or wanted[:count] != found[:count]:
                differ.add(number)
        return differ
    finally:
        os.close(fd)


def _open(directory: int, name: bytes, buffer: memoryview) -> tuple[int, bool]:
    """Open a file to read it; says whether that goes past the page cache by itself."""
    try:
        fd = open_regular(directory, name, os.O_RDONLY | os.O_DIRECT)
        try:
            os.preadv(fd, [buffer], 0)  # some file systems refuse only here
        except BaseException:
            os.close(fd)
            raise
        return fd, True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return open_regular(directory, name, os.O_RDONLY), False
