"""The verbs that answer for a root that is doubted: root accept, root retry."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fusestore.cli.options import Json, Socket
from fusestore.cli.output import print_json
from fusestore.cli.progress import progress
from fusestore.cli.target import connect
from fusestore.errors import StartupError
from fusestore.model import counted

Name = Annotated[str, typer.Argument(metavar="NAME", help="The root, as `fusestore status` names it.")]


def accept(name: Name, socket: Socket = None, json: Json = False) -> None:
    """Say that what is missing on a doubted root is gone.

    The root is online again, and what is missing counts as removed.
    """
    answer = _ask("roots.accept", name, socket)
    if json:
        print_json(answer)
    else:
        print(f"root {name} is online; what was missing counts as removed")


def retry(name: Name, socket: Socket = None, json: Json = False) -> None:
    """Look at a doubted root again, after its disk was put right.

    It is online again if all is there. Exit status 1 when something is still missing.
    """
    answer = _ask("roots.retry", name, socket)
    if json:
        print_json(answer)
    elif answer["online"]:
        print(
            f"root {name} is online; {counted(answer['there'], 'object is', 'objects are')} there, and none is missing"
        )
    if not answer["online"]:
        raise StartupError(
            f"{counted(answer['missing'], 'object is', 'objects are')} still missing on {name},"
            f" {counted(answer['there'], 'is', 'are')} there; it stays doubted"
        )


def _ask(method: str, name: str, socket: str | None) -> dict[str, Any]:
    with connect(socket) as client, progress("looking") as report:
        answer: dict[str, Any] = client.call(method, {"root": name}, progress=report, timeout_s=None)
    return answer
