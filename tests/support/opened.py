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

from fusestore import config
from fusestore.jobs.hasher import Hasher
from fusestore.jobs.mover import Mover
from fusestore.model import InodeNo, MoveNo, Outside
from fusestore.service.founding import create_store, open_store
from fusestore.service.recovery import recover
from tests.support.byhand import MANY, Job, finish
from tests.support.proofs import Proofs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusestore.service.store import Store


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

    def __init__(self, near: Path, far: Path, *, outside: Outside = Outside.NONE) -> None:
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
        self.config = config.load(self.path)
        self.handles: dict[int, InodeNo] = {}
        self.open()

    # -- the life of a daemon ---------------------------------------------------------------------------------------

    def open(self, *, degraded: bool = False, wrap: Callable[[Store], None] | None = None) -> None:
        """Start as the daemon does; `wrap` may put something between the store and its parts before recovery runs."""
        self.store = open_store(self.config, degraded=degraded)
        self.mover = Mover(self.store, 2)
        self.hasher = Hasher(self.store)
        self.jobs: dict[MoveNo, Job] = {}
        if wrap is not None:
            wrap(self.store)
        recover(self.store)

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
        index._log.close(empty=False)
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
        for job in self.jobs.values():
            job.drop()
        self.jobs.clear()

    # -- background work --------------------------------------------------------------------------------------------

    def step(self, steps: int = 1) -> None:
        """Take every open move a number of steps further; what is not begun is begun, what waits is tried again."""
        for _ in range(steps):
            for move in self.store.index.moves(open_only=True):
                if move.number not in self.jobs:
                    self.jobs[move.number] = Job(self.mover.bring(move))
            for number, job in list(self.jobs.items()):
                job.step()
                if job.is_over:
                    del self.jobs[number]

    def settle(self) -> None:
        """Make closed contents durable and hash them."""
        finish(self.hasher.settle_waiting())

    def rest(self) -> None:
        """Run until nothing is left to do: contents settled, moves over.

        Raises:
            AssertionError: moves that do not end by themselves, with their reasons.
        """
        for _ in range(MANY):
            self.settle()
            if not self.jobs and not self.store.index.has_open_moves():
                return
            self.step()
        waiting = [(move.path, move.state, move.reason) for move in self.store.index.moves(open_only=True)]
        raise AssertionError(f"moves that do not end: {waiting}")
