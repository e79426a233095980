"""The verb that empties a root: drain."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from fusestore.cli.options import Json, Socket
from fusestore.cli.output import print_json, print_table, readable, size
from fusestore.cli.progress import progress
from fusestore.cli.target import connect
from fusestore.errors import StartupError, UsageError
from fusestore.model import counted

STAYING: Final = ("directory, symlink or special file stays", "directories, symlinks and special files stay")


def drain(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="The resource root that is to be empty.")],
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="ROOT", help="A root that may take its files; else any, or those chosen before."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done; change nothing.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End it; what has left stays where it is.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it is empty, with progress.")] = False,
    release: Annotated[
        bool, typer.Option("--release", help="Wait, and then let go of its disk, so that it can be unmounted.")
    ] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Empty a disk, so that it can be pulled.

    Each file on it gets a verified copy on another root before the one here goes; no name changes. New files below its
    directory go to other roots meanwhile. Returns when that is recorded; it goes on across restarts. A disk that was
    let go of is not touched or missed until --stop. Exit status 1 when --plan, --wait or --release shows what cannot
    leave.
    """
    if plan + stop + wait + release > 1 or (stop and to):
        raise UsageError("give one of --plan, --stop, --wait and --release; --to goes not with --stop")
    wait = wait or release
    if root in (to or ()):
        raise UsageError(f"{root} is the root that is to be emptied; name another one with --to")
    with connect(socket) as client, progress("draining") as report:
        if stop:
            done = client.call("roots.stop_drain", {"root": root})
        elif plan:
            done = client.call("roots.plan_drain", {"root": root, "to": to or []}, progress=report, timeout_s=None)
        else:
            data = {"root": root, "to": to or [], "wait": wait, "release": release}
            done = client.call("roots.drain", data, progress=report, timeout_s=None)
    if json:
        print_json(done)
    elif stop:
        print(f"{root} is an ordinary root again" if done["stopped"] else f"{root} was not being drained")
    elif plan:
        _show_plan(root, done)
    else:
        _show_drain(root, done, wait=wait)
    held = done["held"] if plan else (done["drain"] or {}).get("held", []) if wait else []
    if held or (wait and not (done["drain"] or {}).get("proof")):
        raise StartupError(
            f"{root} cannot be emptied until the reasons have passed" if held else f"{root} is not empty"
        )


def _show_plan(root: str, plan: dict[str, Any]) -> None:
    rows = [(each["root"], each["files"], each["bytes"]) for each in plan["copies"]]
    rows.append(("have a copy elsewhere", plan["ready_files"], plan["ready_bytes"]))
    rows.append(("cannot leave", plan["held_files"], plan["held_bytes"]))
    leaving = [(what, str(files), size(count)) for what, files, count in rows if files]
    if leaving:
        print_table(("TO", "FILES", "BYTES"), leaving)
    else:
        print(f"no file is known on {root}: nothing has to leave")
    print(f"{counted(plan['stays'], *STAYING)}; the index knows them")
    _show_held(plan["held"])


def _show_drain(root: str, done: dict[str, Any], *, wait: bool) -> None:
    drain = done["drain"]
    if not wait:
        print(
            f"{root} is being drained"
            + ("" if done["begun"] else " already")
            + "; fusestore status shows how far it is"
        )
    elif drain is not None:
        left = drain["files_left"]
        count = "it is not known yet how many files are" if left is None else counted(left, "file is", "files are")
        print(readable(drain["proof"]) or f"{count} left")
        _show_held(drain["held"])
        if drain["released_ns"]:
            print(f"its disk is let go of; to use it again: fusestore drain {root} --stop")
        elif drain["proof"]:
            print(f"before you unmount it: fusestore drain {root} --release")


def _show_held(held: list[dict[str, Any]]) -> None:
    if held:
        print_table(("PATH", "REASON"), [(each["path"], each["reason"]) for each in held])
