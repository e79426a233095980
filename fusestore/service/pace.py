"""A rate in bytes a second, shared by all threads that read or copy to it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_S: Final = 0.05


class Pace:
    """Holds threads to a rate.

    Args:
        rate: bytes a second, 0 for no limit.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, count: int, look: Callable[[], None]) -> None:
        """`count` bytes are done; returns when the next may be. Blocks.

        Args:
            look: called again and again while this waits; what it raises ends that.
        """
        if not self._rate:
            return
        with self._lock:
            free_at = self._free_at = max(self._free_at, time.monotonic()) + count / self._rate
        while (wait_s := free_at - time.monotonic()) > 0:
            look()
            time.sleep(min(wait_s, LOOK_S))
