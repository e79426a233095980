"""Mountpoints: what is mounted where, whether a store may be mounted there, and unmounting."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fusestore.errors import MountpointError, StartupError

if TYPE_CHECKING:
    from collections.abc import Sequence

GONE: Final = (errno.ENOTCONN, errno.ECONNABORTED)  # what a mount without its daemon answers
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of mountinfo; see proc(5)."""

    mountpoint: Path
    kind: str
    source: str

    @property
    def is_ours(self) -> bool:
        return self.kind == "fuse.fusestore" or (self.kind == "fuse" and self.source == "fusestore")


def all_mounts() -> list[Mount]:
    """Everything mounted, in the order in which later ones cover earlier ones."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        kind, source = after.split(b" ")[:2]
        mountpoint = _ESCAPE.sub(lambda octal: bytes([int(octal[1], 8)]), before.split(b" ")[4])
        mounts.append(Mount(Path(os.fsdecode(mountpoint)), os.fsdecode(kind), os.fsdecode(source)))
    return mounts


def mounted_at(mountpoint: Path) -> Mount | None:
    """What is mounted exactly at `mountpoint`, a resolved path; the topmost where there are several."""
    return next((mount for mount in reversed(all_mounts()) if mount.mountpoint == mountpoint), None)


def is_dead(mountpoint: Path) -> bool:
    """Whether a mount is there whose daemon is gone.

    statvfs, because the kernel answers stat from its cache for a while. A daemon that is just being killed says
    ECONNABORTED.
    """
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno in GONE
    return False


def check(mountpoint: Path, places: Sequence[Path]) -> None:
    """Refuse a mountpoint that cannot be used; a dead mount of ours is cleared.

    Args:
        mountpoint: resolved.
        places: the store and its roots, which must not lie in the mount nor it in them.

    Raises:
        MountpointError: says why.
    """
    if is_dead(mountpoint) and (dead := mounted_at(mountpoint)) and dead.is_ours:
        unmount(mountpoint, lazy=True)
    if mounted := mounted_at(mountpoint):
        way = f"fusestore umount {mountpoint}" if mounted.is_ours else f"umount {mountpoint}"
        raise MountpointError(f"{mountpoint} is already mounted ({mounted.kind}); unmount it first: {way}")
    for place in (Path(os.path.realpath(place)) for place in places):
        if mountpoint.is_relative_to(place):
            raise MountpointError(f"{mountpoint} lies inside {place}, whose files it would hide; choose another place")
        if place.is_relative_to(mountpoint):
            raise MountpointError(f"{mountpoint} would hide {place}; choose another mountpoint")
    try:
        entries = os.listdir(mountpoint)
    except FileNotFoundError:
        raise MountpointError(f"{mountpoint} does not exist; make it first: mkdir {mountpoint}") from None
    except NotADirectoryError:
        raise MountpointError(f"{mountpoint} is not a directory") from None
    except OSError as error:
        raise MountpointError(f"{mountpoint} cannot be used: {error.strerror}") from None
    if entries:
        raise MountpointError(f"{mountpoint} is not empty; choose an empty directory")


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount as this user may.

    Raises:
        StartupError: it is in use; nothing changed.
        MountpointError: it cannot be unmounted.
    """
    command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    options = [*(["-l"] if os.geteuid() == 0 else ["-z"])] if lazy else []
    try:
        done = subprocess.run(
            [*command, *options, "--", os.fspath(mountpoint)],
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise MountpointError(f"{command[0]} is not installed; on Debian: apt install fuse3") from None
    if done.returncode:
        said = " ".join(done.stderr.split())
        if "busy" in said:
            raise StartupError(f"{mountpoint} is in use; close what is open in it (fuser -vm {mountpoint} shows it)")
        raise MountpointError(f"{mountpoint} cannot be unmounted: {said}")
