"""The collection `moves`: bytes on their way between roots."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from fusestore.control.files import one_of
from fusestore.control.methods import Arguments, Call, Method
from fusestore.errors import ControlError

LIST_MAX: Final = 10_000

Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Which(Arguments, forbid_unknown_fields=True):
    """`all` includes those that are over; with `before` only those begun before that one."""

    all: bool = False
    before: Number | None = None
    limit: Annotated[int, Meta(ge=0, le=LIST_MAX)] = 1000


class WaitFor(Arguments, forbid_unknown_fields=True):
    """A path, an id or a move's number; without any, everything."""

    path: str | None = None
    id: str | None = None
    move: Number | None = None


def list_moves(call: Call, which: Which) -> list[dict[str, Any]]:
    """A page of moves with their progress, newest first."""
    return call.queries.moves(all=which.all, before=which.before, limit=which.limit)


async def wait(call: Call, what: WaitFor) -> dict[str, Any]:
    """Answers when the moves are over, or wait for somebody, and the content is finalized."""
    named = one_of(what.path, what.id)
    if named is not None and what.move is not None:
        raise ControlError("bad_data", "data: give a move or a path, not both")
    return await call.queries.wait(named if what.move is None else what.move, call.report)


METHODS: Final = {"list": Method(list_moves, Which), "wait": Method(wait, WaitFor)}
