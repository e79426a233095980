"""Making the kernel forget what it has read, so that the next read is a cold one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_SWITCH: Final = "/proc/sys/vm/drop_caches"
_CONTENT, _NAMES = "1", "2"


def forget_names() -> bool:
    """Drop all dentries and inodes that nobody uses; False if this needs rights that we do not have."""
    return _drop(_NAMES)


def forget_content(*directories: Path) -> None:
    """Drop the content of the files below `directories`: those of the mount and those behind it.

    What was written must have been synced. Without the right to drop all that the kernel caches, the files are dropped
    one by one.
    """
    if _drop(_CONTENT):
        return
    for directory in directories:
        for folder, _, names in os.walk(directory):
            for name in names:
                fd = os.open(os.path.join(folder, name), os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def _drop(what: str) -> bool:
    try:
        fd = os.open(_SWITCH, os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(fd, what.encode())
    finally:
        os.close(fd)
    return True
