"""The verb `events`: the log, and following it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fusestore.cli.options import Json, Socket
from fusestore.cli.output import moment, print_json_line, readable
from fusestore.cli.target import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.control.client import Client

PAGE: Final = 1000


def events(
    since: Annotated[
        int | None, typer.Option(metavar="SEQ", min=0, help="Only what came after this one.  [default: all in the log]")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now on.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Print the event log, one event a line.

    Exit status 1 when events after --since are no longer in the log.
    """
    with connect(socket) as client:
        for event in _followed(client, since) if follow else _logged(client, since):
            if json:
                print_json_line(event, flush=follow)
            else:
                print(_line(event), flush=follow)


def _followed(client: Client, since: int | None) -> Iterator[dict[str, Any]]:
    if since is None:
        since = client.call("events.list", {"limit": 0})["first_seq"] - 1
    return client.events(since)


def _logged(client: Client, since: int | None) -> Iterator[dict[str, Any]]:
    """The log as it is now: what happens meanwhile is left to the next call."""
    last = None
    while True:
        page = client.call("events.list", {"since": since, "limit": PAGE})
        last = page["last_seq"] if last is None else last
        for event in page["events"]:
            if event["seq"] <= last:
                yield event
        if not page["events"] or page["events"][-1]["seq"] >= last:
            return
        since = page["events"][-1]["seq"]


def _line(event: dict[str, Any]) -> str:
    old = f"{readable(event['old_path'])} → " if event.get("old_path") else ""
    facts = [
        f"{event['seq']:>8}",
        moment(event["time_ns"]),
        f"{event['operation']:<6} {event['kind']:<10}",
        old + readable(event["path"]),
        f"({event['root']})" if event.get("root") else "",
        event.get("hash", ""),
        readable(event.get("detail", "")),
    ]
    return "  ".join(fact for fact in facts if fact)
