"""Making an index anew from the roots: first what their manifests say, then what is seen on their disks.

    manifests ─► an index as of their last frames ─► every disk looked at (`finding`) ─► moves begun again ─► check
                                                                                   └─► put in the place of the old one

The old index is kept beside. Of the disks nothing is changed but labels that tell of another object. Lost are history
and events; numbers go on beyond all that the lost index can have given out, in a new epoch.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import shutil
import time
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from fusestore import config as settings
from fusestore.errors import NewerFormat, RootUnavailable, StoreError, Unsound
from fusestore.index import opening
from fusestore.index.batch import Batch
from fusestore.index.check import check
from fusestore.index.numbers import beyond
from fusestore.index.schema import PARENTS, TAG, u64
from fusestore.index.store import Index
from fusestore.model import CONTROL_NAME, MOUNT_ROOT, RESOURCES, InodeNo, Layout, RootNo, RootRecord
from fusestore.roots.local import LocalRoot
from fusestore.roots.marker import MarkerDamaged, claimant
from fusestore.service.founding import AREAS, new_directory, plant_skeleton, take_in
from fusestore.service.rebuild.finding import Finder
from fusestore.service.rebuild.identifying import Found, Identities
from fusestore.service.rebuild.labels import survey
from fusestore.service.rebuild.mending import mend, occupy
from fusestore.service.rebuild.tally import Report, Tally
from fusestore.service.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from fusestore.config import Config, RootConfig
    from fusestore.index.check import Violation
    from fusestore.roots.manifest import Entry, Frame, Head, Manifest
    from fusestore.service.rebuild.labels import Progress, Survey

log = structlog.get_logger()

NEW_NAME: Final = settings.INDEX_NAME + ".new"
REBUILT: Final = "the index was rebuilt from the roots; what happened before is not in it"


def rebuild(
    config: Config,
    *,
    replace: bool = False,
    trust_copies: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda done, total, unit: None,
) -> Report:
    """Rebuild the index of a store that is not mounted.

    Args:
        replace: though there is a sound one.
        trust_copies: an object whose label tells of another one, as after a restore by `cp -a` or `rsync -X`, is that
            one all the same, if no other claims its id.
        dry_run: change nothing, on no disk.
        progress: called with objects done, in all, and "objects".

    Raises:
        StoreError: the store is in use, or its index is sound; RootUnavailable; OSError as the disks say.
    """
    directory, new = config.store / settings.INDEX_NAME, config.store / NEW_NAME
    _refuse_used(directory)
    with contextlib.ExitStack() as undo:
        uuid, attached = _attach(config, undo)
        if not replace:
            _refuse_sound(directory, config)
        shutil.rmtree(new, ignore_errors=True)
        undo.callback(shutil.rmtree, new, ignore_errors=True)
        index = Index.open(new, create=True, uuid=uuid, map_bytes=config.index.map_bytes, commit_s=5.0)
        clean = False
        try:
            report = _fill(config, index, attached, trust_copies, dry_run, progress)
            violations = list(check(index))
            clean = True
        finally:
            index.close(clean=clean)
        if violations:
            raise Unsound(_told(violations))
        if not dry_run:
            report.kept = _put_in_place(directory, new)
    return report


def _told(violations: list[Violation]) -> str:
    first = violations[0]
    return f"the rebuilt index does not hold ({len(violations)} violations, {first.invariant}: {first.text})"


# -- before -------------------------------------------------------------------------------------------------------


def _refuse_used(directory: Path) -> None:
    """Refuse while somebody has the index; the roots' own locks tell of a daemon whose index was taken away.

    Raises:
        StoreError
    """
    if (directory / opening.DATA_NAME).exists():
        os.close(opening.lock(directory, create=False))


def _refuse_sound(directory: Path, config: Config) -> None:
    """Refuse where there is an index that holds.

    Raises:
        StoreError: it does; NewerFormat.
    """
    if not (directory / opening.DATA_NAME).exists():
        return
    try:
        index = Index.open(directory, map_bytes=config.index.map_bytes)
    except NewerFormat:
        raise
    except StoreError as error:
        log.info("the index cannot be opened", error=str(error))
        return
    try:
        sound = next(check(index), None) is None
    finally:
        index.close(clean=index.was_clean)
    if sound:
        raise StoreError(
            f"{config.store} has an index and all its invariants hold; --replace rebuilds it all the same, and history"
            " and events are lost"
        )


class Attached(NamedTuple):
    """One root, locked for this process, with what its manifest begins with; None where it has none of this store."""

    root: LocalRoot
    manifest: Manifest
    head: Head | None


def _attach(config: Config, undo: contextlib.ExitStack) -> tuple[bytes, list[Attached]]:
    """The store's uuid, and all its roots.

    Raises:
        RootUnavailable
    """
    specs = [*((spec, Layout.ID) for spec in config.areas), *((spec, Layout.TREE) for spec in config.roots)]
    uuid = _store_uuid([spec for spec, _ in specs])
    attached: list[Attached] = []
    fresh: list[RootConfig] = []  # declared, and never mounted
    for spec, layout in specs:
        if spec.path.is_dir() and not (spec.path / os.fsdecode(CONTROL_NAME)).exists():
            fresh.append(spec)
            continue
        root = LocalRoot.attach(RootNo(0), spec, layout, uuid, create=False)
        undo.callback(root.close)
        manifest = undo.enter_context(root.manifest())
        head = manifest.head()
        ours = head is not None and (head.store, head.root) == (uuid, root.uuid)
        attached.append(Attached(root, manifest, head if ours else None))
    known = {record.name for each in attached if each.head is not None for record in each.head.roots}
    for spec in fresh:
        if spec.name in known or spec in config.areas:
            raise RootUnavailable(
                f"root {spec.name}: {spec.path} has no marker (.fusestore/root.toml); is its disk mounted?"
            )
    return uuid, attached


def _store_uuid(specs: list[RootConfig]) -> bytes:
    """The uuid of the store, as the first marker that can be read has it: uploads' comes first."""
    for spec in specs:
        with contextlib.suppress(OSError, MarkerDamaged):
            return claimant(spec.path).bytes
    raise RootUnavailable(
        f"no root has a marker (.fusestore/root.toml), {specs[0].path} neither; are the disks mounted?"
    )


