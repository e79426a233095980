"""The verbs for a store that need no daemon: init, root add, check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fusestore import config
from fusestore.cli.options import Json, Store
from fusestore.cli.output import print_json, print_table
from fusestore.control.client import Client
from fusestore.control.locate import locate
from fusestore.errors import NoDaemon, UsageError
from fusestore.model import Outside


def init(store: Store, json: Json = False) -> None:
    """Create a store.

    It has uploads, downloads and one resource root, main.
    """
    from fusestore.daemon import create_store

    path = Path(os.path.abspath(store))
    create_store(path)
    if json:
        print_json({"store": str(path)})
    else:
        print(f"created {path}; next: fusestore mount {path} MOUNTPOINT")


def add(
    store: Store,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name below resources/ in the mount.")],
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Its directory; what lies there is adopted.")],
    outside: Annotated[
        Outside | None, typer.Option(help="Who else touches DIR.  [default: none inside STORE, otherwise writers]")
    ] = None,
    json: Json = False,
) -> None:
    """Declare a resource root at DIR.

    DIR is created if it is missing. The root shows at the next mount.
    """
    path = Path(os.path.abspath(directory))
    if locate(path) is not None:
        raise UsageError(f"{path} lies inside a mount of fusestore itself; a root must be a directory on a disk")
    settings = config.add_root(Path(store), name, path, outside)
    added = next(root for root in settings.roots if root.name == name)
    mounted = _is_mounted(settings)
    if json:
        print_json({"name": name, "path": str(path), "outside": added.outside.value, "mounted": mounted})
    else:
        print(f"declared root {name} at {path} (outside: {added.outside.value})")
        if mounted:
            print("the store is mounted: the root shows at its next mount")


def _is_mounted(settings: config.Config) -> bool:
    try:
        with Client(settings.socket):
            return True
    except NoDaemon:
        return False


def check(store: Store, json: Json = False) -> None:
    """Prove the invariants of an unmounted store.

    Exit status 1 when one does not hold, 4 when the store is in use.
    """
    from fusestore.index.check import check as violations_of
    from fusestore.index.store import Index

    settings = config.load(Path(store))
    index = Index.open(settings.store / config.INDEX_NAME)
    try:
        violations = list(violations_of(index))
        counts = index.counts()
    finally:
        index.close(clean=index.was_clean)
    if json:
        found = [{"invariant": violation.invariant, "text": violation.text} for violation in violations]
        print_json({"ok": not violations, "violations": found, "rows": counts})
    elif violations:
        print_table(("INVARIANT", "VIOLATION"), violations)
    else:
        rows = f"{counts['inodes']} inodes, {counts['events']} events"
        print(f"{settings.store}: all invariants of the index hold ({rows}); `fusestore verify` compares the disks")
    if violations:
        raise typer.Exit(1)
