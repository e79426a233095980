"""The present content of the tree as lines to send, kept on the disk for a watcher that reads them at its own pace.

    presence (one commit of the index) ──► spool (a file without a name) ──► outbox ──► watcher
       read in small steps, then closed        until the watcher has it all

The index is held on to no longer than reading it takes, one snapshot at a time, and requests come in between; memory
holds a block of lines.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import closing
from typing import IO, TYPE_CHECKING, Final

import trio

from fusestore.control.protocol import encode_present, encode_whole
from fusestore.service.breath import Breath

if TYPE_CHECKING:
    from fusestore.control.filters import Filter
    from fusestore.control.methods import Queries

BLOCK: Final = 256  # lines; well below a full outbox
LEVEL: Final = 1  # a tenth of the room, for a fifth of the time that making the lines takes
_LENGTH: Final = struct.Struct(">I")


class Spool:
    """Blocks of lines, first all written, then all read. What touches the disk runs in a thread.

    Attributes:
        seq: the event after which they are what there is; set when all are written.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seq = 0

    async def add(self, lines: bytes) -> None:
        """Append a block.

        Raises:
            OSError: as the disk says.
        """
        await trio.to_thread.run_sync(self._write, lines)

    async def rewind(self) -> None:
        """Everything is written; what is read next is the first block.

        Raises:
            OSError: as the disk says.
        """
        await trio.to_thread.run_sync(self._file.seek, 0)

    async def next(self) -> bytes:
        """The next block; b"" after the last.

        Raises:
            OSError: as the disk says.
        """
        return await trio.to_thread.run_sync(self._read)

    async def aclose(self) -> None:
        """Give its room back, also when cancelled."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._file.close)

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
        """The lines of all that is there and wanted, and the one that says that this was all.

        Raises:
            OSError: the disk does not take them.
        """
        async with self._turn:
            spool = Spool(self._queries.scratch())
            try:
                await self._fill(spool, wanted)
            except BaseException:
                await spool.aclose()
                raise
            return spool

    async def _fill(self, spool: Spool, wanted: Filter) -> None:
        breath = Breath()
        total = 0
        lines: list[bytes] = []
        with closing(await self._queries.present(wanted.paths)) as present:
            for each in present:
                if wanted.shows(each):
                    lines.append(encode_present(each, present.seq, present.epoch))
                    total += 1
                if len(lines) >= BLOCK:
                    await spool.add(b"".join(lines))
                    lines.clear()
                await breath.take()
            lines.append(encode_whole(present.seq, present.epoch, total, present.partial))
        await spool.add(b"".join(lines))
        await spool.rewind()
        spool.seq = present.seq
