"""Named consumers, of the collection `events`: the log keeps for them what they have not acknowledged."""

from __future__ import annotations

import errno
from typing import Any, Final

from fusestore.control.events import why_lost
from fusestore.control.methods import Arguments, Call, Method, Number, Role
from fusestore.errors import ControlError, NoConsumer


class Named(Arguments):
    """One consumer."""

    consumer: str


class Registered(Named):
    """A name, and the last event that is of no interest; without one, those from now on are."""

    since: Number | None = None


class Acknowledged(Named):
    """The last event that was handled, and all before it with it."""

    seq: Number
    epoch: Number


class Awaited(Named):
    """The event that is to be handled; without one, all up to now."""

    seq: Number | None = None


def list_consumers(call: Call, _: Arguments) -> list[dict[str, Any]]:
    """Who has a name, and how far each is."""
    return call.queries.consumers()


def register(call: Call, what: Registered) -> dict[str, Any]:
    """Have the log keep for a watcher of this name what it has not acknowledged; one that there is stays as it is."""
    since = call.queries.last_seq if what.since is None else what.since
    try:
        call.queries.consumer(what.consumer)
    except NoConsumer:
        _must_reach(call, since, call.queries.epoch if what.since is None else None)
    registered = call.queries.register_consumer(what.consumer, since)
    return {"registered": registered, **call.queries.consumer(what.consumer)}


def acknowledge(call: Call, what: Acknowledged) -> dict[str, Any]:
    """Everything up to this event is handled; an earlier one than the last changes nothing."""
    known = call.queries.consumer(what.consumer)
    if (what.epoch, what.seq) > (known["epoch"], known["seq"]):
        _must_reach(call, what.seq, what.epoch)
    return call.queries.acknowledge(what.consumer, what.seq, what.epoch)


def forget(call: Call, what: Named) -> dict[str, bool]:
    """Keep nothing for a consumer any more; says whether there was one of that name."""
    return {"forgotten": call.queries.forget_consumer(what.consumer)}


async def acknowledged(call: Call, what: Awaited) -> dict[str, Any]:
    """Answers when a consumer has acknowledged an event."""
    seq = call.queries.last_seq if what.seq is None else what.seq
    return await call.queries.acknowledged(what.consumer, seq, call.report)


def _must_reach(call: Call, seq: int, epoch: int | None) -> None:
    """Raises: ControlError: it is no event that anybody can have seen, or the next one is gone."""
    if reason := why_lost(call.queries, seq, epoch):
        hint = f"begin at {call.queries.last_seq}, after a look at what there is"
        raise ControlError("lost", f"event {seq} cannot be gone on from: {reason}", hint, errno=errno.EINVAL)


METHODS: Final = {
    "consumers": Method(list_consumers),
    "register": Method(register, Registered, Role.OPERATOR),
    "ack": Method(acknowledge, Acknowledged, Role.OPERATOR),
    "forget": Method(forget, Named, Role.OPERATOR),
    "acknowledged": Method(acknowledged, Awaited),
}
