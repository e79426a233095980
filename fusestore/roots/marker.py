"""The root's marker, `.fusestore/root.toml`: which root this is, which store it belongs to, and its lock.

A root without its marker is a mountpoint whose disk is missing, or a disk that was swapped: nothing may be read or
concluded from it. A marker is written once, whole and durably, and afterwards replaced only when a store takes the root
over. Descriptors cross the border: the one that carries the lock, and that of the marker directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tomllib
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID, uuid4

import msgspec
import tomlkit
from msgspec import Struct

from fusestore.errors import RootUnavailable
from fusestore.model import CONTROL_NAME, Layout
from fusestore.roots.opening import open_directory, open_regular
from fusestore.roots.renaming import rename_new

if TYPE_CHECKING:
    from pathlib import Path

    from fusestore.config import RootConfig

MARKER_NAME: Final = b"root.toml"

_FORMAT: Final = 1
_MARKER_MAX_BYTES: Final = 64 * 1024


class Marker(Struct, frozen=True, forbid_unknown_fields=True):
    """The marker's content."""

    format: int
    uuid: UUID
    store: UUID
    name: str
    layout: Layout


class Claim(NamedTuple):
    """A root that is ours until `lock` is closed."""

    uuid: bytes
    area: int  # descriptor of the marker directory
    lock: int

    def release(self) -> None:
        """Close both, the lock last; a network's disk that is gone may have something to say even then."""
        for fd in (self.area, self.lock):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)


class MarkerDamaged(ValueError):
    """The marker cannot be understood; args[0] says why."""


def claim(top: int, spec: RootConfig, layout: Layout, store_uuid: bytes, *, create: bool, take: bool) -> Claim:
    """Find the root's marker below the open directory `top`, check it, and lock it for this process.

    Args:
        create: a root without a marker becomes a new root of the store.
        take: a root of another store is taken over, under its present uuid, unless that store has it in use.

    Raises:
        RootUnavailable: there is no marker, it is another root's or another store's, it cannot be trusted or
            understood, or another process has the root.
    """
    area = _open_area(top, spec, create)
    try:
        lock = _lock(area, spec, layout, UUID(bytes=store_uuid), create=create)
        try:
            marker = _parse_checked(lock, spec)
            if marker.layout is not layout:
                raise _unavailable(spec, f"has layout {marker.layout}, expected {layout}")
            if marker.store.bytes != store_uuid:
                lock, marker = _take_over(area, lock, marker, spec, UUID(bytes=store_uuid), take)
            elif marker.name != spec.name:
                raise _unavailable(
                    spec,
                    f"carries the marker of root {marker.name} of this store; name it so in the config, or, if it is a"
                    " copy of that root, remove .fusestore in it",
                )
        except BaseException:
            os.close(lock)
            raise
    except BaseException:
        os.close(area)
        raise
    return Claim(marker.uuid.bytes, area, lock)


def read_marker(top: int, device: int) -> Marker:
    """The marker below the open directory `top`.

    Raises:
        OSError: it is not there or cannot be reached.
        MarkerDamaged: it is there and cannot be understood.
    """
    area = open_directory(top, CONTROL_NAME, device)
    try:
        fd = open_regular(area, MARKER_NAME, os.O_RDONLY)
    finally:
        os.close(area)
    try:
        return _parse(fd)
    finally:
        os.close(fd)


def claimant(directory: Path) -> UUID:
    """The store that claims a directory.

    Raises:
        as for `read_marker`.
    """
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return read_marker(top, os.fstat(top).st_dev).store
    finally:
        os.close(top)


def _unavailable(spec: RootConfig, what: str) -> RootUnavailable:
    return RootUnavailable(f"root {spec.name}: {spec.path} {what}")


