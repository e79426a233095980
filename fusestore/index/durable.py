"""What is applied and what is committed: the open transaction in front of the last commit, and the log between the two.

A commit is written at once and synced in a thread; until that is done the index can still go back to the one before
(`snapshots`), and no other is made. What may not happen here: deciding what to write. When a transaction fails, because
the map or the disk is full, it is thrown away and the log is replayed into a new one: what was applied is never lost.
Then pieces are committed as they go, because a small transaction needs less room than a large one.
"""

from __future__ import annotations

import contextlib
import errno
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import lmdb
from msgspec import msgpack

from fusestore.errors import IndexFault, IndexFull
from fusestore.index import numbers, schema, snapshots
from fusestore.index.events import History
from fusestore.index.logs import RedoLogs
from fusestore.index.room import Room
from fusestore.index.rows import Rows
from fusestore.index.schema import META, TAG, read_u64, u64
from fusestore.index.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from fusestore.index.schema import Numbers

LOG_BYTES: Final = 1 << 20  # 2 000 changes or so, whose commit holds everybody up for some milliseconds
PIECE: Final = 64  # records in one transaction when room is short
AMPLIFICATION: Final = 32  # bytes of pages that LMDB may copy for a byte in the log, when each row lies on another page

_META: Final = TAG[META]
_decode: Final = msgpack.Decoder(dict[bytes, bytes | None]).decode


