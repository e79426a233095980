"""The two disks that moves go between: loop disks for root, else two file systems open to any user."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.disks import can_loop, loop_disk

if TYPE_CHECKING:
    from collections.abc import Iterator


class Disks(NamedTuple):
    """Two file systems that are neither each other's nor, where root allows it, the store's."""

    hot: Path
    cold: Path


@contextlib.contextmanager
def two_disks(size_mb: int = 3000) -> Iterator[Disks]:
    """An ext4 and an xfs disk; without root a folder on this disk and one in memory."""
    if can_loop("ext4") and can_loop("xfs"):
        with loop_disk("ext4", size_mb) as hot, loop_disk("xfs", size_mb) as cold:
            yield Disks(hot, cold)
    else:
        with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            yield Disks(Path(here), Path(memory))
