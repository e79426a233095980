"""The methods of `files` that make, rewrite and remove files, with the peer's own rights in the mount."""

from __future__ import annotations

import binascii
from typing import Annotated, Any, Final

from msgspec import Meta

from fusestore.control.files import What, required, text
from fusestore.control.methods import Arguments, Call, Method, Role
from fusestore.errors import ControlError

MODE: Final = 0o644


class NewFile(Arguments):
    """A file's name and content: `text`, or `body` in base64. It goes to `downloads`, or to `uploads`."""

    name: str
    text: str | None = None
    body: str | None = None
    content_type: Annotated[str, Meta(max_length=255)] = ""
    download: bool = False
    mode: Annotated[int, Meta(ge=0, le=0o777)] = MODE


class NewContent(What):
    """A file and its new content: `text`, or `body` in base64."""

    text: str | None = None
    body: str | None = None


async def register(call: Call, new: NewFile) -> dict[str, Any]:
    """Make a new durable file; if its name is taken it is shown under another with a part of its id."""
    name, content_type = text(new.name), text(new.content_type)
    if "\0" in content_type:
        raise ControlError("bad_data", "data: content_type has a NUL")
    return await call.queries.register(
        name, content(new), content_type, new.mode, call.peer, call.own, download=new.download
    )


async def write(call: Call, new: NewContent) -> dict[str, Any]:
    """Replace a content whole or not at all: the old file stays until the new one, which takes its name, is durable."""
    return await call.queries.write(required(new), content(new), call.peer, call.own)


async def unlink(call: Call, what: What) -> dict[str, Any]:
    """Remove a file, as rm does; by id with all its names. `removed` is false when it is not there."""
    return {"removed": await call.queries.unlink(required(what), call.peer, call.own)}


def content(new: NewFile | NewContent) -> bytes:
    """The bytes that a request brings.

    Raises:
        ControlError: there are none, or two, or they cannot be made of it.
    """
    if (new.text is None) == (new.body is None):
        raise ControlError("bad_data", "data: give text or body, and not both", '{"text": "…"} or {"body": "base64"}')
    try:
        if new.text is not None:
            return new.text.encode("utf-8", "surrogateescape")
        return binascii.a2b_base64(new.body or "", strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise ControlError("bad_data", f"data: {error}", "text is UTF-8, body is base64") from None


METHODS: Final = {
    "register": Method(register, NewFile, Role.ANYONE),
    "write": Method(write, NewContent, Role.ANYONE),
    "unlink": Method(unlink, What, Role.ANYONE),
}
