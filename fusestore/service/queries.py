"""What is asked of a store from the outside: by the control socket, and through it by the command line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fusestore.service.asked.contents import Contents
from fusestore.service.asked.copies import Copies
from fusestore.service.asked.feed import Feed
from fusestore.service.asked.moves import Moves
from fusestore.service.asked.objects import Objects
from fusestore.service.asked.status import Status
from fusestore.service.asked.upkeep import Scrubber, Upkeep
from fusestore.service.reloading import Reloading

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from fusestore.model import Move, MoveNo
    from fusestore.service.store import Store


class Queries(Status, Feed, Objects, Contents, Copies, Moves, Upkeep):
    """Answers questions about one store.

    Args:
        running: moves being worked on, with live counts.
        scrubber: reads everything again in the background.
        settled: returns when no finished content waits to be made durable and hashed.
        stop: ends the daemon.
    """

    def __init__(
        self,
        store: Store,
        mountpoint: Path,
        running: Mapping[MoveNo, Move],
        settled: Callable[[], Awaitable[None]],
        scrubber: Scrubber,
        stop: Callable[[], None],
    ) -> None:
        super().__init__(store)
        self._mountpoint = mountpoint
        self._running = running
        self._settled = settled
        self._scrubber = scrubber
        self._started = time.monotonic()
        self.reloading = Reloading(store)
        self.reload = self.reloading.reload
        self.shutdown = stop
