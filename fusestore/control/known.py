"""What a peer knows: ids, each with the seq of what it was last told of it; and `events.sync`, which tells the rest.

A million of them do not fit in one request, so they come in several and are kept on the disk, in the order of ids, in
which the index has them, too.
"""

from __future__ import annotations

import errno
import struct
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import trio
from msgspec import Meta, field

from fusestore.control.events import Wanted, chosen
from fusestore.control.methods import Call, Method, Number
from fusestore.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusestore.control.methods import Queries

ENTRIES_MAX: Final = 1000  # in one request: a millisecond's work
_ENTRY: Final = struct.Struct(">16sQ")
_BLOCK: Final = 1024 * _ENTRY.size  # bytes read at once


class Entry(NamedTuple):
    """An object, and the seq of what its watcher was last told of it."""

    id: bytes
    seq: int


class Known:
    """What the peer of one connection has said that it knows."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._file: IO[bytes] | None = None
        self._last = b""  # the highest id so far
        self._read: list[Entry] = []  # of the present block, the next one last
        self.total = 0
        self.turn = trio.Lock()

    async def add(self, entries: Mapping[str, int]) -> None:
        """Take down further entries.

        Raises:
            ControlError: these are no ids, or not all above those before. OSError: as the disk says.
        """
        page = sorted(Entry(_id(text), seq) for text, seq in entries.items())
        ids = [self._last, *(entry.id for entry in page)]
        if any(one >= other for one, other in pairwise(ids)):
            hint = "send them in the order of ids, and wait for each reply"
            raise ControlError("bad_data", "data: ids must be above all those before them", hint, errno=errno.EINVAL)
        if self._file is None:
            self._file = self._queries.scratch()
        await trio.to_thread.run_sync(self._file.write, b"".join(_ENTRY.pack(*entry) for entry in page))
        self._last = ids[-1]
        self.total += len(page)

    async def rewind(self) -> None:
        """All are there; the next is the first."""
        assert self._file is not None
        await trio.to_thread.run_sync(self._file.seek, 0)

    async def next(self) -> Entry | None:
        """The next one, in the order of ids; None after the last.

        Raises:
            OSError: as the disk says.
        """
        if not self._read:
            assert self._file is not None
            raw = await trio.to_thread.run_sync(self._file.read, _BLOCK)
            self._read = [Entry(*fields) for fields in _ENTRY.iter_unpack(raw)][::-1]
        return self._read.pop() if self._read else None

    def forget(self) -> None:
        """Nothing is known."""
        if self._file is not None:
            self._file.close()
        self._file, self._last, self._read, self.total = None, b"", [], 0


def _id(text: str) -> bytes:
    try:
        id = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        id = b""
    if len(id) != 16:
        raise ControlError("bad_data", f"data: {text!a} is no whole id", errno=errno.EINVAL)
    return id


class Page(Wanted):
    """Of a manifest: ids, each with the seq of the last event or snapshot that told of it, and the epoch of these.

    With `more`, further ones follow in the next request.
    """

    manifest: Annotated[dict[str, Number], Meta(max_length=ENTRIES_MAX)] = field(default_factory=dict)
    epoch: Number | None = None
    more: bool = False


async def sync(call: Call, page: Page) -> dict[str, Any]:
    """Broadcast what differs from what is known, then answer from which event on to listen."""
    known = call.known
    async with known.turn:
        try:
            wanted = chosen(call, page)
            await known.add(page.manifest)
            if page.more:
                return {"total": known.total}
            call.feed.stop()
            await known.rewind()
            spool = await call.feed.snapshots.compare(wanted, known, page.epoch)
        except BaseException:
            known.forget()
            raise
        known.forget()
        await call.feed.pour(spool)
        return {"total": spool.total, "seq": spool.seq, "epoch": spool.epoch, "partial": spool.partial}


METHODS: Final = {"sync": Method(sync, Page)}