class Durable(Rows, History):
    """The rows of an index, with their log, their numbers and their room."""

    def __init__(self, env: lmdb.Environment, directory: Path, *, map_bytes: int, commit_s: float) -> None:
        super().__init__(env)
        self.uuid = self._stored(schema.UUID_ROW)
        self.numbers = schema.NUMBERS.unpack(self._stored(schema.NUMBERS_ROW))
        self._applied = self._committed = read_u64(self._stored(schema.APPLIED_ROW))
        self._log = RedoLogs(directory, self.uuid)
        self._mark = snapshots.Mark(directory)
        self._syncer = ThreadPoolExecutor(1, "log")
        self._committer = ThreadPoolExecutor(1, "commit")
        self._unsynced: Future[Numbers] | None = None  # the last commit, until somebody waited for it to be durable
        self._room = Room(directory / "data.mdb", map_bytes)
        self._fault: IndexFault | None = None
        self.commit_s = commit_s
        self._commit_took_s = 0.0
        self._last_commit_s = time.monotonic()

    def _stored(self, row: bytes) -> bytes:
        raw = self.get(META, row)
        if raw is None:
            raise IndexFault(f"no {row.decode()} in the index")
        return raw

    @property
    def changes(self) -> int:
        """How many batches were ever applied: the same number later means that nothing has changed."""
        return self._applied

    @property
    def fault(self) -> IndexFault | None:
        """Why nothing can be changed any more; None while all is well."""
        return self._fault

    @property
    def wants_commit(self) -> bool:
        """A commit is due; a slow disk is asked less often."""
        if self._applied == self._committed or self.is_syncing:
            return False
        pause_s = max(self.commit_s, 20 * self._commit_took_s)
        return self._log.bytes_used >= LOG_BYTES or time.monotonic() - self._last_commit_s >= pause_s

    @property
    def is_syncing(self) -> bool:
        """The last commit is on its way to the disk, and the next one would wait for it."""
        return self._unsynced is not None and not self._unsynced.done()

    @property
    def has_room(self) -> bool:
        """Batches that grow the index are accepted, as far as the last commit could see."""
        return self._room.spare_bytes > 0

    def _find_room(self) -> None:
        """See that there is room for a batch that grows the index.

        Raises:
            IndexFull: there is none beyond the reserve.
        """
        if self._log.bytes_used * AMPLIFICATION > self._room.spare_bytes:
            self.commit()
            self._room.look(self._live_bytes(), self._end_bytes())
            if not self.has_room:
                raise IndexFull

    def view(self) -> View:
        """The rows as of the last commit, to be closed soon: until then no page is used again that they lie on."""
        return View(self._env, self._dbs)

    def commit(self) -> None:
        """Commit everything, once the commit before is durable; this one will be in a moment.

        With no room for that, everything stays in the log, and the next call tries again.

        Raises:
            IndexFault: the disk failed.
        """
        if self._applied != self._committed:
            self._commit()

    def sync_log(self) -> None:
        """Make everything applied so far survive a power cut; may be called from a worker thread.

        Raises:
            IndexFault: the disk failed.
        """
        try:
            self._log.sync()
        except OSError as error:  # the kernel forgets such pages: a second try would only seem to succeed
            raise self._broken("the redo log cannot be made durable", error) from error

    @contextmanager
    def syncing_log(self) -> Iterator[None]:
        """`sync_log` beside the body, which makes something durable too; in a worker thread.

        One flush after the other takes half as long again for each small file that is written and synced.

        Raises:
            IndexFault: the disk failed.
        """
        sync = None if self._log.is_durable else self._syncer.submit(self.sync_log)
        try:
            yield
        finally:
            if sync is not None:
                sync.result()

    def _commit(self) -> bool:
        """Commit; False when there is no room, and nothing is lost."""
        if self._fault is not None:
            raise self._fault
        self._await_commit()
        began_s = time.monotonic()
        try:
            fresh = self._commit_rows()
        except lmdb.Error as error:
            if not is_short(error):
                raise self._stranded("the index cannot be committed", error) from error
            self._restore()
            self._room.spare_bytes = 0
            self._last_commit_s = time.monotonic()
            if self._committed != self._applied:
                return False
            self._log.cut()
        else:
            self._log.turn()
            self._unsynced = self._committer.submit(self._make_durable, fresh)
        self._last_commit_s = time.monotonic()
        self._commit_took_s = self._last_commit_s - began_s
        return True

    def _commit_rows(self) -> Numbers:
        """Commit the open transaction, with the numbers of now, and open the next.

        Returns:
            the numbers with limits that count once this commit is durable.

        Raises:
            lmdb.Error: nothing was committed and the transaction is lost.
        """
        fresh = numbers.renewed(self.numbers)
        self._put_begun()
        self._write(
            {_META + schema.APPLIED_ROW: u64(self._applied), _META + schema.NUMBERS_ROW: schema.NUMBERS.pack(fresh)}
        )
        live_bytes = self._live_bytes()
        self._txn.commit()
        self._begin()
        self._committed = self._applied
        self._room.look(live_bytes, self._end_bytes())
        return fresh

    def _make_durable(self, fresh: Numbers) -> Numbers:
        """Make the last commit durable, and the log before it, and say so on the disk; in a thread.

        Raises:
            IndexFault: the disk failed.
        """
        try:
            self._env.sync(True)
            self._log.sync()
            self._mark.set(self._env.info()["last_txnid"])
        except (lmdb.Error, OSError) as error:
            raise self._broken("a commit cannot be made durable", error) from error
        return fresh

    def _await_commit(self) -> None:
        """Wait until the last commit is durable.

        Raises:
            IndexFault: the disk failed.
        """
        if self._unsynced is not None:
            unsynced, self._unsynced = self._unsynced, None
            self._raise_limits(unsynced.result())

    def _raise_limits(self, fresh: Numbers) -> None:
        self.numbers.inode_limit, self.numbers.seq_limit = fresh.inode_limit, fresh.seq_limit

    def _commit_durably(self) -> None:
        """Commit, and wait for the disk.

        Raises:
            lmdb.Error: nothing was committed and the transaction is lost. IndexFault: the disk failed.
        """
        self._await_commit()
        self._raise_limits(self._make_durable(self._commit_rows()))

    def _replay(self, piece: int = 0) -> None:
        """Write what the log holds beyond the last commit; with `piece`, commit after so many records."""
        for number, payload in self._log.records(self._committed):
            self._write(_decode(payload))
            self._applied = number
            if piece and number % piece == 0:
                self._commit_durably()
                self._commit_durably()  # LMDB reuses what one commit freed only after the next one

    def _restore(self) -> None:
        """Come back, from the last commit and the log, to the last applied batch, committing pieces where it can.

        Raises:
            IndexFault: that is not possible.
        """
        applied = self._applied
        try:
            try:
                self._throw_away()
                self._replay(PIECE)
                self._commit_durably()
            except lmdb.Error as error:
                if not is_short(error):
                    raise
                self._throw_away()
                self._replay()
        except (lmdb.Error, OSError) as error:  # OSError: the disk does not give the log back
            raise self._stranded("the redo log cannot be replayed", error) from error
        if self._applied != applied:
            raise self._broken("the redo log lacks applied changes", (self._applied, applied))

    def _throw_away(self) -> None:
        """Leave a transaction that failed, and begin again at the last commit."""
        self._txn.abort()
        self._begin()
        self._applied = self._committed

    def _stranded(self, what: str, why: object) -> IndexFault:
        """The transaction is lost with the right to write; what was applied can still be read."""
        fault = self._broken(what, why)
        with contextlib.suppress(lmdb.Error, OSError):
            self._throw_away()
            self._replay()
        return fault

    def _broken(self, what: str, why: object) -> IndexFault:
        self._fault = IndexFault(what, why)
        return self._fault

    def _take_back(self) -> None:
        """Undo the last record, in the log and in the transaction.

        Raises:
            IndexFault: that is not possible.
        """
        try:
            self._log.take_back()
        except OSError as error:
            raise self._broken("the redo log cannot be written", error) from error
        self._restore()


def is_short(error: lmdb.Error) -> bool:
    """Whether a transaction failed for lack of room."""
    if isinstance(error, (lmdb.MapFullError, lmdb.TxnFullError)):
        return True
    return error.code in (errno.ENOSPC, errno.EDQUOT)
