"""The mount itself: made, served, and taken down."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyfuse3

from fusestore.errors import MountpointError
from fusestore.fuse.errands import Errands
from fusestore.fuse.operations import Operations
from fusestore.fuse.waiting import look_before_sleeping

if TYPE_CHECKING:
    from pathlib import Path

    from fusestore.fuse.events_file import EventsFile
    from fusestore.service.store import Store

TYPE = "fusestore"  # shown as fuse.fusestore in /proc/mounts
MAX_TASKS = 64  # requests served at once; a cached one needs no second task


class Session:
    """One mount of a store; the process can have only one (pyfuse3 keeps it in globals)."""

    def __init__(self, store: Store, mountpoint: Path) -> None:
        options = {*pyfuse3.default_options, "fsname=fusestore", f"subtype={TYPE}"}
        if store.config.mount.allow_other:
            options.add("allow_other")
        errands = Errands(os.fsencode(os.path.abspath(mountpoint)))
        try:
            self._operations = Operations(store, errands.owners)
            pyfuse3.init(self._operations, str(mountpoint), options)
        except RuntimeError as error:
            needed = "/dev/fuse and fusermount3 are needed"
            if store.config.mount.allow_other and os.geteuid() != 0:
                needed += ", and for allow_other the line user_allow_other in /etc/fuse.conf"
            raise MountpointError(f"{mountpoint} cannot be mounted: {error}; {needed}") from error
        store.errand = errands.do
        self._stopping = False
        self._mounted = True

    def show(self, events: EventsFile) -> None:
        """What `.fusestore/events` shows; before `run`."""
        self._operations.show(events)

    async def run(self) -> None:
        """Serve requests until somebody unmounts, or `stop`."""
        look_before_sleeping()
        self._mounted = False  # a daemon that breaks down leaves a dead mount: an empty directory would be believed
        await pyfuse3.main(max_tasks=MAX_TASKS)
        self._mounted = self._stopping

    def stop(self) -> None:
        """Have `run` return; the mount is taken down by `close`."""
        self._stopping = True
        pyfuse3.terminate()

    def close(self) -> None:
        """Take the mount down, unless somebody did."""
        pyfuse3.close(unmount=self._mounted)
