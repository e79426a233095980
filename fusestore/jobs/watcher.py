"""Sees what others change on a root's disk, while somebody listens for events (decision 0022).

    nobody listens ──► off
          │ somebody does, and the root is online
          ▼
    starting: each directory gets a watch and is looked through, then those in it ──► on
          the queue ran over, or not every directory could get a watch: looked through again, now and then

A watch comes before the look, so nothing falls between the two. What a notice means is for `service.noticing`: it leads
to a look at one name, and one of our own doing to nothing. Each root has a queue of its own, closed as soon as the root
is offline, and some time after the last listener is gone. While it can have none, it is looked through now and then.
"""

from __future__ import annotations

import errno
from contextlib import closing
from typing import TYPE_CHECKING, Final, Never

import structlog
import trio

from fusestore.errors import FusestoreError, NotFound
from fusestore.model import CONTROL_NAME, InodeNo, Layout, Outside, Watching
from fusestore.roots import inotify
from fusestore.roots.inotify import Inotify
from fusestore.service import doubting, noticing
from fusestore.service.audience import Watch

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from fusestore.service.noticing import Name
    from fusestore.service.store import Store

log = structlog.get_logger()

MOST: Final = 250_000  # watches of a root: some 60 MB here, and 250 MB of the kernel's
BEGIN_S: Final = 0.2  # who only has a look at the log is gone by then
LINGER_S: Final = 30.0  # a listener that is back by then finds the watches in place
LOOK_S: Final = 0.5  # how often is seen whether a root is still there, and wanted
GATHER_S: Final = 0.05  # notices of one name that come this close together lead to one look
READ_BYTES: Final = 64 << 10  # of notices at a time: the others wait in the kernel
AGAIN_S: Final = 5.0  # between a queue that ran over and looking through the root again
NOW_AND_THEN_S: Final = 60.0  # between two looks through a root that has not all the watches it needs
ANOTHER: Final = inotify.MOVED_FROM | inotify.MOVED_TO | inotify.DELETE  # after these a name may lead elsewhere
WORK_S: Final = 0.002  # looking through takes the loop no longer than that, and then leaves it for as long


class Watcher:
    """The watchers of all roots that others may change."""

    def __init__(self, store: Store) -> None:
        self._watchers = [
            RootWatcher(store, root, always=store.specs[root.name].watch is Watching.ALWAYS)
            for root in store.roots.values()
            if root.layout is Layout.TREE
            and root.outside is Outside.WRITERS
            and store.specs[root.name].watch is not Watching.NEVER
        ]

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for watcher in self._watchers:
                nursery.start_soon(watcher.run)


