"""A root that suddenly misses most of its files is stopped and asked about, before that is taken for their removal.

The rule: when within a minute more objects are found missing on a root than lie on its disk, the root is *doubted*.
From then on it is offline, also after a restart, until an operator says what is true (`service.surveying`), which
settles what was missing until then. A directory that is missing counts with all that the index knows below it. What was
removed through the mount does not count, nor what came after the minute began: what other programs make and take away
again would add up to more than ever lay there. Roots of fewer than 16 objects are believed, and so are those on which
20 000 lie: counting must not hold anybody up.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from msgspec.structs import replace

from fusestore.errors import FusestoreError, RootOffline
from fusestore.model import MOUNT_ROOT, Absence, Cause, Operation, Spot, counted
from fusestore.service import walking
from fusestore.service.restoring import YOUNG_NS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusestore.core.ports import Driver
    from fusestore.model import Inode, InodeNo, Kind
    from fusestore.service.store import Store

log = structlog.get_logger()

WINDOW_S: Final = 60.0
SMALL: Final = 16
MANY: Final = 20_000
LOOK_S: Final = 1.0  # between two looks at all of a root's top
PAGE: Final = 500


class Losses:
    """What was found missing on one root within a minute.

    Attributes:
        since_ns: when that minute began: the first was found missing.
        lost: objects that were there by then, and were taken for removed.
        left: how many lay on the disk at least, when that was last counted.
        looked: when all of its top was last looked at.
        counted: what is among the lost; while a listing takes them for removed one by one, others may miss some, too.
    """

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.since_ns = time.time_ns()
        self.lost = 0
        self.left = 0
        self.looked = self.began - LOOK_S
        self.counted: set[InodeNo] = set()


def check(store: Store, root: Driver, missing: Sequence[InodeNo]) -> None:
    """Before what is missing is taken for removed.

    Raises:
        RootOffline: with it most of the root is gone; it is doubted now, and nothing may be concluded.
    """
    window = _window(store, root)
    missing = [number for number in missing if number not in window.counted]
    if not missing:
        return
    doubts = suspicion(store, root, missing)
    if doubts:
        _doubt(store, root, doubts)
        raise RootOffline(root.name)
    gone = _count(store, missing, window)
    window.lost, window.left = window.lost + gone.old, window.left - gone.all
    window.counted.update(missing)


def check_name(store: Store, root: Driver, directory: InodeNo, number: InodeNo) -> None:
    """The same for one name that was looked for; in a root's top with a look at all names there.

    Raises:
        RootOffline
    """
    window = _window(store, root)
    if store.tops.get(directory) == root.number and time.monotonic() - window.looked >= LOOK_S:
        window.looked = time.monotonic()
        doubts = suspicion(store, root, _missing_in_top(store, root, directory))
        if doubts:
            _doubt(store, root, doubts)
            raise RootOffline(root.name)
    check(store, root, [number])


def suspicion(store: Store, root: Driver, missing: Sequence[InodeNo]) -> str:
    """What is suspicious about these being missing; "" when nothing is, or an operator has said that it is right."""
    if root.number in store.accepting:
        return ""
    window = _window(store, root)
    missing = [each for each in missing if each not in window.counted and not _may_be_the_cuts(store, each)]
    lost = window.lost + _count(store, missing, window).old
    if not missing or lost <= window.left:
        return ""
    window.left = root.count(2 * min(lost, MANY) + SMALL)  # twice what would do, lest each name have it counted again
    if min(lost, MANY) <= window.left or lost + window.left < SMALL:
        return ""
    return describe(lost, window.left, store.path(missing[0]) or b"")


def describe(missing: int, there: int, example: bytes) -> str:
    """Why a root is doubted."""
    lost = counted(missing, "object is", "objects are")
    return f"{lost} missing, {example.decode(errors='replace')} among them, and {counted(there, 'is', 'are')} there"


def _may_be_the_cuts(store: Store, number: InodeNo) -> bool:
    """Whether a power cut may have taken an object, so young was it."""
    if not store.index.lost:
        return False
    inode = store.index.inode(number)
    return inode is not None and inode.created_ns > store.index.lost_ns[0] - YOUNG_NS


def _window(store: Store, root: Driver) -> Losses:
    window = store.losses.get(root.number)
    if window is None or time.monotonic() - window.began > WINDOW_S:
        window = store.losses[root.number] = Losses()
    return window


class Counted(NamedTuple):
    """How many objects are missing.

    Attributes:
        old: those among them that were there before the minute began.
    """

    all: int
    old: int


def _count(store: Store, tops: Sequence[InodeNo], window: Losses) -> Counted:
    """Count what the index has from `tops` down, at most `MANY` objects."""
    every = old = 0
    for top in tops:
        for inode in islice(walking.below(store, top), MANY - every):
            every += 1
            old += not _has_come(inode, window)
    return Counted(every, old)


def _has_come(inode: Inode, window: Losses) -> bool:
    """Whether an object came after the minute began: it is new to us, and on its disk."""
    born_ns = inode.backing.btime_ns if inode.backing is not None else 0
    return inode.created_ns > window.since_ns and (born_ns == 0 or born_ns > window.since_ns)


def top_of(store: Store, root: Driver) -> InodeNo:
    """The directory that shows a root."""
    return next(top for top, number in store.tops.items() if number == root.number)


def _missing_in_top(store: Store, root: Driver, top: InodeNo) -> list[InodeNo]:
    found = set(root.list(root.top))
    missing: list[InodeNo] = []
    after = b""
    while names := store.index.dentries(top, after, PAGE):
        after = names[-1][0]
        missing += [
            number
            for name, number in names
            if name not in found and Spot(root.number, top, name) in store.placement.spots(number)
        ]
    return missing


def _doubt(store: Store, root: Driver, reason: str) -> None:
    """From here on the root is offline; `jobs.keeper` lets go of its disk."""
    log.warning("root is doubted", root=root.name, reason=reason)
    root.online = False
    store.absent[root.number] = Absence(time.time_ns(), reason, is_doubted=True)
    record(store, root, "root-doubted", reason)
    store.on_retry(None)


def record(store: Store, root: Driver, kind: Kind, reason: str) -> None:
    """Record that a root is doubted, and why, or, with an empty reason, that its losses are settled."""
    if not reason:
        store.losses.pop(root.number, None)
    known = next(each for each in store.index.roots() if each.number == root.number)
    batch = store.batch()
    batch.root(replace(known, doubted_ns=time.time_ns() if reason else 0, doubt=reason))
    top = store.inode(MOUNT_ROOT)
    store.event(batch, top, Operation.UPDATE, kind, path=b"", root=root.name, cause=Cause.OUTSIDE, detail=reason)
    try:
        store.index.apply(batch)
    except FusestoreError as error:
        log.warning("a doubt is not recorded", root=root.name, error=str(error))
