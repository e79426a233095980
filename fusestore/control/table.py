"""Every collection and its methods: the one table that requests are looked up in and `dispatcher.describe` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fusestore.control import (
    consumers,
    contents,
    copies,
    dispatcher,
    events,
    files,
    jobs,
    known,
    moves,
    reservations,
    roots,
    scrub,
    trash,
)

if TYPE_CHECKING:
    from fusestore.control.methods import Table

COLLECTIONS: Final[Table] = {
    "dispatcher": dispatcher.METHODS,
    "files": {**files.METHODS, **copies.METHODS, **contents.METHODS, **reservations.METHODS},
    "roots": roots.METHODS,
    "moves": moves.METHODS,
    "scrub": scrub.METHODS,
    "trash": trash.METHODS,
    "events": {**events.METHODS, **known.METHODS, **consumers.METHODS},
    "jobs": jobs.METHODS,
}
