"""The verbs that look: status, stat, where, history, verify."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fusestore.cli.options import Json, Socket, What, Where
from fusestore.cli.output import duration, moment, print_facts, print_json, print_table, size
from fusestore.cli.progress import progress
from fusestore.cli.target import connect, find, reach
from fusestore.client.wire import QUICK_S
from fusestore.errors import StartupError, UsageError
from fusestore.model import counted


def status(where: Where = None, socket: Socket = None, json: Json = False) -> None:
    """Show roots, space, moves, index and health."""
    with reach(where, socket) as client:
        facts = client.call("dispatcher.status")
    if json:
        print_json(facts)
        return
    moves, index = facts["moves"], facts["index"]
    rows = f"{counted(index['inodes'], 'inode')}, {counted(index['events'], 'event')}"
    print_facts(
        [
            ("store", facts["store"]),
            ("mountpoint", facts["mountpoint"]),
            ("health", str(facts["health"])),
            ("daemon", f"pid {facts['pid']}, up {duration(facts['uptime_s'])}"),
            ("moves", ", ".join(f"{count} {state}" for state, count in moves.items())),
            ("replicas", f"{facts['replicas']['due']} due"),
            ("watchers", str(facts["watchers"])),
            ("index", f"{rows}, {size(index['size_bytes'])}"),
            ("cursor", f"epoch {index['epoch']}, seq {index['last_seq']}"),
        ]
    )
    print()
    print_table(
        ("ROOT", "STATE", "LAYOUT", "OUTSIDE", "FREE", "OF", "PATH"),
        [
            (
                root["name"],
                _state(root),
                root["layout"],
                root["outside"],
                size(root["free_bytes"]),
                size(root["total_bytes"]),
                root["path"],
            )
            for root in facts["roots"]
        ],
    )
    for root in facts["roots"]:
        if root["reason"]:
            print(f"\nroot {root['name']} is {root['state']} since {moment(root['since_ns'])}: {root['reason']}")
        if root["state"] == "doubted":
            print(f"  if that is right:              fusestore root accept {root['name']}")
            print(f"  when its disk was put right:   fusestore root retry {root['name']}")


def _state(root: dict[str, Any]) -> str:
    drain = root["drain"]
    if drain is not None and drain["state"] == "draining" and drain["files_left"]:
        return f"{root['state']}: {counted(drain['files_left'], 'file')}, {size(drain['bytes_left'])} left"
    if drain is None or drain["state"] == root["state"]:
        return str(root["state"])
    return f"{root['state']}, {'drained' if drain['state'] == 'drained' else 'to be drained'}"


def stat(what: What, socket: Socket = None, json: Json = False) -> None:
    """Show the record of one object.

    Its id, names, attributes, version, hash, state and root.
    """
    record = _ask("files.get", what, socket)
    if json:
        print_json(record)
        return
    print_facts(
        [
            ("id", record["id"]),
            *(("path", path) for path in record["paths"] or [record["path"]]),
            ("type", record["type"]),
            ("root", record["root"] or ""),
            ("state", record["state"]),
            ("version", str(record["version"])),
            ("hash", record["hash"] or ""),
            ("verified", f"{moment(record['verified_ns'])} {record['verified']}".strip()),
            ("size", counted(record["size"], "byte")),
            ("mode", f"{record['mode'] & 0o7777:04o}"),
            ("owner", f"{record['uid']}:{record['gid']}"),
            ("links", str(record["nlink"])),
            ("modified", moment(record["mtime_ns"])),
            ("created", moment(record["created_ns"])),
        ]
    )


def where(
    what: What,
    verified: Annotated[bool, typer.Option("--verify", help="Read each copy again and compare its hash.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Show where an object's bytes are on disk.

    ROLE is "home" for bytes under the object's name, "on its way" for those that a move has yet to bring there, "by id"
    for the file itself under its id instead of its name, as after drop and drain, "replica" for a further copy. With
    --verify the exit status is 1 when a copy differs or cannot be read.
    """
    client, data = find(what, socket)
    with client, progress("verifying") as report:
        method = "files.reread" if verified else "files.where"
        locations = client.call(method, data, progress=report, timeout_s=None if verified else QUICK_S)
    if json:
        print_json(locations)
    else:
        columns = ("ROOT", "ROLE", "STATE", "PRESENT", "SIZE", "VERIFIED", *(["FOUND"] if verified else []), "PATH")
        print_table(columns, [_where_row(place) for place in locations])
    bad = [place for place in locations if place.get("found", "ok") not in ("ok", "unknown")]
    if bad:
        raise StartupError(
            f"{len(bad)} of {counted(len(locations), 'copy differs', 'copies differ')} or cannot be read"
        )


