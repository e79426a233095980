"""Moves that are held up, and when each is tried again.

What passes by itself is tried every second, what needs somebody's help ever more rarely. One that lacks room is tried
when its root has that much room, which is looked at every second and costs one call a root, however many wait; and now
and then all the same, because a disk may take less, or more, than it says.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.core.moves import PASSING
from fusestore.errors import RootOffline
from fusestore.service import room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.jobs.held import Held
    from fusestore.model import MoveNo, RootNo
    from fusestore.service.store import Store

RETRY_S: Final = 1.0
LONGEST_S: Final = 8.0  # between two attempts of what needs somebody's help
LONGEST_WITHOUT_ROOM_S: Final = 60.0
LOOK_S: Final = 1.0  # between two looks at how much room there is


class _Hold(NamedTuple):
    until: float
    order: int  # of being held: what was held first is tried first
    move: MoveNo


class _Need(NamedTuple):
    bytes: int
    hold: _Hold


class Waiting:
    """The moves that are held up."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[MoveNo, _Hold] = {}
        self._times: list[_Hold] = []  # a heap; what is not in `_held` any more is passed over
        self._needs: dict[tuple[RootNo, bool], list[_Need]] = {}  # heaps, the same way, by root and being promised room
        self._pauses_s: dict[MoveNo, float] = {}  # the last pauses of moves that do not pass by themselves
        self._order = 0
        self._look = math.inf

    def hold(self, move: MoveNo, now: float, held: Held | None) -> None:
        """Have a move tried again; `held`: what it waits for, if it is known."""
        short = held.shortage if held is not None else None
        pause_s = RETRY_S
        if held is None or held.reason in PASSING:
            self._pauses_s.pop(move, None)
        else:
            longest_s = LONGEST_S if short is None else LONGEST_WITHOUT_ROOM_S
            pause_s = self._pauses_s[move] = min(2 * self._pauses_s.get(move, RETRY_S / 2), longest_s)
        self._order += 1
        hold = self._held[move] = _Hold(now + pause_s, self._order, move)
        heapq.heappush(self._times, hold)
        if short is not None:
            heapq.heappush(self._needs.setdefault((short.root, short.promised), []), _Need(short.bytes, hold))
            self._look = min(self._look, now + LOOK_S)

    def forget(self, move: MoveNo) -> None:
        """A move is over."""
        self._pauses_s.pop(move, None)

    def take(self, move: MoveNo) -> list[MoveNo]:
        """The move, if it is held up."""
        return [move] if self._held.pop(move, None) is not None else []

    def take_all(self) -> list[MoveNo]:
        moves = list(self._held)
        self._held.clear()
        return moves

    def take_due(self, now: float) -> list[MoveNo]:
        """The moves whose time has come, or that can have the room they need."""
        moves = []
        while self._times and (self._times[0].until <= now or not self._is_held(self._times[0])):
            hold = heapq.heappop(self._times)
            if self._is_held(hold):
                moves += self.take(hold.move)
        if self._look <= now:
            for root, promised in list(self._needs):
                moves += self._take_fitting(root, promised)
            self._look = now + LOOK_S if self._needs else math.inf
        return moves

    def next_look(self) -> float:
        """When to ask for `take_due` again."""
        return min(self._look, self._times[0].until if self._times else math.inf)

    def _take_fitting(self, root: RootNo, promised: bool) -> Iterator[MoveNo]:
        """The moves that fit into the room that a root has now, all together, those that need least first."""
        needs = self._needs[root, promised]
        try:
            left = room.free(self._store, self._store.roots[root], promised=promised)
        except (OSError, RootOffline):
            left = -1
        while needs and (needs[0].bytes <= left or not self._is_held(needs[0].hold)):
            need = heapq.heappop(needs)
            if self._is_held(need.hold):
                left -= need.bytes
                yield from self.take(need.hold.move)
        if not needs:
            del self._needs[root, promised]

    def _is_held(self, hold: _Hold) -> bool:
        return self._held.get(hold.move) is hold
