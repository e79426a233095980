"""Whether a root is there: its path is opened again, its marker read, and both compared with what we know and hold.

A descriptor goes on working after `umount -l`, and a path goes on answering after its disk is gone, with what lies
below the mountpoint. Only both together, with the marker, tell the truth. As long as our descriptors are open the
kernel gives the device number to no other file system, so equal (st_dev, st_ino) means the same mounted file system.
Blocks as long as the disk does: call it in a thread. Whether the root counts as online is for the loop to say.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fusestore.roots.marker import MarkerDamaged, read_marker

if TYPE_CHECKING:
    from fusestore.core.ports import Driver


def probe(root: Driver) -> str:
    """Look at the root's path; returns why what is there is not the root, "" when it is.

    One that is open and comes back as another mount is not: what is open on it belongs to the mount that was.
    """
    try:
        top = os.open(root.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return f"{root.path} cannot be opened: {error.strerror}"
    try:
        there = os.fstat(top)
        if root.is_open:
            held = os.fstat(root.top)
            if (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
                return f"{root.path} is another directory than the one in use; its disk was unmounted or replaced"
        if read_marker(top, there.st_dev).uuid.bytes != root.uuid:
            return f"{root.path} carries the marker of another root"
    except MarkerDamaged as error:
        return f"{root.path} has a marker that {error}"
    except OSError as error:
        return f"{root.path} has no readable marker: {error.strerror}"
    finally:
        os.close(top)
    return ""
