"""Telling the kernel that what it remembers is out of date.

Only from a worker thread, after the change and the reply: a notice that waits for a page or a lock the kernel holds
for one of our own requests would stop the daemon for ever if the event loop made it.
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
        self._send, self._receive = trio.open_memory_channel["tuple[InodeNo, bytes | None]"](math.inf)
        store.on_stale = self._attributes
        store.on_stale_entry = self._entry

    def _attributes(self, number: InodeNo) -> None:
        self._send.send_nowait((number, None))

    def _entry(self, parent: InodeNo, name: bytes) -> None:
        self._send.send_nowait((parent, name))

    async def run(self) -> None:
        async for number, name in self._receive:
            await trio.to_thread.run_sync(_notify, number, name)


def _notify(number: InodeNo, name: bytes | None) -> None:
    node = pyfuse3.InodeT(number)
    try:
        if name is None:
            pyfuse3.invalidate_inode(node, attr_only=True)
        else:
            pyfuse3.invalidate_entry_async(node, name, ignore_enoent=True)
    except OSError as error:  # the kernel does not know it, which is as good
        log.debug("notice refused", inode=number, error=str(error))
