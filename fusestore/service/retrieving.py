"""What lies in a trash comes back: as a new file, under a name that is free, on the file system where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uuid_utils import uuid7

from fusestore.core.intents import Create
from fusestore.core.namespace import check_name, check_parent
from fusestore.errors import AlreadyExists, InvalidRequest, NoRoot, NotFound
from fusestore.service import adopting, creating, describing, draining, parents, trash
from fusestore.service.deciding import Decided
from fusestore.service.renaming import find_target
from fusestore.service.syncing import sync

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.model import InodeNo, Owner, Trashed
    from fusestore.service.store import Store


def listed(store: Store, root: str | None) -> list[dict[str, Any]]:
    """What lies in the trash of one root, or of all.

    Raises:
        NotFound: the root.
    """
    return [described(store, trashed) for each in roots_of(store, root) for trashed in trash.entries(store, each)]


def roots_of(store: Store, name: str | None) -> list[Driver]:
    """The root of this name, or all.

    Raises:
        NotFound
    """
    found = [root for root in store.roots.values() if name in (None, root.name)]
    if not found:
        raise NoRoot(name)
    return found


def described(store: Store, trashed: Trashed) -> dict[str, Any]:
    return {
        "name": describing.text(trashed.name),
        "id": describing.id_text(trashed.id),
        "root": store.roots[trashed.root].name,
        "path": describing.text(trashed.path),
        "size": trashed.size,
        "held_bytes": trashed.held_bytes,
        "why": trashed.why,
        "removed_ns": trashed.removed_ns,
        "until_ns": trashed.until_ns,
    }


def find(store: Store, what: str) -> Trashed:
    """What lies in a trash under this name, id, or unique beginning of one.

    Raises:
        NotFound; InvalidRequest: there are several.
    """
    wanted = what.lower()
    found = [
        trashed
        for root in store.roots.values()
        for trashed in trash.entries(store, root)
        if describing.text(trashed.name).startswith(wanted) or trashed.id.hex().startswith(wanted.replace("-", ""))
    ]
    if len(found) > 1:
        raise InvalidRequest(f"{what} stands for {len(found)} files in the trash; give the name of one")
    if not found:
        raise NotFound(f"{what} in the trash")
    return found[0]


async def restore(store: Store, trashed: Trashed, parent: InodeNo, name: bytes, owner: Owner) -> dict[str, Any]:
    """Give a file in the trash a name again; it is a new file, with an id of its own.

    Returns:
        its `id` and `path`, and the `old_id` and `old_path` of what it was.

    Raises:
        AlreadyExists, NotFound, NotADirectory, Protected, NameTooLong, BadName, RootOffline, RootReadOnly, RootDrained,
        IndexFull;
        InvalidRequest: the name lies on another file system; OSError as the disk says.
    """
    root = store.roots[trashed.root]
    # The release that brought it here must not be done once more, after a crash, to what has its old name again.
    await sync(store, root)
    check_name(name)
    check_parent(store.index.inode(parent), name, store.tops)
    if not store.index.is_in_trash(trashed):
        raise NotFound(f"{describing.text(trashed.name)} in the trash")
    if find_target(store, parent, name) is not None:
        raise AlreadyExists(name)
    home = store.writable(store.home_root(parent))
    draining.refuse(store, home)
    if home.device != root.device:
        raise InvalidRequest(f"it lies on root {root.name}: restore it to a path there, and mv it on")
    seen = root.stat(root.trash(), trashed.name)
    intent = Create(
        inode=store.index.new_inode(),
        id=uuid7().bytes,
        parent=parent,
        name=name,
        spot=store.placement.spot_in(home.number, parent, name),
        mode=seen.st_mode,
        uid=seen.st_uid,
        gid=seen.st_gid,
        trash=trashed,
    )
    at = parents.prepare(store, intent.spot, intent.inode, intent.id)
    try:
        with Decided(store, intent, grows=True) as key:
            root.rename(root.trash(), trashed.name, at.directory, at.name, replace=False)
    except FileExistsError:
        adopting.adopt_name(store, parent, at)  # somebody else put it there: now it is known
        raise AlreadyExists(name) from None
    made = creating.settle_create(store, intent, at, key=key, owner=owner).inode
    old = {"old_id": describing.id_text(trashed.id), "old_path": describing.text(trashed.path)}
    return {"id": describing.id_text(made.id), "path": describing.text(store.path(made.number)), **old}
