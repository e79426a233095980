"""What is asked of a store from the outside: by the control socket, and through it by the command line."""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING, Any

import trio

from fusestore.core.moves import OPEN, PASSING
from fusestore.errors import InvalidRequest, NotFound
from fusestore.model import MOUNT_ROOT, InodeNo, JournalEntry, MoveNo, MoveState
from fusestore.service import describing, looking, verifying

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from fusestore.model import Event, Move
    from fusestore.service.store import Store
    from fusestore.service.verifying import Report

POLL_S = 0.1  # between two looks at how far moves are; what is waited for is state, not an edge
ID_PREFIX_DIGITS = 8
TROUBLE_SHOWN = 5


class Queries:
    """Answers questions about one store.

    Args:
        running: moves being worked on, with live counts.
        settled: returns when no finished content waits to be made durable and hashed.
        stop: ends the daemon.
    """

    def __init__(
        self,
        store: Store,
        mountpoint: Path,
        running: Mapping[MoveNo, Move],
        settled: Callable[[], Awaitable[None]],
        stop: Callable[[], None],
    ) -> None:
        self._store = store
        self._mountpoint = mountpoint
        self._running = running
        self._settled = settled
        self._started = time.monotonic()
        self._news = trio.Event()
        self.shutdown = stop
        store.index.on_events = self._on_events

    # -- the event feed ---------------------------------------------------------------------------------------------

    @property
    def first_seq(self) -> int:
        return self._store.index.first_seq

    @property
    def last_seq(self) -> int:
        return self._store.index.last_seq

    @property
    def epoch(self) -> int:
        return self._store.index.epoch

    def events(self, since: int, limit: int) -> list[dict[str, Any]]:
        """The events after `since`, in order."""
        return [describing.event(event) for event in self._store.index.events(since, limit)]

    async def changed(self, seq: int) -> None:
        """Return once there is an event after `seq`."""
        while self.last_seq <= seq:
            await self._news.wait()

    def _on_events(self, events: list[Event]) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    # -- one object -------------------------------------------------------------------------------------------------

    def find(self, what: str) -> InodeNo:
        """The inode of a path relative to the mount, or of an id or a unique prefix of one.

        Raises:
            NotFound; InvalidRequest: the prefix is not unique.
        """
        number = self._by_id(what)
        if number is not None:
            return number
        number = MOUNT_ROOT
        for name in os.fsencode(what).split(b"/"):
            if name not in (b"", b"."):
                try:
                    number = looking.lookup(self._store, number, name).inode.number
                except NotFound:
                    raise NotFound(what) from None
        return number

    def _by_id(self, what: str) -> InodeNo | None:
        digits = what.replace("-", "")
        if not ID_PREFIX_DIGITS <= len(digits) <= 32:
            return None
        try:
            start = bytes.fromhex(digits.ljust(32, "0"))
        except ValueError:
            return None
        found = self._store.index.ids_from(start, 2)  # a second one that fits is one too many
        matches = [number for id, number in found if id.hex().startswith(digits.lower())]
        if len(matches) > 1:
            raise InvalidRequest(f"{what} is the beginning of several ids; give more digits")
        return matches[0] if matches else None

    def record(self, inode: InodeNo) -> dict[str, Any]:
        """What the index knows of an object."""
        return describing.record(self._store, self._store.inode(inode))

    def locations(self, inode: InodeNo) -> list[dict[str, Any]]:
        """Every place where the object's bytes are."""
        store = self._store
        record = store.inode(inode)
        spots = store.disk_spots(record, (*store.placement.spots(inode), *store.index.skeletons(inode)))
        return [describing.location(store, record, spot) for spot in spots]

    def history(self, what: str) -> list[dict[str, Any]]:
        """Everything that happened to an object, oldest first; a removed one is known by its full id."""
        try:
            inode = self._store.inode(self.find(what))
        except NotFound:
            try:
                entries = self._store.index.journal(uuid.UUID(what).bytes)
            except ValueError:
                entries = []
            if not entries:
                raise
            return [describing.history(entry) for entry in entries]
        created = JournalEntry(time_ns=inode.created_ns, command="create", outcome="done", version=1)
        return [describing.history(entry) for entry in (created, *self._store.index.journal(inode.id))]

    # -- the whole --------------------------------------------------------------------------------------------------

    def moves(self, *, all: bool, before: int | None, limit: int) -> list[dict[str, Any]]:
        """A page of moves, newest first: of the open ones, or of all that ever were."""
        number = MoveNo(before) if before is not None else None
        moves = self._store.index.moves_before(number, limit, open_only=not all)
        return [describing.move(self._live(move)) for move in moves]

    def _live(self, move: Move) -> Move:
        """With the counts of now, while it is worked on."""
        return self._running.get(move.number, move) if move.state in OPEN else move

    def status(self) -> dict[str, Any]:
        """Roots, room, moves, the index, and whether an operator is needed."""
        store = self._store
        roots = [describing.root(store, driver) for driver in store.roots.values()]
        moves = store.index.moves(open_only=True)
        states = [move.state for move in moves]
        trouble = [f"root {root['name']} is offline" for root in roots if root["state"] == "offline"]
        trouble += [f"move {move.number} waits: {move.reason}" for move in moves if _needs_help(move)]
        return {
            "store": os.fspath(store.config.store),
            "mountpoint": os.fspath(self._mountpoint),
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started, 3),
            "health": "; ".join(trouble[:TROUBLE_SHOWN]) or "ok",
            "roots": roots,
            "moves": {
                state.value: states.count(state) for state in (MoveState.QUEUED, MoveState.RUNNING, MoveState.WAITING)
            },
            "open_files": len(store.files),
            "index": {
                "inodes": store.index.counts()["inodes"],
                "events": self.last_seq - self.first_seq + 1,
                "size_bytes": store.index.size_bytes,
                "epoch": self.epoch,
                "last_seq": self.last_seq,
            },
        }

    async def wait(self, what: str | int | None, report: Report) -> dict[str, Any]:
        """Wait until moves are over, with no copy of theirs left behind, and finished contents are hashed.

        Args:
            what: a path, an id, the number of a move, or None for all.

        Returns:
            `moves`: those waited for, as they ended; a move that waits for an operator ends the wait.

        Raises:
            NotFound
        """
        moves = {move.number: move for move in self._moves_of(what)}
        going_on = set(moves)
        while True:
            await self._settled()
            for number in going_on:
                move = self._store.index.move(number) or moves[number]
                moves[number] = self._live(move)
            going_on = {each for each in going_on if each in self._running or moves[each].state in OPEN}
            report(
                sum(move.bytes_done for move in moves.values()),
                sum(move.bytes_total for move in moves.values()),
                "bytes",
            )
            if not any(number in self._running or _goes_on(moves[number]) for number in going_on):
                return {"moves": [describing.move(move) for move in moves.values()]}
            await trio.sleep(POLL_S)

    def _moves_of(self, what: str | int | None) -> list[Move]:
        """The moves that concern something: open ones, and those overtaken that a worker has still in hand."""
        index = self._store.index
        if isinstance(what, int):
            move = index.move(MoveNo(what))
            if move is None:
                raise NotFound(f"move {what}")
            return [move]
        open_moves = {move.number: move for move in index.moves(open_only=True)}
        moves = [move for _, move in sorted({**self._running, **open_moves}.items())]
        if what is None:
            return moves
        top = self.find(what)
        return [move for move in moves if self._is_within(move.inode, top) or self._is_within(top, move.inode)]

    def _is_within(self, number: InodeNo, top: InodeNo) -> bool:
        while number != top:
            names = self._store.index.parents(number)
            if not names:
                return False
            number = names[0][0]
        return True

    async def verify(self, what: str | None, root: str | None, report: Report) -> dict[str, Any]:
        """Read bytes again and compare them with their hashes.

        Raises:
            NotFound: the path, or the root.
        """
        if root is not None and root not in (driver.name for driver in self._store.roots.values()):
            raise NotFound(f"root {root}")
        top = self.find(what) if what is not None else MOUNT_ROOT
        return await verifying.verify(self._store, top, root, report)


def _goes_on(move: Move) -> bool:
    """Whether a move will end by itself."""
    return move.state in OPEN and not _needs_help(move)


def _needs_help(move: Move) -> bool:
    """Whether a move waits for something that does not pass by itself."""
    return move.state is MoveState.WAITING and move.reason not in PASSING
