"""The verb that looks at long requests, and at what came of those in the background: jobs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fusestore.cli.options import Json, Socket
from fusestore.cli.output import moment, print_facts, print_json, print_table
from fusestore.cli.progress import progress
from fusestore.cli.target import connect
from fusestore.errors import StartupError, UsageError


def jobs(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Show this one.  [default: list all]")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show it once it is over.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Have it end where it can.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """List the long requests that are being worked on, and those in the background that are over.

    What a job has begun, such as moves and drains, goes on when it ends. Exit status 1 when a job that is shown has
    failed.
    """
    if (wait or cancel) and job is None:
        raise UsageError("--wait and --cancel need a job; `fusestore jobs` lists them")
    with connect(socket) as client, progress("working") as report:
        if job is None:
            listed: list[dict[str, Any]] = client.call("jobs.list")
        else:
            shown: dict[str, Any] = client.call("jobs.cancel" if cancel else "jobs.get", {"job": job})
            if wait:
                shown = client.call("jobs.wait", {"job": job}, progress=report, timeout_s=None)
    if job is None:
        print_json(listed) if json else _print(listed)
        return
    if json:
        print_json(shown)
    else:
        print_facts([(name, text) for name, text in _line(shown).items()])
    if shown["state"] == "failed":
        raise StartupError(f"the job has failed: {shown['error']['text']}")


def _print(found: list[dict[str, Any]]) -> None:
    if not found:
        print("nothing takes long now")
        return
    lines = [_line(job) for job in found]
    print_table(tuple(name.upper() for name in lines[0]), [tuple(line.values()) for line in lines])


def _line(job: dict[str, Any]) -> dict[str, str]:
    done = job["progress"]
    return {
        "job": job["job"],
        "state": job["state"],
        "method": job["method"],
        "progress": f"{done['done']} of {done['total'] or '?'} {done['unit']}" if done is not None else "",
        "uid": str(job["uid"]),
        "begun": moment(job["begun_ns"]),
        "ended": moment(job["ended_ns"]),
        "arguments": " ".join(f"{name}={value}" for name, value in job["arguments"].items()),
    }
