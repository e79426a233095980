"""Letting go of a large file's blocks: in a thread of its own, because a disk takes its time for it (4 GiB: 0.3 s).

The last name and the last descriptor keep a file; whoever takes away the last of both waits until its blocks are free.
So a descriptor is held over the removal of the name, and closed where nobody waits.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from fusestore.roots.opening import open_object

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE_BYTES: Final = 16 << 20  # takes about a millisecond, ten times what a thread costs
NAME: Final = "freeing"  # of the threads


@contextmanager
def removing(directory: int, name: bytes) -> Iterator[None]:
    """Hold what lies at `name` while its name goes, if it is large; afterwards it is let go of elsewhere."""
    held = None
    with suppress(OSError):  # there is nothing, or no descriptor to be had
        if _is_last_of_much(os.stat(name, dir_fd=directory, follow_symlinks=False), names=1):
            held = open_object(directory, name)
    try:
        yield
    finally:
        if held is not None:
            _close_elsewhere(held)


def close(fd: int) -> None:
    """Close a descriptor that may be the last thing that keeps its file."""
    try:
        is_much = _is_last_of_much(os.fstat(fd), names=0)
    except OSError:  # its disk does not answer
        is_much = False
    if is_much:
        _close_elsewhere(fd)
    else:
        os.close(fd)


def _is_last_of_much(status: os.stat_result, *, names: int) -> bool:
    much = status.st_blocks * 512 >= LARGE_BYTES
    return much and status.st_nlink == names and stat.S_ISREG(status.st_mode)


def _close_elsewhere(fd: int) -> None:
    thread = threading.Thread(target=os.close, args=(fd,), name=NAME)
    try:
        thread.start()
    except RuntimeError:  # no thread to be had
        os.close(fd)


def wait() -> bool:
    """Wait until everything removed so far is free, for whoever finds a disk full; False if it was. Blocks."""
    running = [thread for thread in threading.enumerate() if thread.name == NAME]
    for thread in running:
        thread.join()
    return bool(running)
