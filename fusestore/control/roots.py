"""The collection `roots`: the storage places, emptying one, and what an operator says of one that is doubted."""

from __future__ import annotations

from typing import Any, Final

from fusestore.control.methods import Arguments, Call, Method, Role


class PlanWhat(Arguments):
    """The root that would be emptied, and those that may take what is on it."""

    root: str
    to: tuple[str, ...] = ()


class DrainWhat(PlanWhat):
    """The same; with `wait` the answer comes when it is empty; with `release` then, too, and its disk is let go of."""

    wait: bool = False
    release: bool = False


class Which(Arguments):
    """A root by its name."""

    root: str


def list_roots(call: Call, _: Arguments) -> list[dict[str, Any]]:
    """Every root: path, layout, who else touches it, state and space."""
    return call.queries.roots()


async def accept(call: Call, which: Which) -> dict[str, Any]:
    """Puts a doubted root online; what is missing on it counts as removed."""
    return await call.queries.accept_root(which.root, call.report)


async def retry(call: Call, which: Which) -> dict[str, Any]:
    """Looks through a doubted root, and puts it online if nothing is missing."""
    return await call.queries.retry_root(which.root, call.report)


async def drain(call: Call, what: DrainWhat) -> dict[str, Any]:
    """Empty a root, so that its disk can be pulled."""
    begun = call.queries.drain(what.root, list(what.to), call.peer)
    state = await call.queries.drained(what.root, call.report) if what.wait or what.release else None
    if what.release and state is not None and state["state"] == "drained":
        state = await call.queries.release(what.root, call.peer)
    return {"begun": begun, "drain": state}


async def plan(call: Call, what: PlanWhat) -> dict[str, Any]:
    """What `drain` would do as things are now; changes nothing."""
    return await call.queries.plan_drain(what.root, list(what.to))


def stop(call: Call, which: Which) -> dict[str, Any]:
    """Make it an ordinary root again; what has left it stays where it is."""
    return {"stopped": call.queries.stop_draining(which.root, call.peer)}


METHODS: Final = {
    "list": Method(list_roots),
    "accept": Method(accept, Which, Role.OPERATOR),
    "retry": Method(retry, Which, Role.OPERATOR),
    "drain": Method(drain, DrainWhat, Role.OPERATOR),
    "plan_drain": Method(plan, PlanWhat, Role.OPERATOR),
    "stop_drain": Method(stop, Which, Role.OPERATOR),
}
