"""Who of those that wait for a place is next: so many have one at a time, and so many of each pair of roots.

A pair whose places are all taken is passed over, so that roots that are slow, or hang, hold up only what goes between
them; among the others pairs take turns, and within a pair it is first come, first served.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusestore.model import MoveNo

Pair = tuple[str, str]  # names of the roots that a move leaves and goes to


class Lane:
    """Places for moves, and the moves that wait for one.

    Args:
        places: at most so many moves have one.
        per_pair: at most so many of those between the same two roots.
    """

    def __init__(self, places: int, per_pair: int) -> None:
        self._places = places
        self._per_pair = per_pair
        self._queues: OrderedDict[Pair, deque[MoveNo]] = OrderedDict()  # none is empty; the pair next in turn first
        self._inside: dict[MoveNo, Pair] = {}
        self._busy: Counter[Pair] = Counter()

    def resize(self, places: int, per_pair: int) -> None:
        """Have so many places from now on; who has one keeps it."""
        self._places, self._per_pair = places, per_pair

    def put(self, move: MoveNo, pair: Pair) -> None:
        """A move waits for a place, behind those of its pair that do already."""
        self._queues.setdefault(pair, deque()).append(move)

    def enter(self) -> MoveNo | None:
        """Give the next move a place; None if nobody waits who could have one."""
        if len(self._inside) >= self._places:
            return None
        pair = next((each for each in self._queues if self._busy[each] < self._per_pair), None)
        if pair is None:
            return None
        queue = self._queues.pop(pair)
        move = queue.popleft()
        if queue:
            self._queues[pair] = queue
        self._inside[move] = pair
        self._busy[pair] += 1
        return move

    def leave(self, move: MoveNo) -> None:
        """A move gives its place up."""
        self._busy[self._inside.pop(move)] -= 1