def _open_area(top: int, spec: RootConfig, create: bool) -> int:
    status = os.fstat(top)
    if create:
        try:
            os.mkdir(CONTROL_NAME, 0o700, dir_fd=top)
            os.fsync(top)
        except FileExistsError:
            pass  # only its marker says whose it is
        except OSError as error:
            raise _unavailable(spec, f"cannot be marked as a root: {error.strerror}") from error
    try:
        area = open_directory(top, CONTROL_NAME, status.st_dev)
    except FileNotFoundError as error:
        raise _unavailable(spec, "has no marker (.fusestore/root.toml); is its disk mounted?") from error
    except OSError as error:
        raise _unavailable(spec, f"has a .fusestore that is not a directory of its own: {error.strerror}") from error
    # Whoever owns the root may do anything in it anyway; a marker directory of somebody else was planted.
    owner = os.fstat(area).st_uid
    if owner not in (os.geteuid(), 0, status.st_uid):
        os.close(area)
        raise _unavailable(spec, f"has a .fusestore that belongs to uid {owner}, expected uid {os.geteuid()}")
    return area


def _lock(area: int, spec: RootConfig, layout: Layout, store: UUID, *, create: bool) -> int:
    try:
        fd = _open_marker(area)
    except FileNotFoundError as error:
        if not create:
            raise _unavailable(spec, "has no marker (.fusestore/root.toml); is its disk mounted?") from error
        try:
            return _write(area, Marker(_FORMAT, uuid4(), store, spec.name, layout), replace=False)
        except FileExistsError as race:
            raise _unavailable(spec, "is being claimed by another process") from race
        except OSError as failure:
            raise _unavailable(spec, f"cannot be marked as a root: {failure.strerror}") from failure
    except OSError as error:
        raise _unavailable(spec, f"has a marker that cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A marker that was replaced between open and lock: the lock holds nothing.
        if os.stat(MARKER_NAME, dir_fd=area, follow_symlinks=False).st_ino != os.fstat(fd).st_ino:
            raise BlockingIOError
    except BlockingIOError as error:
        os.close(fd)
        raise _unavailable(spec, "is in use by another daemon") from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open_marker(area: int) -> int:
    try:
        return open_regular(area, MARKER_NAME, os.O_RDWR)  # NFS locks only what is open for writing
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return open_regular(area, MARKER_NAME, os.O_RDONLY)  # on a read-only file system


def _take_over(area: int, lock: int, marker: Marker, spec: RootConfig, store: UUID, take: bool) -> tuple[int, Marker]:
    if not take:
        raise _unavailable(spec, f"belongs to another store ({marker.store}); --take takes it over")
    marker = msgspec.structs.replace(marker, store=store, name=spec.name)
    try:
        taken = _write(area, marker, replace=True)
    except OSError as error:
        raise _unavailable(spec, f"cannot be taken over: {error.strerror}") from error
    os.close(lock)
    return taken, marker


def _write(area: int, marker: Marker, *, replace: bool) -> int:
    """Put a new marker in place, already locked; without `replace` only where there is none (EEXIST)."""
    settings = tomlkit.dumps(msgspec.to_builtins(marker))
    text = f"# This directory is a root of a fusestore store. Removing this file detaches it.\n{settings}"
    new = b"%b.%d.new" % (MARKER_NAME, os.getpid())
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=area)
    try:
        os.write(fd, text.encode())
        os.fsync(fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if replace:
            os.rename(new, MARKER_NAME, src_dir_fd=area, dst_dir_fd=area)
        else:
            rename_new(area, new, area, MARKER_NAME)
        os.fsync(area)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=area)
        raise
    return fd


def _parse_checked(fd: int, spec: RootConfig) -> Marker:
    try:
        return _parse(fd)
    except MarkerDamaged as error:
        raise _unavailable(spec, f"has a marker (.fusestore/root.toml) that {error}") from error


def _parse(fd: int) -> Marker:
    try:
        document = tomllib.loads(os.pread(fd, _MARKER_MAX_BYTES, 0).decode())
        if isinstance(document.get("format"), int) and document["format"] > _FORMAT:
            raise MarkerDamaged(f"has format {document['format']}, this fusestore knows {_FORMAT}")
        return msgspec.convert(document, Marker)
    except MarkerDamaged:
        raise
    except ValueError as error:  # UTF-8, TOML and msgspec errors alike
        raise MarkerDamaged(f"cannot be understood: {error}") from error
