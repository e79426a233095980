"""A reserve of room, so that removing and switching go on when creating no longer can.

LMDB copies every page it changes, so even a removal needs free pages, in the map and on the disk. The reserve is
real: blocks allocated behind the last used page, and address space left in the map. While less than that is free,
batches that grow the index are refused.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

LEAST_BYTES: Final = 4 << 20
MOST_BYTES: Final = 256 << 20


class Room:
    """The reserve behind one data file.

    Attributes:
        spare_bytes: what is free beyond the reserve, as of the last look; refuse growth when it is not positive.
    """

    def __init__(self, data: Path, map_bytes: int) -> None:
        self._fd = os.open(data, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._map_bytes = map_bytes
        self._allocated = 0
        self.spare_bytes = 0

    def look(self, live_bytes: int, end_bytes: int) -> None:
        """Find out how much is free, after a commit, and keep the reserve where it belongs.

        Args:
            live_bytes: taken by rows.
            end_bytes: where the last page ever used ends; what is not live below it is free for reuse.
        """
        reserve = min(max(live_bytes // 8, LEAST_BYTES), MOST_BYTES, self._map_bytes // 4)
        if self._allocated < min(end_bytes + reserve, self._map_bytes):
            wanted = min(end_bytes + 2 * reserve, self._map_bytes)
            with contextlib.suppress(OSError):  # a full disk: `spare_bytes` says what follows from it
                os.posix_fallocate(self._fd, 0, wanted)
                self._allocated = wanted
        disk = os.fstatvfs(self._fd)
        most = max(self._allocated, end_bytes) + disk.f_bavail * disk.f_frsize
        self.spare_bytes = min(most, self._map_bytes) - live_bytes - reserve

    def close(self) -> None:
        os.close(self._fd)
