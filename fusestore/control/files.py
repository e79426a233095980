"""The collection `files`: what the store knows of one object, named by its path in the mount or by its id."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from msgspec import Meta

from fusestore.control.methods import Arguments, Call, Method, Role, failure
from fusestore.errors import ControlError

if TYPE_CHECKING:
    from fusestore.service.asking import Answer

LIST_MAX: Final = 1000  # records are long, and a reply is made in one go
PATTERN_MAX: Final = 1024
PATH_MAX: Final = 1 << 16  # characters; no path is as long
Limit = Annotated[int, Meta(ge=1, le=LIST_MAX)]
_ID: Final = re.compile(r"[0-9a-fA-F-]{8,36}")
_ANSWER: Final = ("code", "errno", "text")


class What(Arguments):
    """One object: `path` relative to the mount, or `id` (a unique prefix of eight hex digits will do)."""

    path: str | None = None
    id: str | None = None


class GetWhat(What):
    """One object, also by the `hash` of its content, as records say it; of several files with it, any."""

    hash: str | None = None


class ListWhat(What):
    """A directory, none for the whole mount; `after` is what the last page said."""

    recursive: bool = False
    after: str | None = None
    limit: Limit = 1000


class FindWhat(What):
    """A directory, none for the whole mount, and what is looked for below it; `name` is a pattern as of the shell."""

    name: Annotated[str, Meta(max_length=PATTERN_MAX)] | None = None
    hash: str | None = None
    type: Literal["file", "directory", "symlink", "fifo", "socket", "character device", "block device"] | None = None
    state: Literal["ready", "writing", "interrupted"] | None = None
    root: str | None = None
    after: str | None = None
    limit: Limit = 1000


class VerifyWhat(What):
    """What to read again: an object and all below it, a root, or everything."""

    root: str | None = None


def one_of(path: str | None, id: str | None) -> str | None:
    """The one that was given, as the service takes it; None for neither.

    Raises:
        ControlError: both were given, or it can be none.
    """
    if path is not None and id is not None:
        raise ControlError("bad_data", "data: give path or id, not both")
    if id is not None and not _ID.fullmatch(id):
        raise ControlError("bad_data", f"data: {id!a} is no id", "8 to 32 hex digits", errno=errno.EINVAL)
    return text(path.strip("/")) if path is not None else id


def text(given: str) -> str:
    """A name or path as it was given.

    Raises:
        ControlError: it stands for no sequence of bytes, or is too long for any.
    """
    if len(given) > PATH_MAX:
        raise ControlError("bad_data", f"data: no path is longer than {PATH_MAX} characters")
    try:
        given.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        hint = "a byte 0xNN that is not UTF-8 travels as \\udcNN"
        raise ControlError("bad_data", f"data: {given!a} stands for no name", hint) from None
    return given


def required(what: What) -> str:
    """The same where one must be given."""
    chosen = one_of(what.path, what.id)
    if chosen is None:
        raise ControlError("bad_data", "data: path or id is missing", '{"path": "uploads/data.json"}')
    return chosen


def hash_of(tagged: str) -> tuple[str, bytes]:
    """Algorithm and digest of a hash as records say it.

    Raises:
        ControlError: it is none.
    """
    algorithm, _, digits = tagged.partition(":")
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if not algorithm or not digest:
        raise ControlError("bad_data", f"data: {tagged!a} is no hash", '{"hash": "blake3:af1349b9"} with all digits')
    return algorithm, digest


def get(call: Call, what: GetWhat) -> dict[str, Any]:
    """The record of an object: id, names, attributes, version, hash, state, root."""
    if what.hash is None:
        return call.queries.record(call.queries.find(required(what)))
    if what.path is not None or what.id is not None:
        raise ControlError("bad_data", "data: give path, id or hash, not several")
    return call.queries.record(call.queries.holding(hash_of(what.hash)))


async def list_files(call: Call, what: ListWhat) -> dict[str, Any]:
    """A page of what is in a directory, or of all that is below it, as far as the peer may see it."""
    return await _entries(call, what, {}, recursive=what.recursive)


async def find(call: Call, what: FindWhat) -> dict[str, Any]:
    """A page of what is below a directory and like this, as far as the peer may see it."""
    wanted = {"name": what.name, "type": what.type, "state": what.state, "root": what.root}
    return await _entries(call, what, {**wanted, "hash": hash_of(what.hash) if what.hash else None}, recursive=True)


async def _entries(call: Call, what: ListWhat | FindWhat, wanted: dict[str, Any], *, recursive: bool) -> dict[str, Any]:
    top = one_of(what.path, what.id) or ""
    after = one_of(what.after, None)
    await call.turn()
    asker = call.asker(Role.READER)
    return await call.queries.entries(
        top, asker, wanted, call.report, recursive=recursive, after=after or None, limit=what.limit
    )


async def digest(call: Call, what: What) -> dict[str, Any]:
    """The hash of a file's content, read now if it is not known; for who may read the file, and operators."""
    return await call.queries.digest(required(what), call.asker(Role.OPERATOR))


def where(call: Call, what: What) -> list[dict[str, Any]]:
    """Every location of an object's bytes."""
    return call.queries.locations(call.queries.find(required(what)))


async def reread(call: Call, what: What) -> list[dict[str, Any]]:
    """The same after each copy was read again: `found` says what came of it."""
    return await call.queries.reread(call.queries.find(required(what)), call.peer, call.report)


def history(call: Call, what: What) -> list[dict[str, Any]]:
    """Everything that ever happened to an object, oldest first; also to one that was removed."""
    return call.queries.history(required(what))


async def explain(call: Call, what: What) -> dict[str, Any]:
    """Why an object is where it is, why it cannot move or go, and what rm, mv and a writer would be told now."""
    explanation, answers = await call.queries.explain(required(what))
    return {**explanation, "answers": [_answered(answer) for answer in answers]}


def _answered(answer: Answer) -> dict[str, Any]:
    refused = failure(answer.refusal, f"files.explain {answer.call}") if answer.refusal is not None else None
    told = (refused.code, refused.errno, refused.text) if refused is not None else ("ok", 0, "")
    return {"call": answer.call, "root": answer.root, "ok": refused is None, **dict(zip(_ANSWER, told, strict=True))}


async def verify(call: Call, what: VerifyWhat) -> dict[str, Any]:
    """Read the bytes again and compare them with the recorded hashes."""
    return await call.queries.verify(one_of(what.path, what.id), what.root, call.peer, call.report)


METHODS: Final = {
    "get": Method(get, GetWhat),
    "list": Method(list_files, ListWhat, Role.ANYONE),
    "find": Method(find, FindWhat, Role.ANYONE),
    "digest": Method(digest, What, Role.ANYONE),
    "where": Method(where, What),
    "reread": Method(reread, What, Role.OPERATOR),
    "history": Method(history, What),
    "explain": Method(explain, What),
    "verify": Method(verify, VerifyWhat, Role.OPERATOR),
}
