"""The verb that says why: explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusestore.cli.options import Json, Socket, What
from fusestore.cli.output import print_json, readable
from fusestore.cli.target import find

if TYPE_CHECKING:
    from collections.abc import Iterator


def explain(what: What, socket: Socket = None, json: Json = False) -> None:
    """Say why an object is where it is, and why it cannot move or go.

    The first line is the verdict. Then come the facts, what can be done about each, and what rm, mv to the other roots
    and a writer would be told now. Also of what was removed, by its id or the path that it had.
    """
    client, data = find(what, socket)
    with client:
        facts = client.call("files.explain", data)
    if json:
        print_json(facts)
        return
    for line in _lines(facts):
        print(readable(line))


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield facts["verdict"]
    for fact in facts["facts"][1:]:
        yield f"  {fact['text']}"
        if fact["hint"]:
            yield f"    → {fact['hint']}"
    answers = facts["answers"]
    for text in dict.fromkeys(answer["text"] for answer in answers):  # what is told alike is told once
        calls = [f"mv to {each['root']}" if each["root"] else each["call"] for each in answers if each["text"] == text]
        yield f"  {', '.join(calls)}: {text or 'would be done'}"
