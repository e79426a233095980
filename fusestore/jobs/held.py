"""Trouble with one object on its way, as a value: what holds it up, in one phrase for an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from fusestore.core.moves import CHANGED, NO_ROOM
from fusestore.errors import FusestoreError, NotFound, UselessCopy
from fusestore.service import room, trash

if TYPE_CHECKING:
    from fusestore.model import InodeNo
    from fusestore.service.room import Copying, Shortage
    from fusestore.service.store import Store

log = structlog.get_logger()


class Held(NamedTuple):
    """Why an object did not arrive; tried again later."""

    number: InodeNo
    reason: str
    shortage: Shortage | None = None  # of room, where that is why


def held_by(store: Store, number: InodeNo, error: OSError | FusestoreError, copying: Copying | None = None) -> Held:
    """What holds an object up that met trouble: one phrase for an operator, and the room that is missing.

    Args:
        copying: what its copy had reserved, if it got so far.
    """
    log.debug("an object met trouble", inode=number, exc_info=error)
    reason = reason_of(error)
    home = store.placement.home(number)
    if reason != NO_ROOM or home is None:
        return Held(number, reason)
    try:
        shortage = room.refused(store, store.roots[home], copying)
    except (OSError, FusestoreError):
        return Held(number, reason)
    return Held(number, shortage.reason, shortage)


def reason_of(error: OSError | FusestoreError) -> str:
    """One phrase for an operator."""
    if isinstance(error, UselessCopy):
        return str(error.args[0])
    if isinstance(error, NotFound | FileNotFoundError):
        return CHANGED  # somebody took it away under our hands
    if isinstance(error, OSError):
        return NO_ROOM if error.errno in trash.NO_ROOM else f"{error.strerror or error}"
    return str(error)
