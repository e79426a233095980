"""Taking an index directory, and making a new one: everything before its tables are open.

Nothing in a directory is changed before it is clear that it holds an index this program may open.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING
from uuid import uuid4

import lmdb

from fusestore.config import CONFIG_NAME
from fusestore.errors import StoreError
from fusestore.index import numbers, schema, snapshots
from fusestore.index.migrate import parse_format
from fusestore.index.schema import META, u64

if TYPE_CHECKING:
    from pathlib import Path

DATA_NAME = "data.mdb"


def lock(directory: Path, *, create: bool) -> int:
    """Take the directory for this process, until the returned descriptor is closed.

    Raises:
        StoreError: another process or another user has it, there is no index, or (with `create`) there is one.
    """
    if create:
        directory.mkdir(mode=0o700, exist_ok=True)
    try:
        if (directory / DATA_NAME).exists() is create:
            raise StoreError(f"{directory} already holds an index" if create else _no_index(directory))
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError:
        raise StoreError(f"{directory.parent} belongs to another user; use it as that user") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode().strip() or "unknown"
        os.close(fd)
        raise StoreError(f"{directory.parent} is in use (pid {holder}); unmount it first") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _no_index(directory: Path) -> str:
    """What to say of a directory without an index; a store that has its config has lost it."""
    store = directory.parent
    hint = f"; `fusestore rebuild {store}` makes it anew from the roots" if (store / CONFIG_NAME).exists() else ""
    return f"{directory} holds no index{hint}"


def environment(directory: Path, map_bytes: int, *, create: bool, uuid: bytes = b"") -> lmdb.Environment:
    """Open, or make, the LMDB environment of a locked directory, and see that its format is known.

    After an unclean end it is opened at the last commit that is known to be on the disk.

    Args:
        uuid: of an index that is made; random by default.

    Raises:
        StoreError: it is not an index, or of a newer format.
    """
    mark = snapshots.Mark(directory)
    try:
        synced = mark.read()
        if synced is not None and not create:
            snapshots.go_back(directory / DATA_NAME, synced)
        env = _open(directory, map_bytes)
        try:
            if create:
                _make(env, directory, uuid or uuid4().bytes)
            parse_format(_meta_row(env, schema.FORMAT_ROW), directory)
            if synced is None or create:
                env.sync(True)
                mark.set(env.info()["last_txnid"])
        except BaseException:
            env.close()
            raise
    finally:
        mark.close()
    return env


def _open(directory: Path, map_bytes: int) -> lmdb.Environment:
    try:
        env = lmdb.open(
            str(directory),
            map_size=map_bytes,
            max_dbs=2 * len(schema.NAMES),
            mode=0o600,
            readahead=False,  # lookups are random; the kernel's readahead would fill memory with neighbours
            max_spare_txns=1,
            sync=False,  # `durable` does, beside other work
            lib_version=0,  # the 0.9 format; py-lmdb carries two that cannot read each other
        )
    except lmdb.Error as error:
        raise StoreError(f"{directory} is not the index of a fusestore store: {error}") from error
    env.reader_check()
    return env


def _meta_row(env: lmdb.Environment, row: bytes) -> bytes | None:
    with env.begin(write=True) as txn:
        try:
            table = env.open_db(schema.NAMES[META].encode(), txn=txn, create=False)
        except lmdb.NotFoundError:
            return None
        return txn.get(row, None, table)


def _make(env: lmdb.Environment, directory: Path, uuid: bytes) -> None:
    """Give a new environment its first rows; their commit is the moment it becomes an index."""
    with env.begin(write=True) as txn:
        meta = env.open_db(schema.NAMES[META].encode(), txn=txn)
        first = {
            schema.FORMAT_ROW: str(schema.FORMAT).encode(),
            schema.UUID_ROW: uuid,
            schema.RUN_ROW: os.urandom(16),
            schema.CLEAN_ROW: b"1",
            schema.APPLIED_ROW: u64(0),
            schema.NUMBERS_ROW: schema.NUMBERS.pack(numbers.FIRST),
        }
        for key, value in first.items():
            txn.put(key, value, db=meta)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fsync(fd)  # LMDB does not make the names of its files durable
    os.close(fd)
