"""Further copies of a file: which is read, and where another one goes.

    place ──── the copy that writes go to; it moves between roots, and is the content whatever else there is
    replica ── a verified copy in the id area of another root:  wanted ─► current ─► stale or bad ─► current …

A root holds a file's place or a replica of it, never both; one may be wanted where a place is that is about to leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from fusestore.model import RootNo


class Candidate(NamedTuple):
    """A root that could take a copy."""

    root: RootNo
    device: int
    available: int  # bytes


def in_order(roots: Iterable[RootNo], preference: Sequence[RootNo]) -> list[RootNo]:
    """The roots in the order of preference; those that it does not name stay in their order behind them."""
    rank = {root: position for position, root in enumerate(preference)}
    return sorted(roots, key=lambda root: rank.get(root, len(rank)))


def choose(candidates: Iterable[Candidate], devices: AbstractSet[int], size: int) -> RootNo | None:
    """The root for one more copy of `size` bytes: a device that holds none yet comes first, then the most room.

    Args:
        devices: those that hold a copy already: what ends one of them ends all on it.
    """
    fitting = [each for each in candidates if each.available >= size]
    best = max(fitting, key=lambda each: (each.device not in devices, each.available), default=None)
    return best.root if best is not None else None
