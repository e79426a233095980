"""Who gets a place among the connections, so that a crowd locks nobody out.

    everybody                  PLACES
    all below operator         PLACES - KEPT, so that operators and admins find one
    each user below operator   EACH, so that the others do

Where none is left, one of those in the way makes room that has been idle the longest, and has no higher role.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from fusestore.control.methods import Role
from fusestore.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Collection

PLACES: Final = 512
KEPT: Final = 64
EACH: Final = 128
LISTENING: Final = PLACES - KEPT  # at most so many listen, of whatever role: the others can make room
IDLE_S: Final = 10.0


class Guest(Protocol):
    """Somebody who has a place."""

    @property
    def uid(self) -> int: ...
    @property
    def role(self) -> Role: ...
    @property
    def idle_since(self) -> float | None: ...  # None: it listens, or has asked for something


_AnyGuest = TypeVar("_AnyGuest", bound=Guest)


def make_room(present: Collection[_AnyGuest], uid: int, role: Role, now: float) -> _AnyGuest | None:
    """Who has to go before one more comes; None if nobody has to.

    Raises:
        ControlError: none of those in the way can be sent away.
    """
    in_the_way = _in_the_way(present, uid, role)
    if not in_the_way:
        return None
    idle = [
        (guest.role, guest.idle_since, guest)
        for guest in in_the_way
        if guest.role <= role and guest.idle_since is not None and guest.idle_since <= now - IDLE_S
    ]
    if not idle:
        text = f"{len(in_the_way)} connections are open already, and none of them can make room"
        raise ControlError("too_many", text, "close some")
    return min(idle, key=lambda each: each[:2])[2]


def _in_the_way(present: Collection[_AnyGuest], uid: int, role: Role) -> list[_AnyGuest]:
    if role < Role.OPERATOR:
        own = [guest for guest in present if guest.uid == uid]
        if len(own) >= EACH:
            return own
        low = [guest for guest in present if guest.role < Role.OPERATOR]
        if len(low) >= PLACES - KEPT:
            return low
    return list(present) if len(present) >= PLACES else []
