"""What is asked about a file's copies: where each is, whether it still holds what it should, and when all are made."""

from __future__ import annotations

import stat
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import trio

from fusestore.core.placement import by_id
from fusestore.errors import FusestoreError
from fusestore.model import MOUNT_ROOT, InodeNo, Layout, Outcome, ReplicaState, counted
from fusestore.roots.hashing import tagged
from fusestore.service import describing, refreshing, replicating, succeeding, verifying, walking
from fusestore.service.replicas import ANY, roots_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.core.ports import Driver
    from fusestore.model import Inode, Owner, Replica, RootNo, Spot
    from fusestore.service.store import Store

    Report = Callable[[int, int, str], None]

PAGE: Final = 500
POLL_S: Final = 0.1  # between two looks at what is still due
MANY: Final = 10_000  # files that are looked at to say why they lack copies: some ten milliseconds
FOUND: Final[dict[Outcome | None, str]] = {Outcome.SOUND: "ok", Outcome.DAMAGED: "bad"}
SHARE: Final = 10  # what is due may be much: a look may take a tenth of the time


# -- what is lacking --------------------------------------------------------------------------------------------------


def shortages(store: Store) -> list[str]:
    """Why copies that are due are not made, where that does not pass by itself, and how many files are concerned."""
    known = islice(store.troubles.items(), MANY)
    found = Counter((root, reason) for (number, root), reason in known if store.index.is_due(root, number))
    more = "more than " * (len(store.troubles) > MANY)
    return [
        f"{more}{counted(files, 'file lacks', 'files lack')} a copy"
        + (f" on {store.roots[root].name}" if root != ANY else "")
        + f": {reason}"
        for (root, reason), files in found.items()
    ]


# -- where ------------------------------------------------------------------------------------------------------------


def locations(store: Store, inode: Inode) -> list[dict[str, Any]]:
    """Every copy of an object, its place first."""
    number = inode.number
    spots = store.disk_spots(inode, (*store.placement.spots(number), *store.index.skeletons(number)))
    replicas = store.index.replicas(number)
    return [
        *(_place(store, inode, spot) for spot in spots),
        *(_replica(store, inode, store.roots[root], record) for root, record in replicas),
    ]


def _place(store: Store, inode: Inode, spot: Spot) -> dict[str, Any]:
    driver = store.roots[spot.root]
    if spot in store.placement.home_spots(inode.number):
        role = "home"
    else:
        role = "by id" if spot.by_id and driver.layout is Layout.TREE else "on its way"
    size = _size(store, inode, spot)
    verification = describing.verification(store, inode)
    return {
        "root": driver.name,
        "path": describing.disk_path(store, driver, spot, inode),
        "role": role,
        "state": "current" if verification["verified"] in ("", "sound") else "bad",
        "present": size is not None,
        "size": inode.size if size is None else size,
        "hash": tagged(inode.hash_algorithm, inode.current_hash),
        "version": inode.version,
        "verified_ns": verification["verified_ns"],
        "reason": "",
    }


def _replica(store: Store, inode: Inode, driver: Driver, record: Replica) -> dict[str, Any]:
    spot = by_id(driver.number)
    size = _size(store, inode, spot) if record.backing is not None else None
    return {
        "root": driver.name,
        "path": describing.disk_path(store, driver, spot, inode),
        "role": "replica",
        "state": record.state.name.lower(),
        "present": size is not None,
        "size": record.size if size is None else size,
        "hash": tagged(record.algorithm, record.digest),
        "version": record.version,
        "verified_ns": record.verified_ns,
        "reason": store.troubles.get((inode.number, driver.number), ""),
    }


def _size(store: Store, inode: Inode, spot: Spot) -> int | None:
    """The size of what lies at a spot; None if nothing is there, or within reach."""
    try:
        at = store.places.at(spot, inode.number)
        return at.driver.stat(at.directory, at.name).st_size
    except (OSError, FusestoreError):
        return None


async def reread(store: Store, number: InodeNo, owner: Owner, report: Report) -> list[dict[str, Any]]:
    """The copies of a file, each with `found`: "ok", "bad", "unknown" (nothing to compare with), or why not.

    What that shows is recorded, as by `verifying.verify`.
    """
    inode = store.inode(number)
    if not stat.S_ISREG(inode.mode):
        return [{**each, "found": "unknown"} for each in locations(store, inode)]
    found: dict[str, str] = {}
    roots = {root.name: root.number for root in store.roots.values()}
    known = locations(store, inode)
    for position, each in enumerate(known):
        report(position, len(known), "copies")
        if each["role"] == "replica":
            found[each["root"]] = await _found(store, inode, roots[each["root"]])
        else:
            finding = await verifying.compare(store, inode, owner)
            found[each["root"]] = finding.error or FOUND.get(finding.outcome, "unknown")
    return [{**each, "found": found.get(each["root"], "unknown")} for each in locations(store, store.inode(number))]


