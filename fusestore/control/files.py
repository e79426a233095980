"""The collection `files`: what the store knows of one object, named by its path in the mount or by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fusestore.control.methods import Arguments, Call, Method, Role, failure
from fusestore.errors import ControlError

if TYPE_CHECKING:
    from fusestore.service.asking import Answer

_ANSWER: Final = ("code", "errno", "text")


class What(Arguments, forbid_unknown_fields=True):
    """One object: `path` relative to the mount, or `id` (a unique prefix of eight hex digits will do)."""

    path: str | None = None
    id: str | None = None


class VerifyWhat(Arguments, forbid_unknown_fields=True):
    """What to read again: an object and all below it, a root, or everything."""

    path: str | None = None
    id: str | None = None
    root: str | None = None


def one_of(path: str | None, id: str | None) -> str | None:
    """The one that was given, as the service takes it; None for neither.

    Raises:
        ControlError: both were given, or the text stands for no sequence of bytes.
    """
    if path is not None and id is not None:
        raise ControlError("bad_data", "data: give path or id, not both")
    what = path.strip("/") if path is not None else id
    if what is not None:
        try:
            what.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            hint = "a byte 0xNN that is not UTF-8 travels as \\udcNN"
            raise ControlError("bad_data", f"data: {what!a} stands for no name", hint) from None
    return what


def required(what: What) -> str:
    """The same where one must be given."""
    chosen = one_of(what.path, what.id)
    if chosen is None:
        raise ControlError("bad_data", "data: path or id is missing", '{"path": "uploads/data.json"}')
    return chosen


def get(call: Call, what: What) -> dict[str, Any]:
    """The record of an object: id, names, attributes, version, hash, state, root."""
    return call.queries.record(call.queries.find(required(what)))


def where(call: Call, what: What) -> list[dict[str, Any]]:
    """Every location of an object's bytes."""
    return call.queries.locations(call.queries.find(required(what)))


async def reread(call: Call, what: What) -> list[dict[str, Any]]:
    """The same after each copy was read again: `found` says what came of it."""
    return await call.queries.reread(call.queries.find(required(what)), call.report)


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
    return await call.queries.verify(one_of(what.path, what.id), what.root, call.report)


METHODS: Final = {
    "get": Method(get, What),
    "where": Method(where, What),
    "reread": Method(reread, What, Role.OPERATOR),
    "history": Method(history, What),
    "explain": Method(explain, What),
    "verify": Method(verify, VerifyWhat, Role.OPERATOR),
}
