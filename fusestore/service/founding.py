"""Making a store, and opening one: the skeleton of the tree, and the roots that hang in it."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from uuid_utils import uuid7

from fusestore import config as settings
from fusestore.errors import RootUnavailable, StoreError, UsageError
from fusestore.index.batch import Batch
from fusestore.index.store import Index
from fusestore.model import (
    DOWNLOADS,
    MOUNT_ROOT,
    RESOURCES,
    UPLOADS,
    Absence,
    Inode,
    InodeNo,
    Layout,
    RootNo,
    RootRecord,
    Stamp,
)
from fusestore.roots.local import LocalRoot
from fusestore.service.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from fusestore.config import Config, RootConfig
    from fusestore.core.ports import Driver

SKELETON = ((MOUNT_ROOT, b""), (UPLOADS, b"uploads"), (DOWNLOADS, b"downloads"), (RESOURCES, b"resources"))
AREAS: Mapping[str, InodeNo] = {settings.UPLOADS_NAME: UPLOADS, settings.DOWNLOADS_NAME: DOWNLOADS}


def create_store(path: Path) -> None:
    """Make a store at `path`, which must be missing or an empty directory.

    Raises:
        StoreError: it is neither; OSError as the disk says.
    """
    try:
        path.mkdir(exist_ok=True)
        entries = os.listdir(path)
    except FileExistsError:
        raise StoreError(f"{path} is not a directory") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be made a store: {error.strerror}") from None
    if entries:
        raise StoreError(f"{path} is not empty; choose an empty or new directory")
    # The config comes after the index: without it nobody takes the directory for a store.
    index = Index.open(path / settings.INDEX_NAME, create=True)
    try:
        plant_skeleton(index)
    finally:
        index.close()
    config_file = path / settings.CONFIG_NAME
    with open(config_file, "x", encoding="utf-8") as file:
        file.write(settings.default_toml())
    config = settings.load(path)
    for area in config.areas:
        area.path.mkdir()
    for root in config.roots:
        root.path.mkdir()


def plant_skeleton(index: Index) -> None:
    """Give a new index the directories above the roots."""
    batch = Batch()
    for number, name in SKELETON:
        batch.put_inode(new_directory(number))
        if name:
            batch.link(MOUNT_ROOT, name, number)
    index.apply(batch)


def new_directory(number: InodeNo) -> Inode:
    now_ns = time.time_ns()
    return Inode(
        number=number,
        id=uuid7().bytes,
        mode=stat.S_IFDIR | 0o755,
        uid=os.geteuid(),
        gid=os.getegid(),
        rdev=0,
        size=0,
        nlink=2,
        atime_ns=now_ns,
        mtime_ns=now_ns,
        ctime_ns=now_ns,
        created_ns=now_ns,
    )


def open_store(config: Config, *, degraded: bool = False, take: bool = False) -> Store:
    """Open a store with all its roots; a root that the config has and the index has not is taken in.

    Args:
        degraded: go on without a root that the index knows and that cannot be reached; it is offline.
        take: take roots over from the store that claims them.

    Raises:
        StoreError, RootUnavailable, UsageError.
    """
    index = Index.open(
        config.store / settings.INDEX_NAME, map_bytes=config.index.map_bytes, commit_s=config.index.commit_s
    )
    roots: dict[RootNo, Driver] = {}
    absent: dict[RootNo, Absence] = {}
    tops: dict[InodeNo, RootNo] = {}
    try:
        known = {record.name: record for record in index.roots()}
        specs = [*((spec, Layout.ID) for spec in config.areas), *((spec, Layout.TREE) for spec in config.roots)]
        refuse_missing(config, known)
        for spec, layout in specs:
            record = known.get(spec.name)
            driver, absence = _attach(index, spec, layout, record, degraded=degraded, take=take)
            if absence is not None:
                absent[driver.number] = absence
            if record is None:
                record = take_in(index, driver)
            roots[driver.number] = driver
            tops[record.top] = driver.number
    except BaseException:
        for driver in roots.values():
            driver.close()
        index.close(clean=index.was_clean)
        raise
    return Store(config, index, roots, tops, absent)


def refuse_missing(config: Config, known: Iterable[str]) -> None:
    """Refuse a config without all the roots that are `known`.

    Raises:
        UsageError
    """
    missing = set(known) - {root.name for root in (*config.areas, *config.roots)}
    if missing:
        name = min(missing)
        raise UsageError(
            f"{config.store / settings.CONFIG_NAME}: roots.{name}: expected this root, which the store knows,"
            " found none; put it back: a root cannot be taken out of a store"
        )


def _attach(
    index: Index, spec: RootConfig, layout: Layout, record: RootRecord | None, *, degraded: bool, take: bool
) -> tuple[Driver, Absence | None]:
    """A root of the config, and why it is offline if it is."""
    number, drains = record.number if record is not None else index.new_root(), index.drains()
    if record is not None and record.doubt:
        absence = Absence(record.doubted_ns, record.doubt, is_doubted=True)
        return LocalRoot(number, spec, layout, index.uuid, uuid=record.uuid), absence
    if record is not None and number in drains and drains[number].released_ns:
        return LocalRoot(number, spec, layout, index.uuid, uuid=record.uuid), None  # nobody minds whether it is there
    try:
        if record is None and not spec.path.exists():  # a disk that is not mounted, or a slip of the pen
            raise RootUnavailable(f"root {spec.name}: {spec.path} does not exist; is its disk mounted?")
        uuid = b"" if record is None else record.uuid
        driver = LocalRoot.attach(number, spec, layout, index.uuid, uuid=uuid, create=record is None, take=take)
    except RootUnavailable as error:
        if not degraded or record is None:
            hint = "" if record is None else " Bring it back, or mount with --degraded to go on without it"
            raise RootUnavailable(f"{error}{hint}") from error
        return LocalRoot(number, spec, layout, index.uuid, uuid=record.uuid), Absence(time.time_ns(), str(error))
    return driver, None


def take_in(index: Index, driver: Driver) -> RootRecord:
    """Give a new root its place in the tree."""
    batch = Batch()
    top = AREAS.get(driver.name)
    if top is None:
        top = index.new_inode()
        name = os.fsencode(driver.name)
        if index.dentry(RESOURCES, name) is not None:
            raise OSError(errno.EEXIST, f"resources/{driver.name}")
        batch.put_inode(new_directory(top))
        batch.link(RESOURCES, name, top)
        resources = index.inode(RESOURCES)
        assert resources is not None
        resources.nlink += 1
        batch.put_inode(resources)
    record = RootRecord(driver.number, driver.name, driver.uuid, driver.layout, top)
    batch.root(record)
    if driver.layout is Layout.TREE and next(driver.list(driver.top), None) is None:
        batch.stamp(top, Stamp(driver.number, 0))  # empty is known too; what lies there already is for the first look
    index.apply(batch)
    return record
