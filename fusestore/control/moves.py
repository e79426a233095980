"""The collection `moves`: bytes on their way between roots."""

from __future__ import annotations

from typing import Any, Final

from fusestore.control.files import one_of
from fusestore.control.methods import Arguments, Call, Method
from fusestore.errors import ControlError


class Which(Arguments, forbid_unknown_fields=True):
    """`all` includes those that are over."""

    all: bool = False


class WaitFor(Arguments, forbid_unknown_fields=True):
    """A path, an id or a move's number; without any, everything."""

    path: str | None = None
    id: str | None = None
    move: int | None = None


def list_moves(call: Call, which: Which) -> list[dict[str, Any]]:
    """Moves with their progress, by number."""
    return call.queries.moves(all=which.all)


async def wait(call: Call, what: WaitFor) -> dict[str, Any]:
    """Answers when the moves are over, or wait for somebody, and the content is finalized."""
    named = one_of(what.path, what.id)
    if named is not None and what.move is not None:
        raise ControlError("bad_data", "data: give a move or a path, not both")
    return await call.queries.wait(named if what.move is None else what.move, call.report)


METHODS: Final = {"list": Method(list_moves, Which), "wait": Method(wait, WaitFor)}
