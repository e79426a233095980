"""Reading a file's bytes again from its disk, past the page cache, behind everybody else's reads and writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fusestore.roots.copy import blocks_from_disk
from fusestore.roots.hashing import Hasher
from fusestore.roots.syscalls import idle_io

if TYPE_CHECKING:
    from collections.abc import Callable


def digest_from_disk(directory: int, name: bytes, algorithm: str, pace: Callable[[int], None]) -> bytes:
    """The digest of the file `name`, as its disk has it. Blocks; closes `directory`, whatever comes.

    Args:
        pace: called with the size of each block after it was read; may sleep, and what it raises ends the reading.

    Raises:
        OSError: as the disk says.
    """
    hasher = Hasher(algorithm)
    try:
        with idle_io():
            for block in blocks_from_disk(directory, name):
                hasher.update(block)
                pace(len(block))
    finally:
        os.close(directory)
    return hasher.digest()
