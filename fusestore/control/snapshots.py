"""The present content of the tree as lines to send, kept on the disk for a watcher that reads them at its own pace.

    presence (one commit of the index) ──► spool (a file without a name) ──► outbox ──► watcher
       read in small steps, then closed        until the watcher has it all

Either all that is there, or what differs from what a watcher knows. The index is held on to no
longer than reading it takes, one snapshot at a time, and requests come in between; memory holds a block of lines.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import asynccontextmanager, closing
from typing import IO, TYPE_CHECKING, Final

import trio

from fusestore.control.broadcasts import encode_gone, encode_present, encode_whole
from fusestore.service.breath import Breath

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fusestore.control.filters import Filter
    from fusestore.control.known import Known
    from fusestore.control.methods import Presence, Queries

BLOCK: Final = 256  # lines; well below a full outbox
LEVEL: Final = 1  # a sixth of the room, for a fraction of the time that making the lines takes
_LENGTH: Final = struct.Struct(">I")


class Spool:
    """Lines, first all written, then all read. What touches the disk runs in a thread.

    Attributes:
        total: the objects that they tell of.
        seq, epoch: of the event after which this is so.
        partial: roots of which something may be missing.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._block: list[bytes] = []
        self.total = 0
        self.seq = self.epoch = 0
        self.partial: list[str] = []

    async def tell(self, line: bytes) -> None:
        """Append the line of an object.

        Raises:
            OSError: as the disk says.
        """
        self._block.append(line)
        self.total += 1
        if len(self._block) >= BLOCK:
            await self._flush()

    async def finish(self, presence: Presence, last: bytes = b"") -> None:
        """Everything is told, and after it the line `last`; what is read next is the first block.

        Raises:
            OSError: as the disk says.
        """
        self._block.append(last)
        await self._flush()
        await trio.to_thread.run_sync(self._file.seek, 0)
        self.seq, self.epoch, self.partial = presence.seq, presence.epoch, sorted(presence.partial)

    async def next(self) -> bytes:
        """The next lines; b"" after the last.

        Raises:
            OSError: as the disk says.
        """
        return await trio.to_thread.run_sync(self._read)

    async def aclose(self) -> None:
        """Give its room back, also when cancelled."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._file.close)

    async def _flush(self) -> None:
        lines = b"".join(self._block)
        self._block.clear()
        if lines:
            await trio.to_thread.run_sync(self._write, lines)

    def _write(self, lines: bytes) -> None:
        packed = zlib.compress(lines, LEVEL)
        self._file.write(_LENGTH.pack(len(packed)) + packed)

    def _read(self) -> bytes:
        length = self._file.read(_LENGTH.size)
        return zlib.decompress(self._file.read(_LENGTH.unpack(length)[0])) if length else b""


class Snapshots:
    """Takes them for all watchers, one after the other."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._turn = trio.Lock()

    async def take(self, wanted: Filter) -> Spool:
        """All that is there and wanted, and a line that says that this was all.

        Raises:
            OSError: the disk does not take it. IndexFault
        """
        breath = Breath()
        async with self._spool(wanted) as (presence, spool):
            for each in presence:
                if wanted.shows(each):
                    await spool.tell(encode_present(each, presence.seq, presence.epoch))
                await breath.take()
            await spool.finish(presence, encode_whole(presence.seq, presence.epoch, spool.total, presence.partial))
        return spool

    async def compare(self, wanted: Filter, known: Known, epoch: int | None) -> Spool:
        """What is there and wanted and not known as it is, and what is known and not there.

        Args:
            epoch: in which it was known; what a power cut took back may be known of another one, and anything differ.

        Raises:
            as for `take`.
        """
        breath = Breath()
        async with self._spool(wanted) as (presence, spool):
            now = presence.seq, presence.epoch
            is_sound = epoch in (None, presence.epoch)
            entry = await known.next()
            for id, last_seq, inode in presence.by_id():
                while entry is not None and entry.id < id:
                    await spool.tell(encode_gone(entry.id, *now))
                    entry = await known.next()
                    await breath.take()
                seq = None
                if entry is not None and entry.id == id:
                    seq, entry = entry.seq, await known.next()
                is_news = seq is None or last_seq > seq or not is_sound
                if is_news or wanted.paths is not None:  # a directory above may have another name
                    there = presence.describe(inode)
                    if there is not None and wanted.shows(there):
                        if is_news or len(there["paths"]) > 1:  # or another one of its names leads there now
                            operation = "insert" if seq is None else "update"
                            await spool.tell(encode_present(there, *now, operation=operation))
                    elif seq is not None:
                        await spool.tell(encode_gone(id, *now))
                await breath.take()
            while entry is not None:
                await spool.tell(encode_gone(entry.id, *now))
                entry = await known.next()
                await breath.take()
            await spool.finish(presence)
        return spool

    @asynccontextmanager
    async def _spool(self, wanted: Filter) -> AsyncIterator[tuple[Presence, Spool]]:
        """The turn of one snapshot; its spool is closed if the body fails."""
        async with self._turn:
            spool = Spool(self._queries.scratch())
            try:
                with closing(await self._queries.present(wanted.paths)) as presence:
                    yield presence, spool
            except BaseException:
                await spool.aclose()
                raise
