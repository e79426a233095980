"""The arguments and options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Socket = Annotated[
    str | None,
    typer.Option("--socket", envvar="FUSESTORE_SOCKET", help="The daemon's control socket.", show_default=False),
]
What = Annotated[str, typer.Argument(metavar="PATH|ID", help="A path inside a mount, or an id (8 hex digits or more).")]
Store = Annotated[str, typer.Argument(metavar="STORE", help="The store's directory.")]
Where = Annotated[
    str | None,
    typer.Argument(metavar="[STORE|PATH]", help="A store, or a path in a mount.", show_default=False),
]
