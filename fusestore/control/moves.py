"""The collection `moves`: bytes on their way between roots."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from fusestore.control.files import one_of
from fusestore.control.methods import Arguments, Call, Method, Number, Role
from fusestore.errors import ControlError

LIST_MAX: Final = 1000


class Which(Arguments):
    """`all` includes those that are over; with `before` only those begun before that one."""

    all: bool = False
    before: Number | None = None
    limit: Annotated[int, Meta(ge=0, le=LIST_MAX)] = 1000


class WhatMove(Arguments):
    """One move: its number, or the path or id of the object that is on its way; none to wait for all."""

    move: Number | None = None
    path: str | None = None
    id: str | None = None


class WhatMoves(WhatMove):
    """One move, or with `all` every one for which it makes sense."""

    all: bool = False


def list_moves(call: Call, which: Which) -> list[dict[str, Any]]:
    """A page of moves with their progress, newest first."""
    return call.queries.moves(all=which.all, before=which.before, limit=which.limit)


def _chosen(what: WhatMove) -> str | int | None:
    named = one_of(what.path, what.id)
    if named is not None and what.move is not None:
        raise ControlError("bad_data", "data: give a move or a path, not both")
    return named if what.move is None else what.move


def _one(what: WhatMove) -> str | int:
    chosen = _chosen(what)
    if chosen is None:
        raise ControlError("bad_data", "data: move, path or id is missing", '{"move": 3}')
    return chosen


def get(call: Call, what: WhatMove) -> dict[str, Any]:
    """A move with its progress; of an object at rest, the last it had."""
    return call.queries.move(_one(what))


async def _steer(call: Call, verb: str, what: WhatMoves) -> dict[str, Any]:
    chosen = _chosen(what)
    if (chosen is None) != what.all:
        raise ControlError("bad_data", "data: give a move, a path or an id, or all", '{"move": 3} or {"all": true}')
    return {"moves": await call.queries.steer(verb, chosen, call.peer)}


async def pause(call: Call, what: WhatMoves) -> dict[str, Any]:
    """Stop at the next safe point, until resumed; restarts do not matter."""
    return await _steer(call, "pause", what)


async def resume(call: Call, what: WhatMoves) -> dict[str, Any]:
    """Let what is paused go on."""
    return await _steer(call, "resume", what)


async def retry(call: Call, what: WhatMoves) -> dict[str, Any]:
    """Try what waits now."""
    return await _steer(call, "retry", what)


async def cancel(call: Call, what: WhatMove) -> dict[str, Any]:
    """Give the object its old name back; what had arrived goes home again."""
    return await call.queries.cancel(_one(what), call.peer)


async def wait(call: Call, what: WhatMove) -> dict[str, Any]:
    """Answers when the moves are over, or wait for somebody, and the content is finalized."""
    return await call.queries.wait(_chosen(what), call.report)


METHODS: Final = {
    "list": Method(list_moves, Which),
    "get": Method(get, WhatMove),
    "pause": Method(pause, WhatMoves, Role.OPERATOR),
    "resume": Method(resume, WhatMoves, Role.OPERATOR),
    "retry": Method(retry, WhatMoves, Role.OPERATOR),
    "cancel": Method(cancel, WhatMove, Role.OPERATOR),
    "wait": Method(wait, WhatMove),
}