def _where_row(place: dict[str, Any]) -> tuple[str, ...]:
    return (
        place["root"],
        place["role"],
        f"{place['state']}: {place['reason']}" if place["reason"] else place["state"],
        "yes" if place["present"] else "no",
        size(place["size"]),
        moment(place["verified_ns"]) if place["verified_ns"] else "",
        *([place["found"]] if "found" in place else []),
        place["path"],
    )


def history(what: What, socket: Socket = None, json: Json = False) -> None:
    """Show all that ever happened to an object.

    Oldest first. An object that was removed is found by its full id.
    """
    entries = _ask("files.history", what, socket)
    if json:
        print_json(entries)
        return
    print_table(
        ("TIME", "COMMAND", "OUTCOME", "OLD", "NEW", "ROOTS", "UID", "VERSION", "HASH"),
        [
            (
                moment(entry["time_ns"]),
                entry["command"],
                entry["outcome"],
                entry["old"],
                entry["new"],
                " → ".join(root for root in (entry["old_root"], entry["new_root"]) if root),
                str(entry["uid"]) if entry["uid"] >= 0 else "",
                str(entry["version"] or ""),
                entry["hash"][:23],
            )
            for entry in entries
        ],
    )


def verify(
    what: Annotated[str | None, typer.Argument(metavar="PATH|ID", help="An object and all below it.")] = None,
    root: Annotated[str | None, typer.Option(metavar="NAME", help="Everything on this root.")] = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Read bytes again and compare their hashes.

    Exit status 1 when something differs from the index or cannot be read, also because its root is away.
    """
    if (what is None) == (root is None):
        raise UsageError("give PATH|ID or --root NAME")
    client, data = (connect(socket), {"root": root}) if what is None else find(what, socket)
    with client, progress("verifying") as report:
        result = client.call("files.verify", data, progress=report, timeout_s=None)
    if json:
        print_json(result)
    else:
        print(f"{result['checked']} checked, {result['ok']} ok, {result['unknown']} without a hash to compare with")
        rows = [(bad["path"], bad["id"], _trouble(bad)) for bad in result["bad"]]
        rows += [(file["path"], file["id"], f"root away: {file['root']}") for file in result["away"]]
        if rows:
            print_table(("PATH", "ID", "TROUBLE"), rows)
    trouble = []
    if result["bad"]:
        differ = counted(result["checked"], "file differs or cannot be read", "files differ or cannot be read")
        trouble.append(f"{len(result['bad'])} of {differ}")
    if result["away"]:
        roots = ", ".join(sorted({file["root"] for file in result["away"]}))
        trouble.append(f"{counted(len(result['away']), 'file was', 'files were')} not read, the root is away: {roots}")
    if trouble:
        raise StartupError("; ".join(trouble))


def _trouble(bad: dict[str, Any]) -> str:
    return str(bad.get("error") or f"expected {bad['expected']}, found {bad['found']}")


def _ask(method: str, what: str, socket: str | None) -> Any:
    client, data = find(what, socket)
    with client:
        return client.call(method, data)
