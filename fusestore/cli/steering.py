"""The verbs that steer moves: moves pause, resume, retry, cancel."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fusestore.cli.moves import Move, named, print_moves
from fusestore.cli.options import Json, Socket
from fusestore.cli.output import print_facts, print_json
from fusestore.cli.target import connect
from fusestore.errors import UsageError

What = Annotated[str | None, typer.Argument(metavar="MOVE|PATH|ID", help="A move's number, or what is on its way.")]


def pause(
    what: What = None,
    everything: Annotated[bool, typer.Option("--all", help="Every move that is not over.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Stop a move at its next safe point, until it is resumed.

    The bytes stay usable where they are. A pause survives restarts.
    """
    _steer("pause", what, everything, socket, json)


def resume(
    what: What = None,
    everything: Annotated[bool, typer.Option("--all", help="Every move that is paused.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Let a paused move go on."""
    _steer("resume", what, everything, socket, json)


def retry(
    what: What = None,
    everything: Annotated[bool, typer.Option("--all", help="Every move that waits.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Try a move that waits now, not when its time has come."""
    _steer("retry", what, everything, socket, json)


def cancel(what: Move, socket: Socket = None, json: Json = False) -> None:
    """Give what is on its way its old name back.

    What had arrived goes home again. Refused when the old name is taken, or its directory gone.
    """
    client, data = named(what, socket)
    with client:
        move = client.call("moves.cancel", data)
    if json:
        print_json(move)
    else:
        print_facts([("move", f"{move['number']} {move['state']}"), ("path", move["old_path"])])


def _steer(verb: str, what: str | None, everything: bool, socket: str | None, json: bool) -> None:
    if (what is None) != everything:
        raise UsageError("give a move's number, a path, an id, or --all")
    data: dict[str, Any]
    client, data = (connect(socket), {"all": True}) if what is None else named(what, socket)
    with client:
        moves = client.call(f"moves.{verb}", data)["moves"]
    if json:
        print_json(moves)
    elif moves:
        print_moves(moves)
    else:
        print(f"there is no move to {verb}")
