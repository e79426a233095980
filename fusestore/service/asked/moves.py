"""Moves, and roots that are doubted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusestore.model import MOUNT_ROOT, MoveNo, MoveState
from fusestore.service import awaiting, cancelling, copies, describing, moving, steering, surveying
from fusestore.service.asked.names import Names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fusestore.model import Move, Owner
    from fusestore.service.verifying import Report


class Moves(Names):
    """What is asked about moves."""

    _running: Mapping[MoveNo, Move]
    _settled: Callable[[], Awaitable[None]]

    def moves(self, *, all: bool, before: int | None, limit: int) -> list[dict[str, Any]]:
        """A page of moves, newest first: of the open ones, or of all that ever were."""
        number = MoveNo(before) if before is not None else None
        moves = self._store.index.moves_before(number, limit, open_only=not all)
        return [describing.move(self._store, moving.current(self._store, move)) for move in moves]

    def progress(self) -> list[dict[str, Any]]:
        """The moves whose bytes flow now."""
        running = (self._store.index.move(number) for number in self._running)
        return [
            describing.move(self._store, moving.current(self._store, move))
            for move in running
            if move is not None and move.state is MoveState.RUNNING
        ]

    def move(self, what: str | int) -> dict[str, Any]:
        """One move: of this number, or the one that an object is on its way with, or was last."""
        store = self._store
        move = steering.numbered(store, what) if isinstance(what, int) else steering.latest_of(store, self.find(what))
        return describing.move(store, moving.current(store, move))

    async def steer(self, verb: str, what: str | int | None, owner: Owner) -> list[dict[str, Any]]:
        """Do one of `steering.VERBS` to a move, or to all for which it makes sense; returns those."""
        if what is None:
            return [self.move(number) for number in await steering.steer_all(self._store, verb, owner)]
        move = self._chosen(what)
        _, do = steering.VERBS[verb]
        do(self._store, move, owner)
        return [self.move(move.number)]

    async def cancel(self, what: str | int, owner: Owner) -> dict[str, Any]:
        """Take a move back; see `cancelling.cancel`."""
        move = self._chosen(what)
        await cancelling.cancel(self._store, move, owner)
        return self.move(move.number)

    def _chosen(self, what: str | int) -> Move:
        store = self._store
        return steering.numbered(store, what) if isinstance(what, int) else steering.move_of(store, self.find(what))

    async def wait(self, what: str | int | None, report: Report) -> dict[str, Any]:
        """Wait until moves are over, with no copy of theirs left behind, and finished contents are hashed.

        Args:
            what: a path, an id, the number of a move, or None for all.

        Returns:
            `moves`: those waited for, as they ended; a move that waits for an operator ends the wait. `replicas`: those
            that are not made, because they are held up.

        Raises:
            NotFound
        """
        store = self._store
        if isinstance(what, int):
            moves = [steering.numbered(store, what)]
        else:
            moves = awaiting.concerned(store, self._running, self.find(what) if what is not None else None)
        ended = await awaiting.over(store, self._running, moves, self._settled, report)
        held = []
        if not isinstance(what, int):
            held = await copies.made(store, self.find(what) if what else MOUNT_ROOT, None, report)
        return {"moves": [describing.move(store, move) for move in ended], "replicas": held}

    async def accept_root(self, root: str, report: Report) -> dict[str, Any]:
        """Take what is missing on a doubted root for removed; see `surveying.accept`."""
        return await surveying.accept(self._store, root, report)

    async def retry_root(self, root: str, report: Report) -> dict[str, Any]:
        """Look through a doubted root again; see `surveying.retry`."""
        return await surveying.retry(self._store, root, report)
