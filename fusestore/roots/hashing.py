"""Content hashes: a tag that says the algorithm, and a digest taken in passing or by reading.

A digest is always kept with its algorithm, so that a store can change algorithms and old digests stay true.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final, Protocol

from blake3 import blake3

from fusestore.roots.opening import leave_atime

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK_BYTES: Final = 1 << 20


class _Digester(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> object: ...
    def digest(self) -> bytes: ...


_ALGORITHMS: Final[dict[str, Callable[[], _Digester]]] = {"blake3": blake3, "sha256": hashlib.sha256}


class Hasher:
    """One digest in the making. Both algorithms let other threads run while they work on a large block."""

    __slots__ = ("_digester", "algorithm", "size")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.size = 0  # bytes taken in so far
        self._digester = _ALGORITHMS[algorithm]()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._digester.update(data)
        self.size += len(data)

    def update_zeros(self, count: int) -> None:
        """Take in a hole of `count` bytes without reading it."""
        while count > 0:
            block = _ZEROS[: min(count, BLOCK_BYTES)]
            self.update(block)
            count -= len(block)

    def digest(self) -> bytes:
        return self._digester.digest()


_ZEROS: Final = memoryview(bytes(BLOCK_BYTES))


def hash_fd(fd: int, algorithm: str, progress: Callable[[int], None] | None = None) -> bytes:
    """The digest of all bytes of an open file; its offset, and its access time if the disk lets us, stay as they are.

    Args:
        progress: called with the number of bytes read so far after each block; what it raises ends the reading.
    """
    leave_atime(fd)
    hasher = Hasher(algorithm)
    buffer = memoryview(bytearray(BLOCK_BYTES))
    while count := os.preadv(fd, [buffer], hasher.size):
        hasher.update(buffer[:count])
        if progress is not None:
            progress(hasher.size)
    return hasher.digest()


def tagged(algorithm: str, digest: bytes) -> str:
    """The form in which people and programs see a hash: `blake3:<hex>`; "" for no digest."""
    return f"{algorithm}:{digest.hex()}" if digest else ""
