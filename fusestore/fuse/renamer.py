"""Renames that the daemon wants, made by the kernel, which then knows both names as they are.

By another process: one that waits in its own mount for itself could not be killed.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import trio

# renameat2(AT_FDCWD, old, AT_FDCWD, new, RENAME_NOREPLACE); the exit status is the errno.
PROGRAM: Final = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
old, new = map(os.fsencode, sys.argv[1:])
sys.exit(ctypes.get_errno() if libc.renameat2(-100, old, -100, new, 1) else 0)
"""


async def rename(old: bytes, new: bytes) -> None:
    """Rename an absolute path to another that does not exist.

    Raises:
        OSError: as the kernel says.
    """
    # Not `trio.run_process`, which waits for its process even when it is cancelled: this one may wait for us.
    process = await trio.lowlevel.open_process([sys.executable, "-I", "-S", "-c", PROGRAM, old, new])
    number = await process.wait()
    if number:
        raise OSError(number, os.strerror(number))
