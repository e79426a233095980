"""Who listens for events now, and how closely each root is watched for them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


class Audience:
    """Those who listen, counted."""

    def __init__(self) -> None:
        self._count = 0
        self._somebody = trio.Event()

    @property
    def is_there(self) -> bool:
        return self._count > 0

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Somebody listens for as long as this is held."""
        self._count += 1
        self._somebody.set()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._somebody = trio.Event()

    async def somebody(self) -> None:
        """Return once somebody listens."""
        await self._somebody.wait()


@dataclass
class Watch:
    """How a root is watched for changes by others.

    Attributes:
        state: `off`, `starting` (it is looked through), or `on`.
        directories: how many have a watch.
        reason: why not all have one, so that changes there are found only now and then.
    """

    state: str = "off"
    directories: int = 0
    reason: str = ""