class RootWatcher:
    """The watcher of one root."""

    def __init__(self, store: Store, root: Driver, *, always: bool) -> None:
        self._store = store
        self._root = root
        self._always = always
        self._top = doubting.top_of(store, root)
        self._watch = store.watches[root.number] = Watch()
        self._directories: dict[int, InodeNo] = {}  # by watch
        self._ran_over = trio.Event()
        self._lacked = ""  # why a directory got no watch in this look through the root
        self._gave_up = False  # watches, since then: what is below a watched directory may have none
        self._missing: dict[Name, int] = {}  # and which bytes of the queue may say what they are called now
        self._inotify: Inotify | None = None

    async def run(self) -> Never:
        """Watch whenever it is wanted."""
        while True:
            if not self._is_wanted:
                self._watch.reason = ""
            if not self._always:
                await self._store.audience.somebody()
            await trio.sleep(BEGIN_S)
            if not self._is_wanted:
                continue
            try:
                self._inotify = Inotify()
            except OSError as error:
                self._lack(f"no queue for notices: {error.strerror}")
                await self._enter(self._top, is_new=False)
                await trio.sleep(NOW_AND_THEN_S)
                continue
            try:
                with closing(self._inotify):
                    await self._while_wanted(self._inotify)
            finally:
                self._inotify = None
                self._directories.clear()
                self._missing.clear()
                self._watch.state, self._watch.directories, self._watch.reason = "off", 0, ""

    @property
    def _is_wanted(self) -> bool:
        return self._root.online and (self._always or self._store.audience.is_there)

    async def _while_wanted(self, queue: Inotify) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_through_it)
            nursery.start_soon(self._take_notices, queue)
            until = trio.current_time() + LINGER_S
            while self._root.online and trio.current_time() < until:
                await trio.sleep(LOOK_S)
                if self._is_wanted:
                    until = trio.current_time() + LINGER_S
            nursery.cancel_scope.cancel()

    # -- looking through the root -----------------------------------------------------------------------------------

    async def _look_through_it(self) -> Never:
        """Once at the beginning, and again whenever notices were lost."""
        while True:
            self._ran_over = trio.Event()
            self._watch.state = "starting"
            self._lacked, self._gave_up = "", False
            await self._enter(self._top, is_new=False)
            self._watch.state = "on"
            self._watch.reason = self._lacked
            await self._rest()
            await trio.sleep(AGAIN_S)

    async def _rest(self) -> None:
        """Return when notices were lost, or after a while when a directory has no watch."""
        while True:
            with trio.move_on_after(NOW_AND_THEN_S):
                await self._ran_over.wait()
                log.info("notices of a root were lost, it is looked through again", root=self._root.name)
                return
            if self._lacked:
                return

    async def _enter_new(self, directory: InodeNo) -> None:
        """Watch a directory that has come, and what is in it; one that was watched where it was goes on to be."""
        if not self._is_watched(directory):
            await self._enter(directory, is_new=True)

    async def _enter(self, top: InodeNo, *, is_new: bool) -> None:
        """Watch all directories from `top` down, and look at what is in them."""
        todo = [top]
        since = trio.current_time()
        while todo and self._root.online:
            directory = todo.pop()
            if self._begin(directory):
                todo += await noticing.look_through(self._store, directory, is_new=is_new)
            if trio.current_time() - since > WORK_S:
                await trio.sleep(WORK_S)
                since = trio.current_time()

    def _is_watched(self, directory: InodeNo) -> bool:
        known = len(self._directories)
        is_old = self._begin(directory) and len(self._directories) == known
        return is_old and not (self._lacked or self._gave_up)

    def _begin(self, directory: InodeNo) -> bool:
        """Give a directory a watch, if it can have one; whether it is on this root."""
        try:
            _, fd = self._store.places.directory(directory, self._root.number)
        except (OSError, FusestoreError):
            return False
        if self._inotify is None:
            return True
        if len(self._directories) >= MOST:
            self._lack(f"it has more than {MOST} directories")
            return True
        try:
            self._directories[self._inotify.add(fd)] = directory
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._lack("fs.inotify.max_user_watches allows no more")
            else:  # not for us to read, or gone: a look shows no more than a watch
                log.debug("no watch", inode=directory, error=str(error))
        self._watch.directories = len(self._directories)
        return True

    def _lack(self, reason: str) -> None:
        """Say once why not every directory has a watch."""
        self._lacked = reason
        if not self._watch.reason:
            self._watch.reason = reason
            log.warning("changes by others are found only now and then", root=self._root.name, reason=reason)

    # -- notices ----------------------------------------------------------------------------------------------------

    async def _take_notices(self, queue: Inotify) -> Never:
        while True:
            await trio.lowlevel.wait_readable(queue.fd)
            await trio.sleep(GATHER_S)
            await self._take(queue)

    async def _take(self, queue: Inotify) -> None:
        names: dict[Name, bool] = {}
        came: set[Name] = set()
        for watch, mask, name in queue.read(READ_BYTES):
            if mask & inotify.OVERFLOW:
                self._ran_over.set()
            elif mask & inotify.IGNORED:
                self._directories.pop(watch, None)
                self._watch.directories = len(self._directories)
            directory = self._directories.get(watch)
            if directory is None or not name or (directory == self._top and name == CONTROL_NAME):
                continue
            if not self._is_ours(directory):
                queue.remove(watch)
                self._gave_up = True
                continue
            names[directory, name] = names.get((directory, name), False) or bool(mask & ANOTHER)
            if mask & inotify.ISDIR and mask & (inotify.CREATE | inotify.MOVED_TO):
                came.add((directory, name))
        missing = await noticing.look_at(self._store, names, came, self._enter_new)
        # A rename that took a name away has its notice in the queue by now.
        self._missing |= dict.fromkeys(missing, queue.queued)
        if self._ran_over.is_set():
            return  # or it was lost
        settled = [each for each, queued in self._missing.items() if queued <= queue.taken]
        for each in settled:
            del self._missing[each]
        await noticing.let_go(self._store, settled)

    def _is_ours(self, directory: InodeNo) -> bool:
        """Whether a directory is still one of this root's: a watch goes along with what was moved elsewhere."""
        if self._store.path(directory) is None:
            return False
        try:
            self._store.places.directory(directory, self._root.number)
        except NotFound:
            return False
        except (OSError, FusestoreError):
            pass
        return True
