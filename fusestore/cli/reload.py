"""The verb that has a daemon take its settings in again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusestore import config
from fusestore.cli.options import Json, Socket
from fusestore.cli.output import print_json
from fusestore.cli.target import connect


def reload(
    where: Annotated[
        str | None,
        typer.Argument(metavar="[STORE|PATH]", help="A store, or a path in a mount.", show_default=False),
    ] = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Take fusestore.toml in again without unmounting.

    What is wrong in it is said, and then nothing changes. What counts only from the next mount is named.
    """
    if where is not None and (Path(where) / config.CONFIG_NAME).is_file():
        socket = str(config.load(Path(where)).socket)
    elif where is not None:
        socket = None  # the path says which
    with connect(socket, near=where or ".") as client:
        told = client.call("dispatcher.reload")
    if json:
        print_json(told)
        return
    print(f"applied: {', '.join(told['applied']) or 'nothing has changed'}")
    if told["needs_remount"]:
        print(f"from the next mount: {', '.join(told['needs_remount'])}")
