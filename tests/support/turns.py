"""The turns of trio's loop, counted."""

from __future__ import annotations

import trio


class Turns(trio.abc.Instrument):
    """How often the loop has looked who can go on; to be added to it."""

    count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1
