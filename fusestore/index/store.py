"""The index of one store: opening, changing, committing and closing it.

What may not happen here: an `await`, and use from a second thread (`sync_log` and `syncing_log` excepted). Batches
cross the border inwards, rows and events outwards.

    apply    batch -> one record in the redo log -> the open LMDB transaction -> witness -> memory -> watchers
    commit   the transaction -> a new one and the other log -> both durable, in a thread
    open     the last durable commit + the log's valid prefix = the state at the end of the last run
             (see `numbers` for what a power cut takes)
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import lmdb
from msgspec import msgpack

from fusestore.errors import IndexFault, IndexFull, StoreError
from fusestore.index import numbers, opening, schema, witness
from fusestore.index.durable import PIECE, Durable, is_short
from fusestore.index.migrate import migrate, parse_format
from fusestore.index.schema import INTENTS, META, TAG, read_u32, read_u64, u64
from fusestore.model import MOUNT_ROOT, Cause, Event, InodeNo, MoveNo, Operation, RootNo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusestore.core.intents import Intent
    from fusestore.index.batch import Batch
    from fusestore.index.changed import Changed
    from fusestore.index.schema import Numbers

MAP_BYTES: Final = 64 << 30  # address space, not disk

_META: Final = TAG[META]
_INTENT: Final = TAG[INTENTS]
_encode: Final = msgpack.Encoder().encode


class Index(Durable):
    """An open index. `Index.open` makes one; nobody else has it open until `close`.

    Attributes:
        was_clean: the last run ended with a clean close.
        lost: since the last clean close the power was cut, or so it seems: log and disks went back to moments of their
            own. Whoever only looks, as `check` does, and a run that is killed leave that to the next.
        lost_ns: the time of the last event before the cut, and that of the first start after it; (0, 0) without one.
        on_events: called with the events of each batch, once it is applied.
        changed: collects which inodes were changed, where somebody wants to know.
    """

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        create: bool = False,
        uuid: bytes = b"",
        map_bytes: int = MAP_BYTES,
        commit_s: float = 1.0,
        witnesses: Path = witness.DIRECTORY,
    ) -> Index:
        """Open the index in `directory`, and bring it to where the last run left it.

        Args:
            create: make a new one; there must be none yet.
            uuid: with `create`, of the store whose index it will be; random by default.
            map_bytes: the most it can ever grow to.
            commit_s: how often `wants_commit` asks for a commit.
            witnesses: a directory that a power cut empties.

        Raises:
            StoreError: it is in use, of a newer format, damaged, not there, or (with `create`) there already.
        """
        with ExitStack() as undo:
            lock = opening.lock(directory, create=create)
            undo.callback(os.close, lock)
            env = opening.environment(directory, map_bytes, create=create, uuid=uuid)
            undo.callback(env.close)
            try:
                index = cls(env, directory, lock, map_bytes=map_bytes, commit_s=commit_s, witnesses=witnesses)
            except (lmdb.Error, IndexFault) as error:
                raise StoreError(f"{directory} cannot be opened: {error}") from error
            undo.pop_all()
            return index

    def __init__(
        self, env: lmdb.Environment, directory: Path, lock: int, *, map_bytes: int, commit_s: float, witnesses: Path
    ) -> None:
        super().__init__(env, directory, map_bytes=map_bytes, commit_s=commit_s)
        self._lock = lock
        self.on_events: Callable[[list[Event]], None] | None = None
        self.changed: Changed | None = None
        self.was_clean = self._stored(schema.CLEAN_ROW) == b"1"
        self._witness = witness.Witness(witnesses / f"fusestore-{self.uuid.hex()}")
        self._recover(directory)
        self._next_intent = self._after_last_intent()
        self._next_move = self.last_move + 1

    def _recover(self, directory: Path) -> None:
        """Replay the log, settle where the numbers go on, and begin a run."""
        try:
            self._replay()
        except lmdb.Error as error:
            if not is_short(error):
                raise
            self._throw_away()
            self._replay(PIECE)
        for rows in migrate(self, parse_format(self._stored(schema.FORMAT_ROW), directory)):
            self._write(rows)
        run, lost = self._stored(schema.RUN_ROW), False
        if not self.was_clean:
            lost = numbers.is_lost(self._witness.read(), run, self._applied)
            last = self.last_key(schema.EVENTS)
            self.numbers = numbers.after_unclean_end(self.numbers, read_u64(last) if last else 0, lost=lost)
        known = self.get(META, schema.LOST_ROW)
        self.lost = lost or known is not None
        self.lost_ns = (read_u64(known[:8]), read_u64(known[8:])) if known is not None else (0, 0)
        if lost:
            newest = next(self.scan_back(schema.EVENTS, b""), None)
            last_ns = schema.EVENT.unpack(newest[1]).time_ns if newest else 0
            self.lost_ns = (self.lost_ns[0] or last_ns, time.time_ns())
            self._write({_META + schema.LOST_ROW: u64(self.lost_ns[0]) + u64(self.lost_ns[1])})
            self._txn.drop(self._stamps, delete=False)  # what lay in a directory may have changed unseen
            self._tell_epoch("events of the last moments before a power cut may be lost")
        if lost or self.was_clean:
            run = os.urandom(16)
        self._write({_META + schema.RUN_ROW: run, _META + schema.CLEAN_ROW: b"0"})
        self._witness.begin(run, self._applied, self.numbers.last_seq)  # before the commit that relies on it
        self._commit_durably()
        self._log.reset()

    def go_on_from(self, numbers: Numbers, detail: str) -> None:
        """Have a new index give out what another, that it was made in the place of, has not; `detail` tells watchers.

        Raises:
            IndexFault: the disk failed.
        """
        self.numbers = numbers
        self._next_move = numbers.last_move + 1
        self._tell_epoch(detail)
        self._commit()

    def _tell_epoch(self, detail: str) -> None:
        self.numbers.last_seq += 1
        event = Event(
            operation=Operation.UPDATE, kind="epoch", inode=MOUNT_ROOT, id=bytes(16), type=0, path=b"", root="",
            version=0, size=0, mtime_ns=0, cause=Cause.RECOVER,
            detail=detail,
            seq=self.numbers.last_seq, epoch=self.numbers.epoch, time_ns=time.time_ns(),
        )  # fmt: skip
        self._write({TAG[schema.EVENTS] + u64(event.seq): schema.EVENT.pack(event)})

    # -- numbers ----------------------------------------------------------------------------------------------------

    def new_inode(self) -> InodeNo:
        """A number that was never given out before.

        Raises:
            IndexFull, IndexFault: the next block of numbers cannot be made durable.
        """
        number = self.numbers.next_inode
        if number >= self.numbers.inode_limit:
            self._renew()
        self.numbers.next_inode = number + 1
        return InodeNo(number)

    def new_move(self) -> MoveNo:
        """A number that no move has."""
        self._next_move += 1
        return MoveNo(self._next_move - 1)

    def new_root(self) -> RootNo:
        """The number after the last root's; the next call gives the same until a root with it is applied."""
        last = self.last_key(schema.ROOTS)
        return RootNo(read_u32(last) + 1 if last else 1)

    def new_intent(self) -> int:
        """A key that no intent has."""
        self._next_intent += 1
        return self._next_intent - 1

    def _after_last_intent(self) -> int:
        last = self.last_key(schema.INTENTS, below=u64(schema.WRITING))
        return read_u64(last) + 1 if last else 1

    def _renew(self) -> None:
        if not self._commit():
            raise IndexFull("no room to reserve further numbers")
        self._await_commit()

    # -- changing ---------------------------------------------------------------------------------------------------

    def begin(self, intent: Intent, *, grows: bool = False) -> int:
        """Record what is about to be done to a disk; returns the key that settles it.

        The same as a batch with this intent alone, which every change to a disk begins with, at half the cost.

        Args:
            grows: what is about to be done makes the index larger for good.

        Raises:
            as for `apply`.
        """
        if self._fault is not None:
            raise self._fault
        if grows:
            self._find_room()
        key = self.new_intent()
        rows: dict[bytes, bytes | None] = {_INTENT + u64(key): schema.INTENT.pack(intent)}
        record = self._applied + 1
        self._append(record, _encode(rows))
        self._write(rows)  # in memory
        self._applied = record
        self._witness.note(record, self.numbers.last_seq)
        return key

    def apply(self, batch: Batch) -> None:
        """Make a change: all of it is in the log, visible, followed in memory, and given to `on_events`, or none of it.

        Raises:
            IndexFull: the batch grows the index and there is no room beyond the reserve, or none at all is left.
            IndexFault: the index cannot be written; nothing can be changed from here on.
        """
        if self._fault is not None:
            raise self._fault
        if batch.grows:
            self._find_room()
        events = batch.events
        if self.numbers.last_seq + len(events) > self.numbers.seq_limit:
            self._renew()
        record = self._applied + 1
        rows = batch.resolve(self, self.numbers, record, time.time_ns())
        payload = _encode(rows)
        self._append(record, payload)
        try:
            self._write(rows)
        except (lmdb.Error, TypeError) as error:
            self._write_again(record, payload, rows, error)
        self._applied = record
        self.numbers.last_seq += len(events)
        self._witness.note(record, self.numbers.last_seq)
        if self.changed is not None:
            self.changed.note(rows, batch.left)
        for follow in batch.following:
            follow()
        if events and self.on_events is not None:
            self.on_events(events)

    def _append(self, record: int, payload: bytes) -> None:
        try:
            self._log.append(record, payload)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise IndexFull from error
            raise self._broken("the redo log cannot be written", error) from error

    def _write_again(
        self, record: int, payload: bytes, rows: dict[bytes, bytes | None], error: lmdb.Error | TypeError
    ) -> None:
        """A put failed and took the transaction with it: back to the state before, and try again with more room."""
        self._take_back()
        if isinstance(error, (TypeError, lmdb.BadValsizeError)):
            raise ValueError(f"a row that cannot be stored: {error}") from error
        if not is_short(error):
            raise self._broken("the index cannot be written", error) from error
        self._append(record, payload)
        try:
            self._write(rows)
        except lmdb.Error as again:
            self._take_back()
            self._room.spare_bytes = 0
            raise IndexFull from again

    # -- closing ----------------------------------------------------------------------------------------------------

    def close(self, *, clean: bool = True) -> None:
        """Commit and close.

        Args:
            clean: the run ends as it should. Whoever only looks at the index passes on `was_clean`, so that the next
                run still learns how the last one ended.
        """
        try:
            if self._fault is None:
                if clean:
                    self._write({_META + schema.CLEAN_ROW: b"1", _META + schema.LOST_ROW: None})
                    clean = self._commit() and self._stored(schema.CLEAN_ROW) == b"1"
                else:
                    self.commit()
                self._await_commit()
        finally:
            ended_well = clean and self._fault is None
            self._txn.abort()
            self._syncer.shutdown()
            self._committer.shutdown()
            self._log.close(empty=ended_well)
            self._mark.close(remove=ended_well)
            if ended_well:
                self._witness.remove()
            else:
                self._witness.close()
            self._room.close()
            self._env.close()
            os.close(self._lock)
