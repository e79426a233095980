"""The verbs that look at bytes on their way between roots: moves, moves list, moves show, wait."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fusestore.cli.consumers import wait_acknowledged
from fusestore.cli.options import Json, Socket
from fusestore.cli.output import duration, moment, print_facts, print_json, print_table, size
from fusestore.cli.progress import progress
from fusestore.cli.target import connect, find
from fusestore.errors import StartupError, UsageError
from fusestore.model import counted

if TYPE_CHECKING:
    from fusestore.client import Client

NOTHING: Final = "nothing is on its way; `fusestore moves list --all` shows what was"
PAGE: Final = 1000
LONGEST_S: Final = 1e9
_WELL: Final = ("done", "superseded")

All = Annotated[bool, typer.Option("--all", help="Those that are over, too.")]
Limit = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Only the newest N.  [default: all; 1000 with --all]")
]
Move = Annotated[str, typer.Argument(metavar="MOVE|PATH|ID", help="A move's number, or what is on its way.")]


def moves(
    context: typer.Context,
    everything: All = False,
    limit: Limit = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """List what is on its way; with a verb, show it, pause it, resume it, take it back."""
    if context.invoked_subcommand is None:
        list_moves(everything, limit, socket, json)
        return
    for name in ("everything", "limit", "socket", "json"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"options go behind the verb: fusestore moves {context.invoked_subcommand} …")


def list_moves(everything: All = False, limit: Limit = None, socket: Socket = None, json: Json = False) -> None:
    """List running moves, with progress and time left.

    In the order they were begun.
    """
    with connect(socket) as client:
        found = _newest(client, everything, limit or (PAGE if everything else sys.maxsize))
    if json:
        print_json(found)
    elif found:
        print_moves(found)
    else:
        print("nothing ever was on its way" if everything else NOTHING)


def _newest(client: Client, everything: bool, limit: int) -> list[dict[str, Any]]:
    """The last `limit` moves, oldest first."""
    found: list[dict[str, Any]] = []
    before = None
    while len(found) < limit:
        wanted = min(PAGE, limit - len(found))
        page = client.call("moves.list", {"all": everything, "before": before, "limit": wanted})
        found += page
        if len(page) < wanted:
            break
        before = page[-1]["number"]
    return found[::-1]


def show(what: Move, socket: Socket = None, json: Json = False) -> None:
    """Show one move: how far it is, what it waits for, who began it.

    Of an object that is at rest, the last move that it had.
    """
    client, data = named(what, socket)
    with client:
        move = client.call("moves.get", data)
    if json:
        print_json(move)
        return
    percent = f" ({100 * move['bytes_done'] // move['bytes_total']} %)" if move["bytes_total"] else ""
    print_facts(
        [
            ("move", str(move["number"])),
            ("state", move["state"]),
            ("reason", move["reason"]),
            ("held by", move["held_path"]),
            ("path", move["path"]),
            ("from", f"{move['source']}: {move['old_path']}"),
            ("to", move["target"]),
            ("files", f"{move['files_done']} of {move['files_total']}"),
            ("bytes", f"{size(move['bytes_done'])} of {size(move['bytes_total'])}{percent}"),
            ("left", duration(move["eta_s"])),
            ("begun", f"{moment(move['created_ns'])} by uid {move['uid']}, pid {move['pid']}"),
            ("ended", moment(move["finished_ns"])),
            ("id", move["id"]),
        ]
    )


def named(what: str, socket: str | None) -> tuple[Client, dict[str, str | int]]:
    """The daemon of a MOVE|PATH|ID argument, and what it names there, as requests take it."""
    if what.isdecimal() and len(what) < 8 and not os.path.lexists(what):
        return connect(socket), {"move": int(what)}
    client, data = find(what, socket)
    return client, {**data}


def wait(
    what: Annotated[list[str] | None, typer.Argument(metavar="PATH|ID|MOVE...", help="What to wait for.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Wait for everything.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="Give up after this long.")] = None,
    acked_by: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="And until this consumer has acknowledged all of it.", show_default=False),
    ] = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Block until moves are over.

    Content is finalized then, too, and replicas are made. Exit status 1 when a move or replica waits for an operator,
    or when --timeout has passed.
    """
    if bool(what) == everything:
        raise UsageError("give a path, an id, a move's number, or --all")
    if timeout is not None and not timeout < LONGEST_S:
        raise UsageError(f"--timeout {timeout} is no number of seconds that a wait can take")
    until = time.monotonic() + timeout if timeout is not None else None
    result: dict[str, list[dict[str, Any]]] = {"moves": [], "replicas": []}
    with ExitStack() as clients:
        asked = [named(each, socket) for each in what] if what else [(connect(socket), {})]
        for client, _ in asked:
            clients.enter_context(client)
            if acked_by is not None:  # a name that there is not is told before the wait, not behind it
                client.call("events.acknowledged", {"consumer": acked_by, "seq": 0})
        report = clients.enter_context(progress("moving"))
        for client, data in asked:
            left = max(0.0, until - time.monotonic()) if until is not None else None
            try:
                found = client.call("moves.wait", data, progress=report, timeout_s=left)
            except TimeoutError:
                raise StartupError(f"not over after {timeout} s; it goes on, see `fusestore moves`") from None
            for kind, known in result.items():
                known += [each for each in found[kind] if each not in known]
        if acked_by is not None:
            for client, _ in asked:
                wait_acknowledged(client, acked_by, max(0.0, until - time.monotonic()) if until is not None else None)
    if json:
        print_json(result)
    _complain_of(result, json=json)


def _complain_of(result: dict[str, list[dict[str, Any]]], *, json: bool) -> None:
    """Show what waits for somebody.

    Raises:
        StartupError: something does.
    """
    stuck = [move for move in result["moves"] if move["state"] not in _WELL]
    if stuck and not json:
        print_moves(stuck)
    held = result["replicas"]
    if held and not json:
        print_table(("PATH", "ROOT", "REASON"), [(each["path"], each["root"], each["reason"]) for each in held])
    cancelled = sum(move["state"] == "cancelled" for move in stuck)
    if cancelled:
        raise StartupError(f"{cancelled} of {counted(len(result['moves']), 'move was', 'moves were')} cancelled")
    if stuck:
        still = counted(len(result["moves"]), "move is", "moves are")
        raise StartupError(f"{len(stuck)} of {still} held up until the reason has passed")
    if held:
        raise StartupError(f"{counted(len(held), 'replica is', 'replicas are')} not made until the reason has passed")


def print_moves(found: list[dict[str, Any]]) -> None:
    """A table, a line for each."""
    print_table(
        ("MOVE", "STATE", "FROM", "TO", "FILES", "BYTES", "LEFT", "PATH", "REASON"),
        [
            (
                str(move["number"]),
                move["state"],
                move["source"],
                move["target"],
                f"{move['files_done']}/{move['files_total']}",
                f"{size(move['bytes_done'])} of {size(move['bytes_total'])}",
                duration(move["eta_s"]),
                move["path"],
                f"{move['reason']}: {move['held_path']}" if move["held_path"] else move["reason"],
            )
            for move in found
        ],
    )
