"""The verbs for bytes on their way between roots: moves, wait."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fusestore.cli.options import Json, Socket
from fusestore.cli.output import duration, print_json, print_table, size
from fusestore.cli.progress import progress
from fusestore.cli.target import connect, find
from fusestore.errors import StartupError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusestore.control.client import Client

PAGE: Final = 1000
_WELL: Final = ("done", "superseded")


def moves(
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the newest N.  [default: all; 1000 with --all]")
    ] = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Running moves with progress and time left, in the order they were begun."""
    with connect(socket) as client:
        found = _newest(client, everything, limit or (PAGE if everything else sys.maxsize))
    if json:
        print_json([{**move, "eta_s": eta_s(move)} for move in found])
    elif found:
        _print(found)
    else:
        print("nothing is on its way")


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


def wait(
    what: Annotated[str | None, typer.Argument(metavar="PATH|ID|MOVE", help="What to wait for.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Wait for everything.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Give up after this long.")] = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Block until moves are over.

    Content is finalized then, too. Exit status 1 when a move waits for an operator, or when --timeout has passed.
    """
    if (what is None) != everything:
        raise UsageError("give a path, an id, a move's number, or --all")
    data: Mapping[str, str | int] = {}
    if what is None:
        client = connect(socket)
    elif what.isdecimal() and len(what) < 8 and not os.path.lexists(what):
        client, data = connect(socket), {"move": int(what)}
    else:
        client, data = find(what, socket)
    try:
        with client, progress("moving") as report:
            result = client.call("moves.wait", data, progress=report, timeout_s=timeout)
    except TimeoutError:
        raise StartupError(f"not over after {timeout} s; it goes on, see `fusestore moves`") from None
    stuck = [move for move in result["moves"] if move["state"] not in _WELL]
    if json:
        print_json(result)
    elif stuck:
        _print(stuck)
    if stuck:
        raise StartupError(f"{len(stuck)} of {len(result['moves'])} moves are held up until the reason has passed")


def eta_s(move: dict[str, Any]) -> float | None:
    """The seconds a running move still needs at the speed it has had so far; None when that cannot be told."""
    done, total = move["bytes_done"], move["bytes_total"]
    elapsed = time.time() - move["created_ns"] / 1e9
    if move["state"] != "running" or not 0 < done <= total or elapsed <= 0:
        return None
    return float((total - done) * elapsed / done)


def _print(found: list[dict[str, Any]]) -> None:
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
                duration(eta_s(move)),
                move["path"],
                move["reason"],
            )
            for move in found
        ],
    )
