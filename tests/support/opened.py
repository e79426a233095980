"""A store without a kernel: opened in this process, called by path, with its background work driven step by step.

Nothing runs by itself here (`byhand`). No kernel looks inodes up: what has no name is held by its open handles alone.

    store in memory (/dev/shm): uploads, downloads, main, hot, warm        another file system: cold
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fusestore import config
from fusestore.jobs import walk
from fusestore.jobs.drainer import Drainer
from fusestore.jobs.hasher import Hasher
from fusestore.jobs.mover import Mover
from fusestore.jobs.replicator import Replicator
from fusestore.model import InodeNo, MoveNo, Outside, RootNo
from fusestore.service import discarding, emptying, keeping
from fusestore.service.emptying import Needs
from fusestore.service.founding import create_store, open_store
from fusestore.service.recovery import recover
from tests.support.byhand import MANY, Beside, finish
from tests.support.proofs import Proofs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fusestore.core.intents import Discard
    from fusestore.core.ports import Driver
    from fusestore.service.store import Store

walk.HANDFUL = 2  # type: ignore[misc]  # so that the small trees of tests have several in hand


@contextlib.contextmanager
def two_devices() -> Iterator[tuple[Path, Path]]:
    """Folders on two file systems, both in memory where root allows it."""
    here = Path(tempfile.mkdtemp(prefix="fusestore-near-", dir="/dev/shm"))
    there = Path(tempfile.mkdtemp(prefix="fusestore-far-"))
    mount = ("mount", "-t", "tmpfs", "-o", "size=64m", "fusestore", os.fspath(there))
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False, timeout=60).returncode == 0
    try:
        assert here.stat().st_dev != there.stat().st_dev
        yield here, there
    finally:
        if mounted:
            subprocess.run(("umount", "-l", os.fspath(there)), check=True, timeout=60)
        shutil.rmtree(here)
        shutil.rmtree(there)


class Opened(Proofs):
    """One store, open or not; there is one at a time below a pair of folders.

    Attributes:
        jobs: the moves that are being worked on.
    """

    def __init__(
        self,
        near: Path,
        far: Path,
        *,
        outside: Outside = Outside.NONE,
        copies: Mapping[str, int] | None = None,
        trash_s: int = 0,
        trash_removed: bool = False,
    ) -> None:
        self.path = near / "store"
        self.disks = {"hot": near / "hot", "warm": near / "warm", "cold": far / "cold"}
        template = near / f"template-{outside}"  # a store that was never used: copying it is quicker than making one
        if not template.exists():
            create_store(self.path)
            for name, disk in self.disks.items():
                config.add_root(self.path, name, disk, outside)
            open_store(config.load(self.path)).close(clean=True)
            template.mkdir()
            for directory in (self.path, *self.disks.values()):
                shutil.move(directory, template)
        for directory in (self.path, *self.disks.values()):
            shutil.copytree(template / directory.name, directory)
        self.disks |= {name: self.path / name for name in ("uploads", "downloads", "main")}
        self._trash = {"trash_s": trash_s, "trash_removed": trash_removed}
        self.ask_for_copies(copies or {})
        self.handles: dict[int, InodeNo] = {}
        self.open()

    def ask_for_copies(self, copies: Mapping[str, int]) -> None:
        """Have roots ask for so many copies of their files, and others for none, from the next start on."""
        file = self.path / config.CONFIG_NAME
        lines = [line for line in file.read_text().splitlines() if not line.startswith("copies")]
        for name, count in copies.items():
            lines.insert(lines.index(f"[roots.{name}]") + 1, f"copies = {count}")
        file.write_text("\n".join(lines) + "\n")
        read = config.load(self.path)
        self.config = replace(read, roots=tuple(replace(root, **self._trash) for root in read.roots))

    # -- the life of a daemon ---------------------------------------------------------------------------------------

    def open(self, *, degraded: bool = False, wrap: Callable[[Store], None] | None = None) -> None:
        """Start as the daemon does; `wrap` may put something between the store and its parts before recovery runs."""
        self.store = open_store(self.config, degraded=degraded)
        self.mover = Mover(self.store, 2, 2)
        self.hasher = Hasher(self.store)
        self.replicator = Replicator(self.store)
        self.drainer = Drainer(self.store)
        self.jobs: dict[MoveNo, Beside] = {}
        self.replaced: list[tuple[int, Discard]] = []
        self.store.on_replaced = self.replaced.extend
        if wrap is not None:
            wrap(self.store)
        recover(self.store)
        keeping.begin(self.store)

    def close(self) -> None:
        """Stop in order: handles are released, contents settled, moves left where they are."""
        for fh in list(self.handles):
            self.release(fh)
        self.settle()
        self._drop_jobs()
        self.store.close(clean=True)

    def crash(self) -> None:
        """Stop as a killed process does: nothing is committed, finished or given back but what the kernel takes."""
        for root in self.store.roots.values():
            root.online = False  # a job that is dropped tidies up after itself; a killed process does not
        self._drop_jobs()
        index = self.store.index
        index._txn.abort()
        index._committer.shutdown()
        index._log.close(empty=False)
        index._mark.close()
        index._witness.close()
        index._room.close()
        index._env.close()
        os.close(index._lock)
        for fh in list(self.handles):
            self.store.files.remove(fh)
        self.handles.clear()
        self.store.places.close()
        for root in self.store.roots.values():
            root.close()

    def remove(self) -> None:
        """Leave nothing of it on any disk; to be called when it is closed."""
        for directory in (self.path, self.disks["hot"], self.disks["warm"], self.disks["cold"]):
            shutil.rmtree(directory)

    def _drop_jobs(self) -> None:
        for jobs in self.jobs.values():
            jobs.drop()
        self.jobs.clear()
        self.store.running.clear()

    # -- background work --------------------------------------------------------------------------------------------

    def step(self, steps: int = 1) -> None:
        """Take every open move a number of steps further; what is not begun is begun, what waits is tried again."""
        for _ in range(steps):
            for move in self.store.index.moves(open_only=True):
                if move.number not in self.jobs:
                    self.store.running[move.number] = move
                    beside = Beside()
                    self.jobs[move.number] = beside
                    beside.start_soon(self.mover.bring, move, beside)
            for number, jobs in list(self.jobs.items()):
                jobs.step()
                if jobs.are_over:
                    del self.jobs[number], self.store.running[number]

    def go_on(self) -> None:
        self.step()

    def settle(self) -> None:
        """Make closed contents durable and hash them."""
        finish(self.hasher.settle_waiting())
        self.store.index.sync_log()
        discarding.carry_out(self.store, self.replaced)
        self.replaced.clear()

    def destroy_left(self) -> None:
        """Destroy what disks refused or were away for; to be called when no move is on its way."""
        finish(discarding.carry_out_left(self.store, self.store.condemned.keys()))

    def make_replicas(self) -> None:
        """Make the replicas that are due, as far as that can be done."""
        while any(finish(self.replicator.make_all(root)) for root in self.store.index.due_roots()):
            self.settle()

    def empty(self) -> None:
        """Have the files of roots that are to be empty leave them, as far as that can be done."""
        for number in [number for number, drain in self.store.drains.items() if not drain.finished_ns]:
            self._empty(self.store.roots[number])

    def _empty(self, root: Driver) -> None:
        finish(self.drainer.list_all(root))
        files = finish(emptying.files_on(self.store, root.number))
        self.store.emptying[root.number] = progress = emptying.Progress()
        progress.begin(dict(files))
        avoid: dict[InodeNo, set[RootNo]] = {number: set() for number in files}
        for _ in range(MANY):
            steps = self.drainer.want(root, files, avoid)
            self.make_replicas()
            ready = [each for each, step in steps.items() if step.needs is Needs.NOTHING]
            finish(self.drainer.give_up(root, iter(ready)))
            files = {each: 0 for each, step in steps.items() if not step.reason and each not in ready}
            if not files:
                break
        if not progress.files_left:
            finish(self.drainer.prove(root))

    def rest(self) -> None:
        """Run until nothing is left to do: contents settled, moves over, replicas made.

        Raises:
            AssertionError: moves that do not end by themselves, with their reasons.
        """
        for _ in range(MANY):
            self.settle()
            if not self.jobs and not self.store.index.has_open_moves():
                self.make_replicas()
                self.empty()
                self.make_replicas()
                self.settle()
                if not self.store.index.has_open_moves():  # of what goes home
                    return
            self.step()
        waiting = [(move.path, move.state, move.reason) for move in self.store.index.moves(open_only=True)]
        raise AssertionError(f"moves that do not end: {waiting}")
