"""`.fusestore/events`: who opens and polls it. What its bytes are is the business of `control`, which has the log."""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
import trio
from pyfuse3 import FUSEError

from fusestore.fuse.asking import groups

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfuse3 import PollHandle, RequestContext

    from fusestore.model import Owner

log = structlog.get_logger()

READABLE: Final = select.POLLIN | select.POLLRDNORM
ALWAYS: Final = READABLE | select.POLLOUT | select.POLLWRNORM  # what any other file answers, as on a local disk


class LogFile(Protocol):
    """The event log as a file; `control.log_file` is one. A reader is whatever `open` returns."""

    changed_ns: int

    @property
    def mode(self) -> int: ...
    @property
    def size(self) -> int: ...
    def may_read(self, peer: Owner, groups: Iterable[int]) -> bool: ...
    def open(self) -> Any: ...
    def close(self, reader: Any) -> None: ...
    def has_more(self, reader: Any) -> bool: ...
    async def changed(self) -> None: ...
    async def measure(self) -> None: ...
    async def read(self, reader: Any, offset: int, size: int) -> bytes: ...


class EventsFile:
    """Its open handles."""

    def __init__(self, log_file: LogFile) -> None:
        self.log = log_file
        self._readers: dict[int, Any] = {}
        self._openers: dict[int, tuple[Owner, tuple[int, ...]]] = {}  # with their further groups
        self._polled: dict[int, PollHandle] = {}  # by handle: whom to wake
        self._asked = trio.Event()

    def open(self, fh: int, owner: Owner, ctx: RequestContext) -> None:
        """Open it as the handle `fh`.

        Raises:
            FUSEError: whoever asks could not listen at the socket either.
        """
        further = tuple(groups(ctx.pid))
        if not self.log.may_read(owner, further):
            raise FUSEError(errno.EACCES)
        self._readers[fh] = self.log.open()
        self._openers[fh] = owner, further

    def has(self, fh: int) -> bool:
        return fh in self._readers

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        """Some of its bytes.

        Raises:
            FUSEError: whoever has opened it might not do so any more.
        """
        if not self.log.may_read(*self._openers[fh]):
            raise FUSEError(errno.EACCES)
        return await self.log.read(self._readers[fh], offset, size)

    def release(self, fh: int) -> None:
        self._polled.pop(fh, None)
        del self._openers[fh]
        self.log.close(self._readers.pop(fh))

    def poll(self, fh: int, handle: PollHandle | None) -> int:
        """What of poll(2) is true now; `handle` is woken when that changes."""
        if self.log.has_more(self._readers[fh]):
            return READABLE
        if handle is not None:
            self._polled[fh] = handle
            self._asked.set()
        return 0

    async def run(self) -> None:
        """Wake who polls, when something has happened."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            await self.log.changed()
            polled, self._polled = self._polled, {}
            for handle in polled.values():
                try:
                    handle.notify()
                except OSError as error:  # nobody waits any more
                    log.debug("wake-up refused", error=str(error))
