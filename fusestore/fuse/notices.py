"""Telling the kernel that the attributes it remembers are out of date.

Only from a worker thread, after the change and the reply. Names are never taken back: for that the kernel waits for its
own lock on their directory, without end if the daemon is killed while somebody's request holds it; neither could then
be killed. How long names are believed is `attributes.Answers`' affair.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pyfuse3
import structlog
import trio

if TYPE_CHECKING:
    from fusestore.model import InodeNo
    from fusestore.service.store import Store

log = structlog.get_logger()


class Notices:
    """The only sender of notices; `run` is a task of the daemon."""

    def __init__(self, store: Store) -> None:
        self._send, self._receive = trio.open_memory_channel["InodeNo"](math.inf)
        store.on_stale = self._send.send_nowait

    async def run(self) -> None:
        async for number in self._receive:
            await trio.to_thread.run_sync(_notify, number)


def _notify(number: InodeNo) -> None:
    try:
        pyfuse3.invalidate_inode(pyfuse3.InodeT(number), attr_only=True)
    except OSError as error:  # the kernel does not know it, which is as good
        log.debug("notice refused", inode=number, error=str(error))
