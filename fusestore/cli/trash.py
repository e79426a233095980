"""The verbs for what lies in the trash: list, empty, restore."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from fusestore.cli.options import Json, Socket
from fusestore.cli.output import duration, moment, print_json, print_table, readable, size
from fusestore.cli.target import connect, find
from fusestore.errors import UsageError
from fusestore.model import counted

Root = Annotated[str | None, typer.Option("--root", metavar="NAME", help="Only this root's.")]


def list_trash(root: Root = None, socket: Socket = None, json: Json = False) -> None:
    """Show what lies in the trash, and when it is destroyed.

    What goes next comes first. Room that is wanted on the disk ends it earlier.
    """
    with connect(socket) as client:
        found = client.call("trash.list", {"root": root})
    if json:
        print_json(found)
    elif found:
        print_table(
            ("NAME", "ROOT", "SIZE", "WHY", "SINCE", "LEFT", "PATH"),
            [
                (
                    each["name"],
                    each["root"],
                    size(each["size"]),
                    each["why"],
                    moment(each["removed_ns"]),
                    duration(max(0.0, each["until_ns"] / 1e9 - time.time())),
                    each["path"],
                )
                for each in found
            ],
        )
    else:
        print("the trash is empty")


def empty(root: Root = None, socket: Socket = None, json: Json = False) -> None:
    """Destroy all that lies in the trash now."""
    with connect(socket) as client:
        gone = client.call("trash.empty", {"root": root}, timeout_s=None)
    if json:
        print_json(gone)
    else:
        print(f"{counted(gone['files'], 'file')}, {size(gone['bytes'])}")


def restore(
    what: Annotated[str, typer.Argument(metavar="ID", help="A name in the trash, or the id that the file had.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Its new path, in a mount and on the same disk.")],
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Give a file in the trash a name again.

    It is a new file with an id of its own; its history names what it was. Nothing is ever overwritten.
    """
    client, data = find(path, socket)
    if "path" not in data:
        raise UsageError(f"{path} is not inside a mount")
    with client:
        made = client.call("trash.restore", {"what": what, "path": data["path"]}, timeout_s=None)
    if json:
        print_json(made)
    else:
        print(readable(f"{made['path']} is {made['id']}, and was {made['old_path'] or made['old_id']}"))