async def _found(store: Store, inode: Inode, root: RootNo) -> str:
    try:
        record = store.index.replica(inode.number, root)
        if record is None or record.state is not ReplicaState.CURRENT:
            return "unknown"
        if not store.roots[root].online:
            return f"root {store.roots[root].name} is offline"
        return "ok" if await succeeding.reread(store, inode, root) else "bad"
    except (OSError, FusestoreError) as error:
        return str(error)


# -- due --------------------------------------------------------------------------------------------------------------


async def lacking(store: Store, top: InodeNo, root: RootNo) -> int:
    """How many files from `top` down have no current copy on a root, and do not belong there."""
    found: set[InodeNo] = set()
    for inode in walking.below(store, top):
        await trio.lowlevel.checkpoint()
        if inode.is_dir:
            await refreshing.refresh(store, inode.number)
        elif inode.is_regular and root not in roots_of(store, inode.number):
            record = store.index.replica(inode.number, root)
            if record is None or record.state is not ReplicaState.CURRENT:
                found.add(inode.number)
    return len(found)


# -- waiting ----------------------------------------------------------------------------------------------------------


async def made(store: Store, top: InodeNo, root: RootNo | None, report: Report) -> list[dict[str, Any]]:
    """Wait until the replicas below `top` are made, on `root` or on any.

    Returns:
        those that are not, because of what does not pass by itself: `path`, `root`, `reason`; with `root` also those
        that are not to be made there.
    """
    total = 0
    while True:
        began = trio.current_time()
        left = going_on = 0
        held: list[dict[str, Any]] = []
        for on, number in await _due_below(store, top, root):
            inode = store.index.inode(number)
            reason = _held(store, on, number)
            if reason and inode is not None:
                name = store.roots[on].name if on != ANY else ""
                held.append({"path": describing.text(store.path(number)), "root": name, "reason": reason})
                continue
            going_on += 1
            if inode is not None and inode.is_regular:
                left += max(0, inode.size - store.copied.get((number, on), 0))
        total = max(total, left)
        report(total - left, total, "bytes")
        if not going_on:
            return held if root is None else [*held, *await _alone_below(store, top, store.roots[root])]
        await trio.sleep(max(POLL_S, SHARE * (trio.current_time() - began)))


async def _due_below(store: Store, top: InodeNo, root: RootNo | None) -> list[tuple[RootNo, InodeNo]]:
    found = []
    for on in store.index.due_roots() if root is None else [root]:
        after = InodeNo(0)
        while numbers := store.index.due(on, after, PAGE):
            after = numbers[-1]
            found += [(on, number) for number in numbers if _concerns(store, number, top)]
            await trio.lowlevel.checkpoint()
    return found


async def _alone_below(store: Store, top: InodeNo, root: Driver) -> list[dict[str, Any]]:
    """The files that have no second copy because the only one is on `root` itself; see `replicating.alone`."""
    found: dict[InodeNo, dict[str, Any]] = {}
    for inode in walking.below(store, top):
        reason = replicating.alone(store, inode.number, root) if inode.is_regular else ""
        if reason:
            path = describing.text(store.path(inode.number))
            found[inode.number] = {"path": path, "root": root.name, "reason": reason}
        await trio.lowlevel.checkpoint()
    return list(found.values())


def _concerns(store: Store, number: InodeNo, top: InodeNo) -> bool:
    """Whether what is due of `number` is below `top`, or may come to be."""
    inode = store.index.inode(number)
    if top in (MOUNT_ROOT, number) or inode is None:
        return True
    return top in set(walking.above(store, number)) or (inode.is_dir and number in set(walking.above(store, top)))


def _held(store: Store, root: RootNo, number: InodeNo) -> str:
    """What keeps a copy from being made that does not pass by itself; "" if nothing does."""
    driver = store.roots.get(root)
    if driver is not None and not driver.online:
        return f"root {driver.name} is offline"
    return store.troubles.get((number, root), "")
