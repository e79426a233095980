"""A redo log: every batch since some commit, written before anything else happens.

What may not happen here: knowing what a record says. Numbers and payload bytes go in, and after a crash the valid
prefix comes out.

    file    = header  record  record  record  (remains of older records, or zeros)
    header  = "fsredo1\\n"  uuid of the index (16)
    record  = length u32  crc32 u32  body        length and crc are those of the body
    body    = number u64  payload

Numbers are consecutive. The file is given its room in advance and written from the front again after each cut, so
that an append needs no new block (a full disk cannot refuse a removal) and `fdatasync` no metadata. The valid prefix
ends at the first record that is torn or out of order: what remains of an older round carries lower numbers, or
numbers that the commit before the cut already holds, and is never taken for new. `write(2)` survives `kill -9`;
`sync` makes it survive a power cut.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from typing import TYPE_CHECKING, Final
from zlib import crc32

from fusestore.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC: Final = b"fsredo1\n"
HEADER_BYTES: Final = len(MAGIC) + 16
ROOM_BYTES: Final = 9 << 20  # what is appended between two commits, and a little

_FRAME: Final = struct.Struct(">II")
_NUMBER: Final = struct.Struct(">Q")


class RedoLog:
    """An open log. `sync` may be called from another thread; everything else belongs to the index's thread."""

    def __init__(self, path: Path, uuid: bytes) -> None:
        """Open the log of the index `uuid`; a missing one is empty.

        Raises:
            StoreError: the file is the log of another index.
        """
        self._path = path
        self._header = MAGIC + uuid
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._closing = threading.Lock()
        self._start = self._end = HEADER_BYTES
        self._last = self._durable = 0
        found = os.pread(self._fd, HEADER_BYTES, 0)
        if found.strip(b"\0") and found != self._header:
            os.close(self._fd)
            raise StoreError(f"{path} does not belong to this index; move it away to go on without the changes in it")

    def records(self, applied: int) -> Iterator[tuple[int, bytes]]:
        """Yield (number, payload) of the valid prefix beyond `applied`; appending goes on behind the last one."""
        size = os.fstat(self._fd).st_size
        self._end, self._last = HEADER_BYTES, applied
        previous = None
        while frame := os.pread(self._fd, _FRAME.size, self._end):
            if len(frame) < _FRAME.size:
                return
            length, crc = _FRAME.unpack(frame)
            if not _NUMBER.size <= length <= size - self._end - _FRAME.size:
                return
            body = os.pread(self._fd, length, self._end + _FRAME.size)
            if crc32(body) != crc:
                return
            (number,) = _NUMBER.unpack_from(body)
            if number != previous + 1 if previous is not None else number > applied + 1:
                return
            previous = number
            self._start = self._end
            self._end += _FRAME.size + length
            if number > applied:
                self._last = number
                yield number, body[_NUMBER.size :]

    @property
    def first(self) -> int | None:
        """The number in the first record, whatever else is in it; None where there is none."""
        raw = os.pread(self._fd, _FRAME.size + _NUMBER.size, HEADER_BYTES)
        if len(raw) < _FRAME.size + _NUMBER.size or not _FRAME.unpack_from(raw)[0]:
            return None
        number: int = _NUMBER.unpack_from(raw, _FRAME.size)[0]
        return number

    def append(self, number: int, payload: bytes) -> None:
        """Write one record.

        Raises:
            OSError: nothing was appended.
        """
        body = _NUMBER.pack(number) + payload
        record = _FRAME.pack(len(body), crc32(body)) + body
        if os.pwrite(self._fd, record, self._end) != len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._start = self._end
        self._end += len(record)
        self._last = number

    def take_back(self) -> None:
        """Undo the last append, before anything else is appended."""
        os.pwrite(self._fd, bytes(_FRAME.size), self._start)
        self._end = self._start
        with self._closing:  # a sync that goes on counts what it found
            self._last -= 1
            self._durable = min(self._durable, self._last)

    def cut(self) -> None:
        """Begin again at the front: everything appended so far is durable elsewhere."""
        self._start = self._end = HEADER_BYTES
        self._durable = self._last

    def reset(self) -> None:
        """Write an empty log with its room, and no remains of older records."""
        os.ftruncate(self._fd, HEADER_BYTES)
        os.pwrite(self._fd, self._header, 0)
        try:
            os.posix_fallocate(self._fd, 0, ROOM_BYTES)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EOPNOTSUPP, errno.EINVAL):
                raise  # without room of its own the log still works while the disk has some
        os.fdatasync(self._fd)
        self.cut()

    def sync(self) -> None:
        """Make everything appended so far survive a power cut; from any thread."""
        with self._closing:
            last = self._last
            if self._fd >= 0 and last > self._durable:
                os.fdatasync(self._fd)
                self._durable = max(self._durable, last)

    @property
    def is_durable(self) -> bool:
        """Whether everything appended so far would survive a power cut."""
        return self._last <= self._durable

    @property
    def bytes_used(self) -> int:
        return self._end - HEADER_BYTES

    def close(self, *, empty: bool = False) -> None:
        """Close the file once a running `sync` is done; `empty` gives its room back."""
        with self._closing:
            if self._fd >= 0:
                if empty:
                    os.ftruncate(self._fd, HEADER_BYTES)
                os.close(self._fd)
                self._fd = -1
