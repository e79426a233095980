"""What is asked of a store from the outside: by the control socket, and through it by the command line."""

from __future__ import annotations

import os
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any, Protocol

import trio

from fusestore.core.moves import OPEN
from fusestore.core.rights import SEARCH, may
from fusestore.errors import Forbidden, FusestoreError, IndexFull, InvalidRequest, NotFound
from fusestore.model import DOWNLOADS, MOUNT_ROOT, UPLOADS, InodeNo, JournalEntry, MoveNo, MoveState
from fusestore.roots.hashing import tagged
from fusestore.service import (
    absence,
    acting,
    awaiting,
    cancelling,
    consumers,
    copies,
    describing,
    digesting,
    draining,
    dropping,
    emptying,
    explaining,
    listing,
    looking,
    moving,
    remembering,
    replicating,
    reserving,
    retrieving,
    soundness,
    steering,
    surveying,
    trash,
    verifying,
    xattrs,
)
from fusestore.service.presenting import Presence
from fusestore.service.reloading import Reloading

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fusestore.core.rights import Asker
    from fusestore.model import Event, Move, Owner
    from fusestore.service.asking import Answer
    from fusestore.service.store import Store
    from fusestore.service.verifying import Report

POLL_S = 0.1  # between two looks at how far something is; what is waited for is state, not an edge
SYNC_POLL_S = 0.005
PASSES = 2  # the first may have begun before
LOOKS = 30  # a thread that takes longer is on a disk that does not answer
ID_PREFIX_DIGITS = 8
TROUBLE_SHOWN = 5


class Scrubber(Protocol):
    """What reads every file again (`jobs.scrubber`)."""

    def status(self) -> dict[str, Any]: ...
    def start(self, root: str, rate: int | None, *, again: bool) -> None: ...
    def stop(self) -> None: ...


