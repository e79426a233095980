"""Telling the kernel that the attributes it remembers are out of date.

Only from a worker thread, after the change and the reply. Names are never taken back: for that the kernel waits for its
own lock on their directory, without end if the daemon is killed while somebody's request holds it; neither could then
be killed. How long names are believed is `attributes.Answers`' affair.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final

import pyfuse3
import structlog
import trio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.model import InodeNo
    from fusestore.service.store import Store

log = structlog.get_logger()

AT_ONCE: Final = 64  # share the way to a thread and back, which takes longer than they do


class Notices:
    """The only sender of notices; `run` is a task of the daemon."""

    def __init__(self, store: Store) -> None:
        self._send, self._receive = trio.open_memory_channel["InodeNo"](math.inf)
        store.on_stale = self._send.send_nowait

    async def run(self) -> None:
        async for number in self._receive:
            numbers = {number}
            with contextlib.suppress(trio.WouldBlock):
                while len(numbers) < AT_ONCE:
                    numbers.add(self._receive.receive_nowait())
            await trio.to_thread.run_sync(_notify, numbers)


def _notify(numbers: Iterable[InodeNo]) -> None:
    for number in numbers:
        try:
            pyfuse3.invalidate_inode(pyfuse3.InodeT(number), attr_only=True)
        except OSError as error:  # the kernel does not know it, which is as good
            log.debug("notice refused", inode=number, error=str(error))
