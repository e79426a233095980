"""A root whose disk is not there: it has a name and a number, and every call says that it is offline.

The tree below it still lists from the index; nothing is concluded from its absence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from fusestore.errors import RootOffline

if TYPE_CHECKING:
    from fusestore.config import RootConfig
    from fusestore.model import Layout, RootNo


class AbsentRoot:
    """Stands in for a `core.ports.Driver` until the next mount."""

    online = False
    read_only = False  # it is not the disk that refuses
    device = -1
    failed_syncs = 0
    top = -1

    def __init__(self, number: RootNo, spec: RootConfig, layout: Layout, uuid: bytes) -> None:
        self.number = number
        self.name = spec.name
        self.path = spec.path
        self.uuid = uuid
        self.layout = layout
        self.outside = spec.outside

    def close(self) -> None:
        """There is nothing to give up."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise RootOffline(self.name)

    open_dir = close_dir = list = id_area = id_area_path = incoming = _refuse
    stat = stat_dir = backing = backing_fd = readlink = space = _refuse
    create = mkdir = mknod = symlink = link = unlink = rmdir = rename = exchange = _refuse
    open = chmod = chown = utime = getxattr = setxattr = listxattr = removexattr = sync = _refuse
