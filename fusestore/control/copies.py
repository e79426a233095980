"""The methods of `files` that add a copy of an object and give one up; see `control.files` for the others.

`replicate` and `drop` are what the command line calls; `copy` and `remove` take the words of NSLS-II's proposal.
"""

from __future__ import annotations

from typing import Any, Final

from fusestore.control.files import What, required
from fusestore.control.methods import Call, Method, Role
from fusestore.errors import ControlError


class ReplicateWhat(What, kw_only=True):
    """An object, and the root that gets a copy; with `wait` the answer comes when it is made."""

    root: str
    wait: bool = False


class DropWhat(What, kw_only=True):
    """An object, and the root whose copy goes."""

    root: str
    force_last: bool = False


class CopyWhat(What, kw_only=True):
    """A resource, the root that gets a copy, and the one whose copy is read if there are several."""

    new_root: str
    resource_id: str | None = None
    old_root: str | None = None


class RemoveWhat(What, kw_only=True):
    """A resource, and the root whose copy goes."""

    old_root: str
    resource_id: str | None = None
    force_last: bool = False


async def replicate(call: Call, what: ReplicateWhat) -> dict[str, Any]:
    """Have a verified copy of a file, or of every file below a directory, made on another root."""
    named = required(what)
    files = await call.queries.lacking(named, what.root)  # before the first of them is copied
    wanted = call.queries.replicate(named, what.root, None, call.peer)
    held = await call.queries.replicas_made(named, what.root, call.report) if what.wait else []
    return {"wanted": wanted, "files": files, "held": held}


async def drop(call: Call, what: DropWhat) -> dict[str, Any]:
    """Give up the copy on a root; the last good one only by force."""
    named = required(what)
    return await call.queries.drop(named, what.root, force_last=what.force_last, owner=call.peer, report=call.report)


def copy(call: Call, what: CopyWhat) -> dict[str, Any]:
    """`copy_resource`: the same as `replicate`; answers when it is recorded."""
    wanted = call.queries.replicate(_resource(what), what.new_root, what.old_root, call.peer)
    return {"wanted": wanted}


async def remove(call: Call, what: RemoveWhat) -> dict[str, Any]:
    """`remove_resource`: the same as `drop`; `removed` says whether anything went."""
    done = await call.queries.drop(
        _resource(what), what.old_root, force_last=what.force_last, owner=call.peer, report=call.report
    )
    return {**done, "removed": bool(done["dropped"] or done["removed"])}


def _resource(what: CopyWhat | RemoveWhat) -> str:
    """The object that is meant; a resource's id may be any object's."""
    if what.resource_id is not None and (what.path is not None or what.id is not None):
        raise ControlError("bad_data", "data: give resource_id, path or id, not several")
    return required(What(what.path, what.resource_id if what.resource_id is not None else what.id))


METHODS: Final = {
    "replicate": Method(replicate, ReplicateWhat, Role.OPERATOR),
    "drop": Method(drop, DropWhat, Role.OPERATOR),
    "copy": Method(copy, CopyWhat, Role.OPERATOR),
    "remove": Method(remove, RemoveWhat, Role.OPERATOR),
}
