"""A doubted root is looked through, and believed or not; `service.doubting` has the rule that leads here.

    online ── doubted ──► doubted ── retry: nothing is missing ──► online
                             └────── accept: what is missing is gone ──► online

A survey changes nothing: the index's names are looked up on the disk, by a second opening of the root that nobody else
knows of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from fusestore.errors import FusestoreError, InvalidRequest, NoRoot, RootOffline, RootUnavailable
from fusestore.model import Spot
from fusestore.service import absence, doubting, refreshing, walking
from fusestore.service.looking import see

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.core.ports import Driver
    from fusestore.model import InodeNo
    from fusestore.service.store import Store

    Report = Callable[[int, int, str], None]

log = structlog.get_logger()

TRIES: Final = 20
PAGE: Final = 500  # names looked up without letting other tasks run


class Survey:
    """A look through all of a root.

    Attributes:
        there, missing: how many of the index's names its disk has, and lacks; with a directory, all below it.
        example: one that is missing.
    """

    def __init__(self, store: Store, view: Driver, report: Report) -> None:
        self._store = store
        self._view = view
        self._report = report
        self.there = 0
        self.missing = 0
        self.example = b""

    async def run(self, top: InodeNo) -> None:
        """Look from the root's top down.

        Raises:
            OSError: as the disk says.
        """
        view = self._view
        open_now: list[tuple[int, list[tuple[bytes, InodeNo]]]] = []  # directories, with those in them yet to look at
        try:
            open_now.append((view.top, await self._look(top, view.top)))
            while open_now:
                fd, inner = open_now[-1]
                if inner:
                    name, number = inner.pop()
                    child = view.open_dir(fd, name)
                    open_now.append((child, []))
                    inner = await self._look(number, child)
                    open_now[-1] = (child, inner)
                    continue
                open_now.pop()
                if fd != view.top:
                    view.close_dir(fd)
        finally:
            for fd, _ in open_now:
                if fd != view.top:
                    view.close_dir(fd)

    async def _look(self, directory: InodeNo, fd: int) -> list[tuple[bytes, InodeNo]]:
        """Compare the names of one directory; returns the directories among those that are there."""
        store = self._store
        found = set(self._view.list(fd))
        inner = []
        after = b""
        while names := store.index.dentries(directory, after, PAGE):
            after = names[-1][0]
            for name, number in names:
                inode = store.index.inode(number)
                if inode is None or Spot(self._view.number, directory, name) not in store.placement.spots(number):
                    continue
                if name not in found:
                    self.missing += sum(1 for _ in walking.below(store, number))
                    self.example = self.example or store.join(directory, name) or name
                    continue
                self.there += 1
                if inode.is_dir:
                    inner.append((name, number))
            self._report(self.there + self.missing, self.there + self.missing, "objects")
            await trio.lowlevel.checkpoint()
        return inner


async def retry(store: Store, name: str, report: Report) -> dict[str, Any]:
    """Look through a doubted root; it goes online if nothing is missing.

    Raises:
        NotFound: there is no such root; InvalidRequest: it is not doubted, or cannot be opened.
        OSError: as its disk says.
    """
    root = _doubted(store, name)
    view = await _view(root)
    try:
        survey = Survey(store, view, report)
        await survey.run(doubting.top_of(store, root))
    finally:
        view.close()
    _doubted(store, name)  # nobody has answered meanwhile
    if survey.missing == 0:
        doubting.record(store, root, "root-believed", "")
        await absence.come_back(store, root)
    else:
        reason = doubting.describe(survey.missing, survey.there, survey.example)
        store.absent[root.number] = store.absent[root.number]._replace(reason=reason)
    return {"there": survey.there, "missing": survey.missing, "online": root.online}


async def _view(root: Driver) -> Driver:
    """A second opening of a root; waits for whoever has a moment's hold of it.

    Raises:
        InvalidRequest: it cannot be opened, and why.
    """
    view = root.twin()
    for pause_s in (*[0.1] * TRIES, 0):
        try:
            view.reopen()
        except RootUnavailable as error:
            if not pause_s:
                raise InvalidRequest(str(error)) from None
            await trio.sleep(pause_s)
        else:
            break
    return view


async def accept(store: Store, name: str, report: Report) -> dict[str, Any]:
    """Put a doubted root online and take what is missing on it for removed.

    Raises:
        NotFound, InvalidRequest: as for `retry`; RootOffline: it is not there, or went meanwhile, and stays doubted.
    """
    root = _doubted(store, name)
    done = 0
    store.accepting.add(root.number)
    try:
        await absence.come_back(store, root)
        for inode in walking.below(store, doubting.top_of(store, root)):
            if not root.online:
                raise RootOffline(root.name)
            try:
                if inode.is_dir:
                    await refreshing.refresh(store, inode.number)
                see(store, inode)
            except (OSError, FusestoreError) as error:
                log.debug("not reconciled", inode=inode.number, error=str(error))
            done += 1
            if done % PAGE == 0:
                report(done, max(done, store.index.counts()["inodes"]), "objects")
                await trio.lowlevel.checkpoint()
        doubting.record(store, root, "root-accepted", "")
    finally:
        store.accepting.discard(root.number)
    return {"there": done, "missing": 0, "online": root.online}


def _doubted(store: Store, name: str) -> Driver:
    root = next((root for root in store.roots.values() if root.name == name), None)
    if root is None:
        raise NoRoot(name)
    known = store.absent.get(root.number)
    if known is None or not known.is_doubted:
        raise InvalidRequest(f"root {name} is not doubted")
    return root
