"""A root's manifest, `.fusestore/manifest`: what is known of the objects on it and cannot be seen on the disk.

Names and attributes of what an `id` root holds in the index only, hash and version of every file, ids and inode numbers
of what carries no label, and where objects lie that are on their way. Together with the labels (`roots.identity`) it is
what an index is rebuilt from (decision 0019).

    file    = "fsmani1\\n"  frame  frame  frame ...
    frame   = length u32  crc32 u32  payload        length and crc are those of the payload
    payload = the first: Head; each further one: Frame (msgpack arrays)

Of two entries for one inode the later counts, across all manifests of a store: frames are ordered by (epoch, change).
The file is only appended to, and written anew beside and exchanged with what was there, whose inode is kept for the
next time. Where an append was torn, the frames before it are the manifest. What may not happen here: knowing when to
write.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple, Self
from zlib import crc32

from msgspec import MsgspecError, Struct, msgpack

from fusestore.model import Inode, InodeNo, Replica, RootNo, RootRecord, Spot
from fusestore.roots.opening import open_regular
from fusestore.roots.syscalls import rename_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = b"manifest"
FRESH_NAME: Final = b"manifest.new"  # is written anew, or empty
MAGIC: Final = b"fsmani1\n"
FRAME_MAX_BYTES: Final = 64 << 20

Name = tuple[InodeNo, bytes]  # (parent, name)

_FRAME: Final = struct.Struct(">II")
_encode: Final = msgpack.Encoder().encode


class Head(Struct, array_like=True, frozen=True):
    """Whose manifest it is, and what the roots of the store were when it was last written anew."""

    store: bytes
    root: bytes  # uuid
    roots: tuple[RootRecord, ...]


class Entry(Struct, array_like=True, frozen=True):
    """All that the index says of one inode."""

    inode: Inode
    names: tuple[Name, ...]
    placement: tuple[Spot, ...] = ()  # its own, where it has one
    skeletons: tuple[Spot, ...] = ()
    xattrs: dict[bytes, bytes] = {}  # those that no disk object carries
    replicas: tuple[tuple[RootNo, Replica], ...] = ()
    moving: bool = False  # a move of it is not over


class Frame(Struct, array_like=True, frozen=True):
    """What was so after the change number `change` of an epoch."""

    epoch: int
    change: int
    seq: int  # the last one given out
    inode_limit: int  # every inode number given out so far, and for some time to come, is below it
    last_move: int
    step: int  # with it the manifest says all that was so after this change; 0: it does not
    anew: bool  # from the writing anew, not from following changes
    gone: list[InodeNo]  # not on this root any more
    entries: list[Entry]


class Survey(NamedTuple):
    """What there is of a manifest."""

    head: Head
    size: int  # of its valid prefix
    base: int  # what of it was written anew
    last: Frame | None


def framed(content: Head | Frame) -> bytes:
    """The bytes of one frame."""
    payload = _encode(content)
    return _FRAME.pack(len(payload), crc32(payload)) + payload


class Manifest:
    """The manifest in one marker directory, until it is closed; everything here blocks."""

    def __init__(self, area: int) -> None:
        """`area`: descriptor of the marker directory, which is the manifest's from here on."""
        self._area = area

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._area)

    def head(self) -> Head | None:
        """Its head; None where there is no manifest, or none that can be read."""
        with contextlib.suppress(OSError, MsgspecError, StopIteration), self._opened(NAME) as fd:
            return msgpack.decode(next(_payloads(fd))[1], type=Head)
        return None

    def frames(self) -> Iterator[Frame]:
        """Every frame behind the head, in order, up to the first that is torn or cannot be understood."""
        with contextlib.suppress(FileNotFoundError, MsgspecError), self._opened(NAME) as fd:
            payloads = _payloads(fd)
            next(payloads, None)
            for _, payload in payloads:
                yield _frame(payload)

    def written_ns(self) -> int:
        """When it was last written; 0 where there is none."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(NAME, dir_fd=self._area, follow_symlinks=False).st_mtime_ns
        return 0

    def survey(self) -> Survey | None:
        """Its extent and its last frame; None where there is no manifest, or none that can be read."""
        head = self.head()
        if head is None:
            return None
        size = base = len(MAGIC)
        last = None
        with contextlib.suppress(MsgspecError), self._opened(NAME) as fd:
            for end, payload in _payloads(fd):
                if size > len(MAGIC):
                    last = _frame(payload)
                if last is None or last.anew:
                    base += end - size
                size = end
        return Survey(head, size, base, last)

    def append(self, data: bytes, size: int, *, fresh: bool = False) -> int:
        """Write frames durably behind the first `size` bytes, and return what the size is then.

        Raises:
            OSError: ESTALE if there are not as many; else as the disk says, and what is there may be torn.
        """
        with self._opened(FRESH_NAME if fresh else NAME, os.O_WRONLY) as fd:
            if os.fstat(fd).st_size < size:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            os.ftruncate(fd, size)
            while data:
                written = os.pwrite(fd, data, size)
                data, size = data[written:], size + written
            os.fdatasync(fd)
        return size

    def begin(self) -> int:
        """Begin to write it anew; returns the size of what is to be filled by `append`."""
        self.keep_room()
        with self._opened(FRESH_NAME, os.O_WRONLY) as fd:
            os.ftruncate(fd, 0)
            return os.write(fd, MAGIC)

    def put_in_place(self) -> None:
        """Have what was written anew be the manifest."""
        try:
            rename_exchange(self._area, FRESH_NAME, self._area, NAME)
        except OSError:  # there is none yet, or the file system cannot do that
            os.rename(FRESH_NAME, NAME, src_dir_fd=self._area, dst_dir_fd=self._area)
        os.fsync(self._area)
        with contextlib.suppress(OSError):
            self.keep_room()

    def keep_room(self) -> None:
        """Have an empty file beside it, so that it can be written anew when the disk has no inode left."""
        try:
            with self._opened(FRESH_NAME, os.O_WRONLY) as fd:
                os.ftruncate(fd, 0)
        except OSError:  # there is none, or what is none of ours
            with contextlib.suppress(FileNotFoundError):
                os.unlink(FRESH_NAME, dir_fd=self._area)
            with self._opened(FRESH_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL):
                pass

    @contextlib.contextmanager
    def _opened(self, name: bytes, flags: int = os.O_RDONLY) -> Iterator[int]:
        if flags & os.O_CREAT:
            fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._area)
        else:
            fd = open_regular(self._area, name, flags)
        try:
            yield fd
        finally:
            os.close(fd)


def _payloads(fd: int) -> Iterator[tuple[int, bytes]]:
    """(end, payload) of each valid frame, the head first."""
    if os.pread(fd, len(MAGIC), 0) != MAGIC:
        return
    end = len(MAGIC)
    while len(frame := os.pread(fd, _FRAME.size, end)) == _FRAME.size:
        length, crc = _FRAME.unpack(frame)
        if not 0 < length <= FRAME_MAX_BYTES:
            return
        payload = os.pread(fd, length, end + _FRAME.size)
        if len(payload) < length or crc32(payload) != crc:
            return
        end += _FRAME.size + length
        yield end, payload


def _frame(payload: bytes) -> Frame:
    return msgpack.decode(payload, type=Frame)
