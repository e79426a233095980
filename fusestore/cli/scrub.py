"""The verb that reads everything again in the background: scrub."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fusestore.cli.options import Json, Socket
from fusestore.cli.output import moment, print_facts, print_json, print_table, size
from fusestore.cli.target import connect
from fusestore.errors import UsageError
from fusestore.model import counted


def scrub(
    root: Annotated[str | None, typer.Option(metavar="NAME", help="Only what lies on this root.")] = None,
    rate: Annotated[
        int | None, typer.Option(metavar="BYTES", min=0, help="Read so many bytes a second at most; 0: no limit.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Also what was read again within the last `every_days`.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show how far it is, and what was found.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End it where it is.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Read everything again in the background.

    Each file is compared with its recorded hash. Returns at once; the reading goes on, across restarts, at idle
    priority. What differs is told by an event, by `status` and here. It is repaired from a good replica, where another
    root has one, and a replica that differs is made again; else nothing is changed.
    """
    chosen = root is not None or rate is not None or now
    if status + stop + chosen > 1:
        raise UsageError("--status and --stop stand alone")
    with connect(socket) as client:
        if status or stop:
            facts = client.call("scrub.stop" if stop else "scrub.status")
        else:
            facts = client.call("scrub.start", {"root": root, "rate": rate, "now": now})
    if json:
        print_json(facts)
    else:
        _print(facts)


def _print(facts: dict[str, Any]) -> None:
    share = f"{100 * facts['after'] // max(facts['last_inode'], 1)} %"
    print_facts(
        [
            ("state", f"running, {share}" if facts["running"] else "at rest"),
            ("root", facts["root"]),
            ("rate", f"{size(facts['rate'])}/s" if facts["rate"] else ""),
            ("begun", moment(facts["begun_ns"])),
            ("ended", moment(facts["ended_ns"])),
            ("read", f"{counted(facts['checked'], 'file')}, {size(facts['read_bytes'])}"),
            ("passed over", f"{facts['skipped']} without a hash, being written, or away" if facts["skipped"] else ""),
            ("not sound", str(len(facts["damaged"]) or "none")),
        ]
    )
    if facts["damaged"]:
        print()
        print_table(
            ("PATH", "ROOT", "SINCE", "TROUBLE"),
            [(bad["path"], bad["root"], moment(bad["time_ns"]), _trouble(bad)) for bad in facts["damaged"]],
        )


def _trouble(bad: dict[str, Any]) -> str:
    if not bad["found"]:
        return "cannot be read"
    return f"expected {bad['expected']}, found {bad['found']}"
