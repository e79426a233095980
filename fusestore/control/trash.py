"""The collection `trash`: bytes that no name leads to any more and that are not destroyed yet."""

from __future__ import annotations

from typing import Any, Final

from fusestore.control.files import one_of
from fusestore.control.methods import Arguments, Call, Method, Role
from fusestore.errors import ControlError


class Which(Arguments):
    """One root, or all."""

    root: str | None = None


class Back(Arguments):
    """What is restored, by its `name` in the trash or the `id` that it had, and the `path` that it gets."""

    what: str
    path: str


def list_trash(call: Call, which: Which) -> list[dict[str, Any]]:
    """What lies in the trash, what is destroyed next first."""
    return call.queries.trash(which.root)


async def empty(call: Call, which: Which) -> dict[str, Any]:
    """Destroy all that lies in the trash now."""
    return await call.queries.empty_trash(which.root)


async def restore(call: Call, back: Back) -> dict[str, Any]:
    """Give a file in the trash a name again; never over anything, and as a new file."""
    path = one_of(back.path, None)
    if not path:
        raise ControlError("bad_data", "data: path is empty", '{"what": "01932f6c7a55", "path": "resources/main/a"}')
    return await call.queries.restore(back.what, path, call.peer)


METHODS: Final = {
    "list": Method(list_trash, Which),
    "empty": Method(empty, Which, Role.OPERATOR),
    "restore": Method(restore, Back, Role.OPERATOR),
}
