"""The verbs for further copies: replicate, drop."""

from __future__ import annotations

from typing import Annotated

import typer

from fusestore.cli.options import Json, Socket, What
from fusestore.cli.output import print_json, print_table
from fusestore.cli.progress import progress
from fusestore.cli.target import find
from fusestore.errors import StartupError
from fusestore.model import counted


def replicate(
    what: What,
    to: Annotated[str, typer.Option("--to", metavar="ROOT", help="The resource root that gets the copy.")],
    wait: Annotated[bool, typer.Option("--wait", help="Return when the copy is made, with progress.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Have a verified copy kept on another root.

    Of a file, or of each file that is below a directory now. The copy is read instead of the file when the file's own
    root is away, and made again when the file has been written. Exit status 1 when the only copy is on that root
    itself, or --wait ends without a copy.
    """
    client, data = find(what, socket)
    with client, progress("replicating") as report:
        done = client.call("files.replicate", {**data, "root": to, "wait": wait}, progress=report, timeout_s=None)
    if json:
        print_json(done)
    elif done["held"]:
        print_table(("PATH", "ROOT", "REASON"), [(each["path"], each["root"], each["reason"]) for each in done["held"]])
    elif not done["wanted"] and not done["files"]:
        print(f"a copy is kept on {to} already")
    elif not wait:
        print(f"{counted(done['files'], 'file')} to be copied to {to}")
    if done["held"]:
        copies = counted(len(done["held"]), "copy is", "copies are")
        raise StartupError(f"{copies} not made until the reason has passed")


def drop(
    what: What,
    source: Annotated[str, typer.Option("--from", metavar="ROOT", help="The root whose copy goes.")],
    force_last: Annotated[bool, typer.Option("--force-last", help="Even the last good copy, and the file.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Give up the copy on one root.

    If the file itself is on that root, a copy elsewhere that reads back well takes its place. The last good copy is
    never dropped without --force-last, which removes the file. Exit status 1 when a file was left alone.
    """
    client, data = find(what, socket)
    with client, progress("dropping") as report:
        data_sent = {**data, "root": source, "force_last": force_last}
        done = client.call("files.drop", data_sent, progress=report, timeout_s=None)
    refused = done["refused"]
    if json:
        print_json(done)
    else:
        print(f"{counted(done['dropped'], 'copy', 'copies')} dropped, {counted(done['removed'], 'file')} removed")
        if refused:
            print_table(("PATH", "REASON"), [(each["path"], each["reason"]) for each in refused])
    if refused:
        raise StartupError(f"{counted(len(refused), 'file keeps its', 'files keep their')} copy on {source}")
