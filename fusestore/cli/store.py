"""The verbs for a store that need no daemon: init, root add, check, rebuild."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from msgspec import structs

from fusestore import config
from fusestore.cli.options import Json, Store
from fusestore.cli.output import moment, print_json, print_table, readable
from fusestore.cli.progress import progress
from fusestore.client import Client
from fusestore.control.locate import locate
from fusestore.errors import NoDaemon, RootUnavailable, StoreError, UsageError
from fusestore.model import Outside, counted
from fusestore.roots.marker import MarkerDamaged, claimant


def init(store: Store, json: Json = False) -> None:
    """Create a store.

    It has uploads, downloads and one resource root, main.
    """
    from fusestore.daemon import create_store

    path = Path(os.path.abspath(store))
    if locate(path) is not None:
        raise StoreError(f"{path} lies inside a mount of fusestore itself; a store must be a directory on a disk")
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
    take: Annotated[
        bool, typer.Option("--take", help="Though another store claims DIR; then mount with --take.")
    ] = False,
    json: Json = False,
) -> None:
    """Declare a resource root at DIR.

    DIR is created if it is missing. The root shows at the next mount.
    """
    path = Path(os.path.abspath(directory))
    if locate(path) is not None:
        raise UsageError(f"{path} lies inside a mount of fusestore itself; a root must be a directory on a disk")
    if not take:
        other = _claimant(path)
        if other is not None and other != _claimant(config.load(Path(store)).areas[0].path):
            raise RootUnavailable(
                f"{path} belongs to another store ({other}); --take takes it over, here and at the mount"
            )
    settings = config.add_root(Path(store), name, path, outside)
    added = next(root for root in settings.roots if root.name == name)
    mounted = _is_mounted(settings)
    if json:
        print_json({"name": name, "path": str(path), "outside": added.outside.value, "mounted": mounted})
    else:
        print(f"declared root {name} at {path} (outside: {added.outside.value})")
        if mounted:
            print("the store is mounted: the root shows at its next mount")


def _claimant(directory: Path) -> UUID | None:
    """The store that claims a root's directory; None where nobody has, or nobody can tell."""
    try:
        return claimant(directory)
    except (OSError, MarkerDamaged):
        return None


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
        rows = f"{counted(counts['inodes'], 'inode')}, {counted(counts['events'], 'event')}"
        print(f"{settings.store}: all invariants of the index hold ({rows}); `fusestore verify` compares the disks")
    if violations:
        raise typer.Exit(1)


def rebuild(
    store: Store,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be found; change nothing.")] = False,
    trust_copies: Annotated[
        bool,
        typer.Option("--trust-copies", help="After a restore by cp -a or rsync -X: a copy is what its label says."),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Though the present index is sound; it is kept beside.")
    ] = False,
    json: Json = False,
) -> None:
    """Rebuild the index of an unmounted store from its roots.

    Ids, inode numbers, paths, hashes and links come back; history and events do not. The old index is kept beside.
    """
    from fusestore.daemon import rebuild_store

    settings = config.load(Path(store))
    with progress("rebuilding") as show:
        report = rebuild_store(settings, replace=replace, trust_copies=trust_copies, dry_run=dry_run, progress=show)
    if json:
        roots = [structs.asdict(root) for root in report.roots]
        told = [{"root": root, "what": what, "path": os.fsdecode(path)} for root, what, path in report.told]
        kept = str(report.kept) if report.kept is not None else None
        answer = {"dry_run": dry_run, "roots": roots, "told": told, "moves": report.moves, "kept": kept}
        print_json({**answer, "said_ns": report.said_ns})
        return
    names = report.roots[0].__struct_fields__
    shown = [name for name in names if name == "name" or any(getattr(root, name) for root in report.roots)]
    columns = ["ROOT" if name == "name" else name.replace("_", " ").upper() for name in shown]
    print_table(columns, [[str(getattr(root, name)) for name in shown] for root in report.roots])
    for root, what, path in report.told:
        print(readable(f"{what}: {root}: {os.fsdecode(path)}"))
    if any(root.copies for root in report.roots) and not trust_copies:
        print("copies got new ids; if they are a restored disk, see --trust-copies")
    if any(root.left for root in report.roots):
        print("left: old bytes of files that had just been moved, compared with them; the next mount removes them")
    if any(root.further_copies for root in report.roots):
        print("further copies differ from the file with their id; the next mount shows those with a name as new files")
    if report.said_ns:
        print(f"the manifests end at {moment(report.said_ns)}: what was done later is known where the disks show it,")
        print("and names given or removed later may be the old ones")
    if report.moves:
        print(f"{counted(report.moves, 'move begins', 'moves begin')} again at the next mount")
    if dry_run:
        print("nothing was changed")
    elif report.kept is not None:
        print(f"the old index is kept as {report.kept}")