# -- from the manifests -------------------------------------------------------------------------------------------


def _fill(
    config: Config,
    index: Index,
    attached: list[Attached],
    trust_copies: bool,
    dry_run: bool,
    progress: Progress,
) -> Report:
    noted = [each for each in attached if each.head is not None]
    manifests = [each.manifest for each in noted]
    highest = _highest(manifests)
    seen = survey([each.root for each in attached], trust_copies=trust_copies, progress=progress)
    _begin(index, highest, seen)
    tops = _take_in_roots(index, attached)
    roots = {each.root.number: each.root for each in attached}
    store = Store(config, index, roots, tops, {})
    tally = Tally({number: root.name for number, root in roots.items()})
    tally.report.said_ns = max((manifest.written_ns() for manifest in manifests), default=0)
    try:
        found = Found(_load(store, manifests))
        _see_tops(store)
        occupy(store)
        recorded = {each.root.number for each in noted}
        identities = Identities(store, roots, seen, tally, found, recorded=recorded, write_labels=not dry_run)
        Finder(store, roots, identities, found, tally, total=seen.objects, progress=progress).run()
        mend(store, found, tally)
    finally:
        store.places.close()
    return tally.report


def _highest(manifests: list[Manifest]) -> tuple[int, int, int, int]:
    """The highest inode number, seq, epoch and move that the lost index is known to have given out."""
    inode = seq = epoch = move = 0
    for manifest in manifests:
        for frame in manifest.frames():
            inode, seq = max(inode, frame.inode_limit), max(seq, frame.seq)
            epoch, move = max(epoch, frame.epoch), max(move, frame.last_move)
    return inode, seq, epoch, move


def _begin(index: Index, highest: tuple[int, int, int, int], seen: Survey) -> None:
    inode, seq, epoch, move = highest
    index.go_on_from(beyond(max(inode, seen.last_inode), seq, epoch, move), REBUILT)
    plant_skeleton(index)