class Queries:
    """Answers questions about one store.

    Args:
        running: moves being worked on, with live counts.
        scrubber: reads everything again in the background.
        settled: returns when no finished content waits to be made durable and hashed.
        stop: ends the daemon.
    """

    def __init__(
        self,
        store: Store,
        mountpoint: Path,
        running: Mapping[MoveNo, Move],
        settled: Callable[[], Awaitable[None]],
        scrubber: Scrubber,
        stop: Callable[[], None],
    ) -> None:
        self._store = store
        self._mountpoint = mountpoint
        self._running = running
        self._settled = settled
        self._scrubber = scrubber
        self._started = time.monotonic()
        self._news = trio.Event()
        self._acked = trio.Event()
        self._awaited = False  # somebody waits for news: for most changes nobody does
        self.reloading = Reloading(store)
        self.reload = self.reloading.reload
        self.shutdown = stop
        store.index.on_events = self._on_events

    # -- the event feed ---------------------------------------------------------------------------------------------

    @property
    def first_seq(self) -> int:
        return self._store.index.first_seq

    @property
    def last_seq(self) -> int:
        return self._store.index.last_seq

    @property
    def epoch(self) -> int:
        return self._store.index.epoch

    def events(self, since: int, limit: int) -> list[dict[str, Any]]:
        """The events after `since`, in order."""
        return [describing.event(event) for event in self._store.index.events(since, limit)]

    def listening(self) -> AbstractContextManager[None]:
        """While this is held, somebody wants to hear of changes by others, too."""
        return self._store.audience.seat()

    async def changed(self, seq: int) -> None:
        """Return once there is an event after `seq`."""
        while self.last_seq <= seq:
            self._awaited = True
            await self._news.wait()

    def consumers(self) -> list[dict[str, Any]]:
        """How far each named watcher is."""
        found = self._store.index.consumers().items()
        return [describing.consumer(name, each, self._store.index) for name, each in found]

    def consumer(self, name: str) -> dict[str, Any]:
        """One of them.

        Raises:
            NoConsumer
        """
        return describing.consumer(name, consumers.get(self._store, name), self._store.index)

    def register_consumer(self, name: str, seq: int) -> bool:
        """Have the log keep what comes after an event for a watcher of this name; False if there is one.

        Raises:
            InvalidRequest: it is no name.
        """
        known = self._store.index.events(max(0, seq - 1), 1)  # that event, or the next when it is cut off
        return consumers.register(self._store, name, seq, known[0].epoch if known else self.epoch)

    def acknowledge(self, name: str, seq: int, epoch: int) -> dict[str, Any]:
        """A consumer has handled all events up to this one.

        Raises:
            NoConsumer
        """
        consumer = consumers.acknowledge(self._store, name, seq, epoch)
        self._tell_acked()
        return describing.consumer(name, consumer, self._store.index)

    def forget_consumer(self, name: str) -> bool:
        """Keep nothing for a consumer any more; False if there is none of that name."""
        forgotten = consumers.forget(self._store, name)
        self._tell_acked()
        return forgotten

    async def acknowledged(self, name: str, seq: int, report: Report) -> dict[str, Any]:
        """Return once a consumer has handled all events up to this one.

        Raises:
            NoConsumer: it is not, or not any more.
        """
        first = None
        while (consumer := consumers.get(self._store, name)).seq < seq:
            first = consumer.seq if first is None else first
            report(consumer.seq - first, seq - first, "events")
            await self._acked.wait()
        return self.consumer(name)

    def _tell_acked(self) -> None:
        acked, self._acked = self._acked, trio.Event()
        acked.set()

    async def present(self, paths: Sequence[str] | None) -> Presence:
        """What there is, at these paths and below, or everywhere; to be closed.

        Raises:
            IndexFull: there is no room to keep what is shown while it changes. IndexFault: the disk failed.
        """
        index = self._store.index
        while index.is_syncing:  # noqa: ASYNC110  (a thread ends it)
            await trio.sleep(SYNC_POLL_S)
        if index.fault is None:
            index.commit()
        if not index.has_room:  # what is left is for removals, which need pages that a view keeps
            raise IndexFull
        return Presence(self._store, paths)

    def scratch(self) -> IO[bytes]:
        """A file without a name, on the store's disk, for what does not belong into memory."""
        return tempfile.TemporaryFile(dir=self._store.config.store)

    def _on_events(self, events: list[Event]) -> None:
        if self._awaited:
            self._awaited = False
            news, self._news = self._news, trio.Event()
            news.set()

    # -- one object -------------------------------------------------------------------------------------------------

    def find(self, what: str, asker: Asker | None = None) -> InodeNo:
        """The inode of a path relative to the mount, or of an id or a unique prefix of one.

        Raises:
            NotFound; InvalidRequest: the prefix is not unique; Forbidden: the asker, if there is one, does not get
            there.
        """
        number = self._by_id(what)
        if number is not None:
            listing.check_reach(self._store, number, asker)
            return number
        number = MOUNT_ROOT
        for name in os.fsencode(what).split(b"/"):
            if name not in (b"", b"."):
                if asker is not None and not may(asker, looking.getattr(self._store, number).inode, SEARCH):
                    raise Forbidden(os.fsencode(what))
                try:
                    number = looking.lookup(self._store, number, name).inode.number
                except NotFound:
                    raise NotFound(what) from None
        return number

    def _by_id(self, what: str) -> InodeNo | None:
        digits = what.replace("-", "")
        if not ID_PREFIX_DIGITS <= len(digits) <= 32:
            return None
        try:
            start = bytes.fromhex(digits.ljust(32, "0"))
        except ValueError:
            return None
        found = self._store.index.ids_from(start, 2)  # a second one that fits is one too many
        matches = [number for id, number in found if id.hex().startswith(digits.lower())]
        if len(matches) > 1:
            raise InvalidRequest(f"{what} is the beginning of several ids; give more digits")
        return matches[0] if matches else None

    def record(self, inode: InodeNo) -> dict[str, Any]:
        """What is known of an object, with the name it was registered under and its content type."""
        record = describing.record(self._store, self._store.inode(inode))
        return {
            **record,
            "name": self._kept(inode, xattrs.NAME),
            "content_type": self._kept(inode, xattrs.CONTENT_TYPE),
        }

    def _kept(self, inode: InodeNo, attribute: bytes) -> str:
        try:
            return describing.text(xattrs.get(self._store, inode, attribute))
        except (OSError, FusestoreError):
            return ""

    async def register(
        self, name: str, body: bytes, content_type: str, mode: int, asker: Asker, *, download: bool
    ) -> dict[str, Any]:
        """Make a new file in `uploads` or `downloads`; see `acting.register`."""
        area = DOWNLOADS if download else UPLOADS
        id, path = await acting.register(self._store, area, os.fsencode(name), body, content_type, mode, asker)
        return {"id": id, "path": describing.text(path)}

    async def write(self, what: str, body: bytes, asker: Asker) -> dict[str, Any]:
        """Replace a content whole; see `acting.write`."""
        number = self.find(what, asker)
        path, old = self._paths(what, number)[0], self._store.inode(number)
        id = await acting.write(self._store, number, path, body, asker)
        return {"id": id, "path": describing.text(path), "old_id": describing.id_text(old.id)}

    async def unlink(self, what: str, asker: Asker) -> bool:
        """Remove a name, or by id all names of a file; whether there was one."""
        try:
            paths = self._paths(what, self.find(what, asker))
        except NotFound:
            return False
        return await acting.unlink(self._store, paths, asker)

    def _paths(self, what: str, number: InodeNo) -> list[bytes]:
        """The path that was named, or all that lead to what an id has named."""
        if self._by_id(what) is None:
            return [os.fsencode(what)]
        paths = [self._store.join(*name) for name in self._store.index.parents(number)]
        found = [path for path in paths if path is not None]
        if not found:
            raise NotFound(what)  # somebody took it away on its disk, and its id is kept for a while
        return found

    def holding(self, hash: tuple[str, bytes]) -> InodeNo:
        """A file whose present content has this hash.

        Raises:
            NotFound
        """
        for number in self._store.index.by_hash(*hash):
            if self._store.index.parents(number):
                return number
        raise NotFound(f"no file with the hash {tagged(*hash)}")

    async def entries(
        self,
        what: str,
        asker: Asker | None,
        wanted: Mapping[str, Any],
        report: Report,
        *,
        recursive: bool,
        after: str | None,
        limit: int,
    ) -> dict[str, Any]:
        """A page of what is in a directory, or below it, and is as `wanted`; see `listing.page` and `Wanted`."""
        if wanted.get("root") is not None:
            retrieving.roots_of(self._store, wanted["root"])
        page = await listing.page(
            self._store,
            self.find(what, asker),
            asker,
            listing.Wanted(**wanted),
            lambda count: report(count, 0, "names"),
            recursive=recursive,
            after=os.fsencode(after) if after is not None else None,
            limit=limit,
        )
        return page._asdict()

    async def digest(self, what: str, asker: Asker | None) -> dict[str, Any]:
        """The hash of a file's present content, read if it is not known; see `digesting.digest`."""
        inode = await digesting.digest(self._store, self.find(what, asker), asker)
        return {
            "id": describing.id_text(inode.id),
            "path": describing.text(self._store.path(inode.number)),
            "version": inode.version,
            "size": inode.size,
            "hash": tagged(inode.hash_algorithm, inode.current_hash),
        }

    def reserve(self, ids: list[str], owner: str, holder: object, asker: Asker | None) -> list[str]:
        """Keep files from being removed as long as a connection lasts; see `reserving.reserve`. Returns their ids."""
        numbers = [self.find(each, asker) for each in ids]
        reserving.reserve(self._store, numbers, owner, holder, asker)
        return [describing.id_text(self._store.inode(number).id) for number in numbers]

    def unreserve(self, ids: list[str], owner: str, holder: object) -> int:
        """Give up what was reserved; returns how many files those were."""
        return reserving.release(self._store, [self.find(each) for each in ids], owner, holder)

    def unreserve_all(self, holder: object) -> None:
        """A connection has ended, and with it what it has reserved."""
        reserving.release_all(self._store, holder)

    def has_reserved(self, holder: object) -> bool:
        """Whether a connection has anything reserved."""
        return reserving.has_some(self._store, holder)

    def locations(self, inode: InodeNo) -> list[dict[str, Any]]:
        """Every place where the object's bytes are."""
        return copies.locations(self._store, self._store.inode(inode))

    async def reread(self, inode: InodeNo, report: Report) -> list[dict[str, Any]]:
        """The same after reading each copy again; see `copies.reread`."""
        return await copies.reread(self._store, inode, report)

    # -- copies ----------------------------------------------------------------------------------------------------

    def replicate(self, what: str, root: str, source: str | None, owner: Owner) -> int:
        """Record that what `what` names is to have a copy on `root`; see `replicating.want`."""
        store = self._store
        chosen = replicating.named(store, source) if source is not None else None
        return replicating.want(store, self.find(what), replicating.target(store, root), owner, source=chosen)

    async def lacking(self, what: str, root: str) -> int:
        """How many files of what `what` names would be copied to `root` now; see `copies.lacking`."""
        return await copies.lacking(self._store, self.find(what), replicating.target(self._store, root).number)

    async def replicas_made(self, what: str, root: str, report: Report) -> list[dict[str, Any]]:
        """Wait until the copies on `root` are made; returns those that are held up."""
        return await copies.made(self._store, self.find(what), replicating.named(self._store, root).number, report)

    async def drop(self, what: str, root: str, *, force_last: bool, owner: Owner, report: Report) -> dict[str, Any]:
        """Give up the copies on `root`; see `dropping.drop`."""
        store = self._store
        chosen, top = replicating.named(store, root), self.find(what)
        path = os.fsencode(what) if self._by_id(what) is None else b""
        done = await dropping.drop(
            store,
            top,
            chosen,
            force_last=force_last,
            owner=owner,
            report=lambda count: report(count, 0, "files"),
            path=path,
        )
        refused = [{"path": describing.text(path), "reason": reason} for path, reason in done.refused.items()]
        return {"dropped": done.dropped, "removed": done.removed, "refused": refused}

    # -- roots that are to be empty -----------------------------------------------------------------------------------

    def drain(self, root: str, to: list[str], owner: Owner) -> bool:
        """Record that a root is to be empty; see `draining.begin`."""
        store = self._store
        return draining.begin(
            store, replicating.named(store, root), [replicating.named(store, each) for each in to], owner
        )

    def stop_draining(self, root: str, owner: Owner) -> bool:
        """Record that it is an ordinary root again; see `draining.stop`."""
        return draining.stop(self._store, replicating.named(self._store, root), owner)

    async def release(self, root: str, owner: Owner) -> dict[str, Any] | None:
        """Let go of the disk of a drained root; see `absence.release`. Returns how the drain stands."""
        driver = replicating.named(self._store, root)
        absence.release(self._store, driver, owner)
        for _ in range(LOOKS):  # threads may have descriptors of their own for a moment
            if not self._store.threads[driver.number].borrowed_tokens:
                break
            await trio.sleep(POLL_S)
        return describing.drain(self._store, driver)

    async def plan_drain(self, root: str, to: list[str]) -> dict[str, Any]:
        """What draining a root would do; see `emptying.plan`."""
        store = self._store
        chosen = replicating.named(store, root)
        numbers = draining.check(store, chosen, [replicating.named(store, each) for each in to])
        plan = await emptying.plan(store, chosen, numbers)
        return {
            "copies": [
                {"root": store.roots[number].name, "files": files, "bytes": size}
                for number, (files, size) in plan.targets.items()
            ],
            "ready_files": plan.ready[0],
            "ready_bytes": plan.ready[1],
            "held_files": plan.held_files,
            "held_bytes": plan.held_bytes,
            "held": [{"path": describing.text(path), "reason": reason} for path, reason in plan.held.items()],
            "stays": plan.stays,
        }

    async def drained(self, root: str, report: Report) -> dict[str, Any] | None:
        """Wait until a root is empty, or that ends, or nothing goes on without help; returns how it stands.

        What held files there before may have passed: that is believed only after passes that began since.
        """
        store = self._store
        driver = replicating.named(store, root)
        known = store.emptying.get(driver.number)
        believed = known.passes + PASSES if known is not None else 0
        while (drain := store.drains.get(driver.number)) is not None and not drain.finished_ns:
            progress = store.emptying.get(driver.number)
            if progress is not None:
                report(progress.bytes_gone, progress.bytes_gone + progress.bytes_left, "bytes")
                if progress.stuck:
                    if progress is not known or progress.passes >= believed or not driver.online:
                        break
                    store.on_drain()
            await trio.sleep(POLL_S)
        return describing.drain(store, driver)

    # -- what was -----------------------------------------------------------------------------------------------------

    def history(self, what: str) -> list[dict[str, Any]]:
        """Everything that happened to an object, oldest first; a removed one is known by its full id."""
        try:
            inode = self._store.inode(self.find(what))
        except NotFound:
            entries = remembering.by_id(self._store, what)
            if not entries:
                raise
            return [describing.history(entry) for entry in entries]
        created = JournalEntry(time_ns=inode.created_ns, command="create", outcome="done", version=1)
        return [describing.history(entry) for entry in (created, *self._store.index.journal(inode.id))]

    async def explain(self, what: str) -> tuple[dict[str, Any], list[Answer]]:
        """Why an object is where it is, and what calls on it would be told; or what is known of one that is gone.

        Raises:
            NotFound: nothing is known of it.
        """
        try:
            inode = self._store.inode(self.find(what))
        except NotFound:
            gone = await remembering.explain(self._store, what)
            if gone is None:
                raise
            return gone, []
        return await explaining.explain(self._store, self._mountpoint, inode)

    # -- the whole --------------------------------------------------------------------------------------------------

    def moves(self, *, all: bool, before: int | None, limit: int) -> list[dict[str, Any]]:
        """A page of moves, newest first: of the open ones, or of all that ever were."""
        number = MoveNo(before) if before is not None else None
        moves = self._store.index.moves_before(number, limit, open_only=not all)
        return [describing.move(self._store, moving.current(self._store, move)) for move in moves]

    def progress(self) -> list[dict[str, Any]]:
        """The moves whose bytes flow now."""
        running = (self._store.index.move(number) for number in self._running)
        return [
            describing.move(self._store, moving.current(self._store, move))
            for move in running
            if move is not None and move.state is MoveState.RUNNING
        ]

    def move(self, what: str | int) -> dict[str, Any]:
        """One move: of this number, or the one that an object is on its way with, or was last."""
        store = self._store
        move = steering.numbered(store, what) if isinstance(what, int) else steering.latest_of(store, self.find(what))
        return describing.move(store, moving.current(store, move))

    async def steer(self, verb: str, what: str | int | None, owner: Owner) -> list[dict[str, Any]]:
        """Do one of `steering.VERBS` to a move, or to all for which it makes sense; returns those."""
        if what is None:
            return [self.move(number) for number in await steering.steer_all(self._store, verb, owner)]
        move = self._chosen(what)
        _, do = steering.VERBS[verb]
        do(self._store, move, owner)
        return [self.move(move.number)]

    async def cancel(self, what: str | int, owner: Owner) -> dict[str, Any]:
        """Take a move back; see `cancelling.cancel`."""
        move = self._chosen(what)
        await cancelling.cancel(self._store, move, owner)
        return self.move(move.number)

    def _chosen(self, what: str | int) -> Move:
        store = self._store
        return steering.numbered(store, what) if isinstance(what, int) else steering.move_of(store, self.find(what))

    def status(self) -> dict[str, Any]:
        """Roots, room, moves, the index, and whether an operator is needed."""
        store = self._store
        roots = [describing.root(store, driver) for driver in store.roots.values()]
        moves = store.index.moves(open_only=True)
        states = [move.state for move in moves]
        fault = store.index.fault
        trouble = [f"nothing can be changed until the next mount: {fault.args[0]}"] if fault is not None else []
        trouble += [describing.trouble_of(root) for root in roots if root["reason"] and not _left(root)]
        trouble += [f"root {root['name']} is not drained: {why}" for root in roots for why in _held(root)]
        bad = soundness.all_unsound(store)
        trouble += [
            f"{describing.text(store.path(inode.number))} is {each.outcome.name.lower()}" for inode, each in bad
        ]
        trouble += copies.shortages(store)
        trouble += [
            f"root {root['name']} is not watched everywhere: {why}" for root in roots for why in _unwatched(root)
        ]
        trouble += [f"move {move.number} waits: {move.reason}" for move in moves if awaiting.needs_help(move)]
        return {
            "store": os.fspath(store.config.store),
            "mountpoint": os.fspath(self._mountpoint),
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started, 3),
            "health": "; ".join(trouble[:TROUBLE_SHOWN]) or "ok",
            "roots": roots,
            "moves": {state.value: states.count(state) for state in MoveState if state in OPEN},
            "replicas": {"due": store.index.counts()["due"]},
            "damaged": len(bad),
            "open_files": len(store.files),
            "index": {
                "inodes": store.index.counts()["inodes"],
                "events": self.last_seq - self.first_seq + 1,
                "size_bytes": store.index.size_bytes,
                "epoch": self.epoch,
                "last_seq": self.last_seq,
            },
        }

    async def wait(self, what: str | int | None, report: Report) -> dict[str, Any]:
        """Wait until moves are over, with no copy of theirs left behind, and finished contents are hashed.

        Args:
            what: a path, an id, the number of a move, or None for all.

        Returns:
            `moves`: those waited for, as they ended; a move that waits for an operator ends the wait. `replicas`: those
            that are not made, because they are held up.

        Raises:
            NotFound
        """
        store = self._store
        if isinstance(what, int):
            moves = [steering.numbered(store, what)]
        else:
            moves = awaiting.concerned(store, self._running, self.find(what) if what is not None else None)
        ended = await awaiting.over(store, self._running, moves, self._settled, report)
        held = []
        if not isinstance(what, int):
            held = await copies.made(store, self.find(what) if what else MOUNT_ROOT, None, report)
        return {"moves": [describing.move(store, move) for move in ended], "replicas": held}

    async def accept_root(self, root: str, report: Report) -> dict[str, Any]:
        """Take what is missing on a doubted root for removed; see `surveying.accept`."""
        return await surveying.accept(self._store, root, report)

    async def retry_root(self, root: str, report: Report) -> dict[str, Any]:
        """Look through a doubted root again; see `surveying.retry`."""
        return await surveying.retry(self._store, root, report)

    # -- reading again ----------------------------------------------------------------------------------------------

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

    # -- the trash --------------------------------------------------------------------------------------------------

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

    async def verify(self, what: str | None, root: str | None, report: Report) -> dict[str, Any]:
        """Read bytes again and compare them with their hashes.

        Raises:
            NotFound: the path, or the root.
        """
        if root is not None and root not in (driver.name for driver in self._store.roots.values()):
            raise NotFound(f"root {root}")
        top = self.find(what) if what is not None else MOUNT_ROOT
        return await verifying.verify(self._store, top, root, report)


def _left(root: dict[str, Any]) -> bool:
    """Whether no file is on a root any more, so that nobody misses it."""
    return root["drain"] is not None and root["drain"]["state"] == "drained"


def _unwatched(root: dict[str, Any]) -> list[str]:
    """Why changes by others are found only now and then on a root that is watched for them."""
    return [root["watch"]["reason"]] if root["watch"] is not None and root["watch"]["reason"] else []


def _held(root: dict[str, Any]) -> list[str]:
    """What keeps files on a root that is to be empty, and does not pass by itself."""
    held = root["drain"]["held"] if root["drain"] is not None and not _left(root) else []
    return sorted({each["reason"] for each in held} - emptying.PASSING)
