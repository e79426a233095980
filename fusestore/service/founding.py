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
from fusestore.model import DOWNLOADS, MOUNT_ROOT, RESOURCES, UPLOADS, Inode, InodeNo, Layout, RootNo, RootRecord
from fusestore.roots.absent import AbsentRoot
from fusestore.roots.local import LocalRoot
from fusestore.service.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
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
    except OSError as error:
        raise StoreError(f"{path} cannot be made a store: {error.strerror}") from None
    if entries:
        raise StoreError(f"{path} is not empty; choose an empty or new directory")
    # The config comes after the index: without it nobody takes the directory for a store.
    index = Index.open(path / settings.INDEX_NAME, create=True)
    try:
        _plant_skeleton(index)
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


def _plant_skeleton(index: Index) -> None:
    batch = Batch()
    for number, name in SKELETON:
        batch.put_inode(_directory(number))
        if name:
            batch.link(MOUNT_ROOT, name, number)
    index.apply(batch)


def _directory(number: InodeNo) -> Inode:
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
    tops: dict[InodeNo, RootNo] = {}
    try:
        known = {record.name: record for record in index.roots()}
        specs = [*((spec, Layout.ID) for spec in config.areas), *((spec, Layout.TREE) for spec in config.roots)]
        missing = known.keys() - {spec.name for spec, _ in specs}
        if missing:
            name = min(missing)
            raise UsageError(
                f"{config.store / settings.CONFIG_NAME}: roots.{name}: expected this root, which the store knows,"
                " found none; put it back: a root cannot be taken out of a store"
            )
        for spec, layout in specs:
            record = known.get(spec.name)
            driver = _attach(index, spec, layout, record, degraded=degraded, take=take)
            if record is None:
                record = _take_in(index, driver)
            roots[driver.number] = driver
            tops[record.top] = driver.number
    except BaseException:
        for driver in roots.values():
            driver.close()
        index.close(clean=index.was_clean)
        raise
    return Store(config, index, roots, tops)


def _attach(
    index: Index, spec: RootConfig, layout: Layout, record: RootRecord | None, *, degraded: bool, take: bool
) -> Driver:
    number = record.number if record is not None else index.new_root()
    try:
        if record is None and not spec.path.exists():  # a disk that is not mounted, or a slip of the pen
            raise RootUnavailable(f"root {spec.name}: {spec.path} does not exist; is its disk mounted?")
        driver = LocalRoot.attach(number, spec, layout, index.uuid, create=record is None, take=take)
        if record is not None and driver.uuid != record.uuid:
            driver.close()
            raise RootUnavailable(f"root {spec.name}: {spec.path} carries the marker of another root")
    except RootUnavailable as error:
        if not degraded or record is None:
            hint = "" if record is None else " Bring it back, or mount with --degraded to go on without it"
            raise RootUnavailable(f"{error}{hint}") from error
        return AbsentRoot(number, spec, layout, record.uuid)
    return driver


def _take_in(index: Index, driver: Driver) -> RootRecord:
    """Give a new root its place in the tree."""
    batch = Batch()
    top = AREAS.get(driver.name)
    if top is None:
        top = index.new_inode()
        name = os.fsencode(driver.name)
        if index.dentry(RESOURCES, name) is not None:
            raise OSError(errno.EEXIST, f"resources/{driver.name}")
        batch.put_inode(_directory(top))
        batch.link(RESOURCES, name, top)
        resources = index.inode(RESOURCES)
        assert resources is not None
        resources.nlink += 1
        batch.put_inode(resources)
    record = RootRecord(driver.number, driver.name, driver.uuid, driver.layout, top)
    batch.root(record)
    index.apply(batch)
    return record
