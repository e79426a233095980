"""Every collection and its methods: the one table that requests are looked up in and `dispatcher.describe` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fusestore.control import dispatcher, events, files, moves, roots

if TYPE_CHECKING:
    from fusestore.control.methods import Table

COLLECTIONS: Final[Table] = {
    "dispatcher": dispatcher.METHODS,
    "files": files.METHODS,
    "roots": roots.METHODS,
    "moves": moves.METHODS,
    "events": events.METHODS,
}
