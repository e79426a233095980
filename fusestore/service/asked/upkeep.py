"""Reading again, and the trash."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import trio

from fusestore.errors import NoRoot
from fusestore.model import MOUNT_ROOT
from fusestore.service import describing, retrieving, soundness, trash, verifying
from fusestore.service.asked.names import Names

if TYPE_CHECKING:
    from fusestore.model import Owner
    from fusestore.service.verifying import Report


class Scrubber(Protocol):
    """What reads every file again (`jobs.scrubber`)."""

    def status(self) -> dict[str, Any]: ...
    def start(self, root: str, rate: int | None, *, again: bool) -> None: ...
    def stop(self) -> None: ...


class Upkeep(Names):
    """What is asked about upkeep."""

    _scrubber: Scrubber

    def scrub(self) -> dict[str, Any]:
        """How far the last going through all files is, and what is known not to be sound."""
        bad = soundness.all_unsound(self._store)
        return {**self._scrubber.status(), "damaged": [describing.unsound(self._store, *each) for each in bad]}

    def start_scrub(self, root: str | None, rate: int | None, *, again: bool) -> None:
        """Begin to read every file again.

        Raises:
            NotFound: the root.
        """
        if root is not None:
            retrieving.roots_of(self._store, root)
        self._scrubber.start(root or "", rate, again=again)

    def stop_scrub(self) -> None:
        """End it where it is."""
        self._scrubber.stop()

    def trash(self, root: str | None) -> list[dict[str, Any]]:
        """What lies in the trash of one root, or of all.

        Raises:
            NotFound: the root.
        """
        return retrieving.listed(self._store, root)

    async def empty_trash(self, root: str | None) -> dict[str, Any]:
        """Destroy what lies there; returns how many `files` and `bytes`.

        Raises:
            NotFound: the root; RootOffline, RootReadOnly; OSError as the disk says.
        """
        files = held = 0
        for driver in retrieving.roots_of(self._store, root):
            before = self._store.trashed[driver.number]
            while gone := trash.empty(self._store, driver):
                files += gone
                await trio.lowlevel.checkpoint()
            held += before - self._store.trashed[driver.number]
        return {"files": files, "bytes": held}

    async def restore(self, what: str, path: str, owner: Owner) -> dict[str, Any]:
        """Give a file in the trash the name `path`.

        Raises:
            as for `retrieving.find` and `restore`.
        """
        above, _, name = path.rpartition("/")
        trashed = retrieving.find(self._store, what)
        return await retrieving.restore(self._store, trashed, self.find(above), os.fsencode(name), owner)

    async def verify(self, what: str | None, root: str | None, owner: Owner, report: Report) -> dict[str, Any]:
        """Read bytes again and compare them with their hashes.

        Raises:
            NotFound: the path, or the root.
        """
        if root is not None and root not in (driver.name for driver in self._store.roots.values()):
            raise NoRoot(root)
        top = self.find(what) if what is not None else MOUNT_ROOT
        return await verifying.verify(self._store, top, root, report, owner)
