"""The stop-watch of a workload: how many a second; and where each line begins and ends in a trace of requests."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER: Final = "FUSESTORE_BENCH_MARKER"  # names the trace's marker file while requests are traced
_LATE_S: Final = 0.02  # RELEASE and FORGET are sent after the call that caused them has returned


class Clock:
    """Collects the rate of each line."""

    def __init__(self) -> None:
        self.rates: dict[str, float] = {}
        marker = os.environ.get(MARKER)
        self._marker = os.open(marker, os.O_WRONLY) if marker else None

    def each(
        self, line: str, count: int, call: Callable[[int], object], *, last: Callable[[], object] | None = None
    ) -> None:
        """Time `count` calls with the numbers from 0 on, and `last` after them."""

        def all_of_them() -> None:
            for number in range(count):
                call(number)
            if last is not None:
                last()

        self.once(line, count, all_of_them)

    def once(self, line: str, amount: float, call: Callable[[], object]) -> None:
        """Time one call that does `amount` of what the line counts."""
        self._mark(f"begin {amount} {line}")
        start = time.perf_counter()
        call()
        self.rates[line] = amount / (time.perf_counter() - start)
        self._mark("end")

    def _mark(self, text: str) -> None:
        if self._marker is not None:
            time.sleep(_LATE_S)
            os.write(self._marker, text.encode())
