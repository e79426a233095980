"""The verb `events`: the log, and following it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

import typer

from fusestore.cli.consumers import Acknowledging
from fusestore.cli.options import Json, Socket
from fusestore.cli.output import moment, print_json_line, print_line, readable
from fusestore.cli.target import connect, find
from fusestore.client import Client
from fusestore.client.wire import FENCE
from fusestore.errors import ControlError, StartupError, UsageError
from fusestore.model import counted

if TYPE_CHECKING:
    from collections.abc import Iterator


PAGE: Final = 1000


class Wanted(TypedDict):
    """What events shall be about; None does not ask."""

    paths: list[str] | None
    roots: list[str] | None
    kinds: list[str] | None


def events(
    what: Annotated[
        str | None, typer.Argument(metavar="[PATH|ID]", help="Only what happens there or below.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="SEQ|now", help="Only what came after this one, or comes.  [default: all in the log]"),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now on.")] = False,
    snapshot: Annotated[
        bool,
        typer.Option("--snapshot", help="What there is now; with --follow, then what changes from there on."),
    ] = False,
    root: Annotated[
        list[str] | None, typer.Option("--root", metavar="ROOT", help="Only what happens on this root; repeatable.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only events of this kind; repeatable.")
    ] = None,
    consumer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only what was not printed for this name before; a new one begins now; --since moves it forward only.",
            show_default=False,
        ),
    ] = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Print the event log from its beginning on, one event a line; or what there is, one name a line.

    With --follow --since now only what happens from now on, as `tail -f` does. Exit status 6 when the daemon ends.

    With --consumer an event is acknowledged once it is printed, and the log keeps those that are not, so that nothing
    is missed however long nobody asked. Exit status 1 when events after --since are no longer in the log.
    """
    if snapshot and (since is not None or consumer is not None):
        raise UsageError("--snapshot goes with neither --since nor --consumer")
    client, place = find(what, socket) if what is not None else (connect(socket), {})
    with client, ExitStack() as stack:
        path = client.call("files.get", place)["path"] if "id" in place else place.get("path")
        wanted = Wanted(paths=None if path is None else [path], roots=root or None, kinds=kind or None)
        begin = _begin(client, since) if since is not None else None
        acknowledging = None
        if consumer is not None:
            acknowledging = Acknowledging(stack.enter_context(Client(client.path)), consumer, begin)
            begin = acknowledging.since
        if snapshot:
            found = _present(client, wanted, follow=follow)
        else:
            found = _followed(client, begin, wanted) if follow else _logged(client, begin, wanted)
        for event in _passing(found, consumer):
            if event["kind"] == FENCE:
                pass
            elif json:
                print_json_line(event, flush=follow or consumer is not None)
            else:
                print_line(_line(event), flush=follow or consumer is not None)
            if acknowledging is not None:
                acknowledging.printed(event, is_read=event["kind"] == FENCE or (follow and client.is_read))


def _begin(client: Client, since: str) -> int:
    if since == "now":
        last: int = client.call("events.list", {"limit": 0})["last_seq"]
        return last
    if not (since.isascii() and since.isdecimal()):
        raise UsageError(f"--since takes the number of an event, or now, not {since!r}")
    return int(since)


def _passing(found: Iterator[dict[str, Any]], consumer: str | None) -> Iterator[dict[str, Any]]:
    """The same, with a word for a consumer that has lost events.

    Raises:
        StartupError
    """
    try:
        yield from found
    except ControlError as error:
        if error.code != "lost" or consumer is None:
            raise
        hint = f"look at the tree, then go on by fusestore events --consumer {consumer} --since now"
        raise StartupError(f"{error.text}; {hint}") from None


def _followed(client: Client, since: int | None, wanted: Wanted) -> Iterator[dict[str, Any]]:
    if since is None:
        since = client.call("events.list", {"limit": 0})["first_seq"] - 1
    return client.events(since, **wanted, fences=True)


def _present(client: Client, wanted: Wanted, *, follow: bool) -> Iterator[dict[str, Any]]:
    for event in client.events(snapshot=True, **wanted):
        yield event
        if event["kind"] == "whole" and not follow:
            return


def _logged(client: Client, since: int | None, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """The log as it is now, and a fence at its end: what happens meanwhile is left to the next call."""
    last = None
    while True:
        page = client.call("events.list", {"since": since, "limit": PAGE, **wanted})
        last = page["last_seq"] if last is None else last
        for event in page["events"]:
            if event["seq"] <= last:
                yield event
        if page["position"] >= last:
            yield {"kind": FENCE, "seq": last, "epoch": page["epoch"]}
            return
        since = page["position"]


def _line(event: dict[str, Any]) -> str:
    if event["kind"] == "whole":
        partial = f"; more may turn up on {', '.join(event['partial'])}" if event["partial"] else ""
        return f"{event['seq']:>8}  {counted(event['total'], 'name')} after event {event['seq']}{partial}"
    old = f"{readable(event['old_path'])} → " if event.get("old_path") else ""
    facts = [
        f"{event['seq']:>8}",
        moment(event["time_ns"] if "time_ns" in event else event["mtime_ns"]),
        f"{event['operation']:<6} {event['kind']:<10}",
        old + readable(event["path"]),
        f"({event['root']})" if event.get("root") else "",
        event.get("hash", ""),
        readable(event.get("detail", "")),
    ]
    return "  ".join(fact for fact in facts if fact)