def _take_in_roots(index: Index, attached: list[Attached]) -> dict[InodeNo, RootNo]:
    """Give the roots their numbers back, and those that no manifest knows new ones; returns the tops."""
    known = {record.uuid: record for each in attached if each.head is not None for record in each.head.roots}
    tops: dict[InodeNo, RootNo] = {}
    for root in sorted((each.root for each in attached), key=lambda root: root.uuid not in known):
        record = known.get(root.uuid)
        if record is not None:
            record = RootRecord(record.number, root.name, root.uuid, root.layout, record.top)
            batch = Batch()
            batch.root(record)
            index.apply(batch)
            root.number = record.number
        else:
            root.number = index.new_root()
            record = take_in(index, root)
        tops[record.top] = root.number
    return tops


def _load(store: Store, manifests: list[Manifest]) -> set[InodeNo]:
    """Bring in what the manifests say, in the order of its being said; returns what is on its way."""
    moving: set[InodeNo] = set()
    frames = heapq.merge(*(manifest.frames() for manifest in manifests), key=_order)
    for _, together in groupby(frames, key=_order):
        same = list(together)
        for frame in same:
            for number in frame.gone:
                _replace(store, number, None)
                moving.discard(number)
        for frame in same:
            for entry in frame.entries:
                _replace(store, entry.inode.number, entry)
                (moving.add if entry.moving else moving.discard)(entry.inode.number)
        if store.index.wants_commit:
            store.index.commit()
    store.directory_changed()
    return moving


def _order(frame: Frame) -> tuple[int, int]:
    return frame.epoch, frame.change


def _replace(store: Store, number: InodeNo, entry: Entry | None) -> None:
    """Have the index say of an inode what an entry says, and nothing else; None: nothing at all."""
    index = store.index
    batch = store.batch()
    old = index.inode(number)
    if old is not None:
        for parent, name in index.parents(number):
            forget_name(store, batch, parent, name, number)
        batch.drop_inode(old)
        index.apply(batch)
        batch = store.batch()
    if entry is None:
        return
    other = index.by_id(entry.inode.id)
    if other is not None:  # the skeleton of the new index has ids of its own until a manifest gives the old ones back
        _replace(store, other, None)
    batch.put_inode(entry.inode)
    for parent, name in entry.names:
        holder = index.dentry(parent, name)
        if holder is not None and holder != number:
            forget_name(store, batch, parent, name, holder)
        batch.link(parent, name, number)
    batch.place(number, entry.placement or None, None)
    for spot in entry.skeletons:
        batch.skeleton(number, spot)
    for root, replica in entry.replicas:
        batch.replica(number, root, replica)
    for name, value in entry.xattrs.items():
        batch.xattr(number, name, value)
    index.apply(batch)


def forget_name(store: Store, batch: Batch, parent: InodeNo, name: bytes, number: InodeNo) -> None:
    """Add to a batch that a name does not lead to an inode, whoever has it now."""
    if store.index.dentry(parent, name) == number:
        batch.unlink(parent, name, number)
    else:
        batch.rows[TAG[PARENTS] + u64(number) + u64(parent) + name] = None


def _see_tops(store: Store) -> None:
    """Make what is missing of the roots' own directories."""
    for top, number in store.tops.items():
        root = store.roots[number]
        parent = MOUNT_ROOT if AREAS.get(root.name) == top else RESOURCES
        batch = store.batch()
        if store.index.inode(top) is None:
            batch.put_inode(new_directory(top))
        name = os.fsencode(root.name)
        if store.index.dentry(parent, name) != top:
            for old_parent, old_name in store.index.parents(top):
                batch.unlink(old_parent, old_name, top)
            batch.link(parent, name, top)
        store.index.apply(batch)
    store.directory_changed()


# -- after --------------------------------------------------------------------------------------------------------


def _put_in_place(directory: Path, new: Path) -> Path | None:
    """Have the new index be the store's; returns where the old one is kept."""
    kept = None
    if directory.exists():
        kept = directory.with_name(f"{settings.INDEX_NAME}.old-{time.strftime('%Y%m%dT%H%M%S')}")
        directory.rename(kept)
    new.rename(directory)
    fd = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return kept
