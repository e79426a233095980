"""Which daemon a path belongs to: the mount itself says where its control socket is.

Only directories are asked, because the kernel refuses user attributes of symlinks and special files, and only the
nearest one that exists, so that a removed file's history can still be asked for by its old path.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from fusestore.control.protocol import readable_name

SOCKET_XATTR: Final = "user.fusestore.socket"


class Location(NamedTuple):
    """A path seen from its daemon."""

    socket: Path
    path: str  # relative to the mountpoint, as it travels in JSON; "" for the mountpoint itself


def locate(path: Path) -> Location | None:
    """Find the daemon of `path`, absolute and normal but perhaps not existing; None outside any mount.

    A symlink in the last component is meant itself when it lies in a mount, and followed when it does not.

    Raises:
        OSError: ENOTCONN, ECONNABORTED: the mount is dead; EACCES: it belongs to another user.
    """
    path = Path(os.path.realpath(path.parent), path.name)
    location = _inside(path)
    if location is None and path.is_symlink():
        location = _inside(Path(os.path.realpath(path)))
    return location


def _inside(path: Path) -> Location | None:
    directory, device = _nearest_directory(path)
    try:
        control = os.getxattr(directory, SOCKET_XATTR)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise
    top = directory
    while top.parent != top and os.stat(top.parent).st_dev == device:
        top = top.parent
    relative = os.fsencode(path.relative_to(top))
    return Location(Path(os.fsdecode(control)), "" if relative == b"." else readable_name(relative))


def _nearest_directory(path: Path) -> tuple[Path, int]:
    for candidate in (path, *path.parents):
        try:
            found = os.lstat(candidate)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISDIR(found.st_mode):
            return candidate, found.st_dev
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
