"""What is still known of an object that is gone: its history, found by its id or by the path that it had.

The history itself is kept for ever by id; a path leads to the id as long as the event of its removal is in the feed.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any, Final

import trio

from fusestore.model import Operation
from fusestore.service import describing
from fusestore.service.explaining import Fact, moment, told

if TYPE_CHECKING:
    from fusestore.model import Event, JournalEntry
    from fusestore.service.store import Store

PAGE: Final = 500  # events looked at in one go, a few milliseconds
LINES: Final = 5  # of history that are shown, the newest
LOOKED_AT: Final = 100_000  # the newest events, among which the removal of a path is searched


def by_id(store: Store, text: str) -> list[JournalEntry]:
    """The history of the object with this full id; empty if there is none."""
    try:
        return store.index.journal(uuid.UUID(text).bytes)
    except ValueError:
        return []


async def explain(store: Store, what: str) -> dict[str, Any] | None:
    """What became of an object that is gone from this id or path; None if nothing is known of it."""
    event, entries = None, by_id(store, what)
    if not entries:
        event = await last_at(store, what)
        if event is None:
            return None
        entries = store.index.journal(event.id)
    if event is None:
        facts = [Fact("removed", f"it is gone; the last of it: {_line(entries[-1])}")]
    else:
        how = f"renamed to {describing.text(event.path)}" if event.operation is Operation.MOVE else event.kind
        facts = [Fact(event.kind, f"it was {how}, {_when(event.time_ns, event.uid)}")]
    facts += [Fact("history", _line(entry)) for entry in entries[: -LINES - 1 : -1]]
    id = describing.id_text(event.id) if event is not None else str(uuid.UUID(what))
    return {"id": id, **told(what, facts), "history": [describing.history(entry) for entry in entries]}


def _when(time_ns: int, uid: int) -> str:
    return moment(time_ns) + (f" by uid {uid}" if uid >= 0 else "")


def _line(entry: JournalEntry) -> str:
    """One line of history as a phrase."""
    places = " → ".join(describing.text(place) for place in (entry.old, entry.new) if place)
    outcome = f" ({entry.outcome})" if entry.outcome != "done" else ""
    return f"{entry.command} {places}{outcome}, {_when(entry.time_ns, entry.uid)}"


async def last_at(store: Store, path: str) -> Event | None:
    """The event that took the last object away from `path`, if it is among the newest."""
    wanted = os.fsencode(path)
    above = store.index.last_seq
    lowest = max(store.index.first_seq, above - LOOKED_AT) - 1
    while above > lowest:
        since = max(above - PAGE, lowest)
        for event in reversed(store.index.events(since, above - since)):
            was_here = {Operation.REMOVE: event.path, Operation.MOVE: event.old_path}.get(event.operation)
            if was_here == wanted:
                return event
        above = since
        await trio.lowlevel.checkpoint()
    return None
