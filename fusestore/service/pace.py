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
        self.rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def change(self, rate: int) -> None:
        """Hold to another rate; whoever waits because of the one before need not."""
        with self._lock:
            if rate != self.rate:
                self.rate, self._free_at = rate, 0.0

    def take(self, count: int, look: Callable[[], None]) -> None:
        """`count` bytes are done; returns when the next may be. Blocks.

        Args:
            look: called again and again while this waits; what it raises ends that.
        """
        with self._lock:
            rate = self.rate
            if not rate:
                return
            free_at = self._free_at = max(self._free_at, time.monotonic()) + count / rate
        while self.rate == rate and (wait_s := free_at - time.monotonic()) > 0:
            look()
            time.sleep(min(wait_s, LOOK_S))
