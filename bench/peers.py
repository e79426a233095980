"""How each file system under comparison is mounted over a directory of the same disk, and unmounted again.

A peer that is not installed is left out. fusestore is driven by its command line only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT: Final = Path(__file__).resolve().parents[1]
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(PROJECT)}
_START: Final = "import sys; from fusestore.cli.main import main; sys.exit(main())"


class Peer(NamedTuple):
    name: str
    mount: Callable[[Path], contextlib.AbstractContextManager[Path]]  # base -> a directory to work in


def fusestore(*arguments: str | Path) -> str:
    command = [sys.executable, "-c", _START, *arguments]
    return subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True, timeout=600).stdout


def wait_for(mountpoint: Path) -> None:
    limit = time.monotonic() + 20
    while not os.path.ismount(mountpoint):
        if time.monotonic() > limit:
            raise TimeoutError(f"{mountpoint} was not mounted")
        time.sleep(0.01)


@contextlib.contextmanager
def foreground(base: Path, *command: str | Path) -> Iterator[Path]:
    """A daemon that stays in the foreground; its command names `base/source` and `base/mnt`."""
    (base / "source").mkdir(parents=True)
    (base / "mnt").mkdir()
    process = subprocess.Popen(command, env=ENVIRONMENT, cwd=PROJECT)
    try:
        wait_for(base / "mnt")
        yield base / "mnt"
    finally:
        subprocess.run(["fusermount3", "-u", base / "mnt"], check=False)
        process.wait(30)


@contextlib.contextmanager
def native(base: Path) -> Iterator[Path]:
    base.mkdir(parents=True)
    yield base


def passthrough(base: Path) -> contextlib.AbstractContextManager[Path]:
    return foreground(base, sys.executable, "-m", "bench.passthrough", base / "source", base / "mnt")


def bindfs(base: Path) -> contextlib.AbstractContextManager[Path]:
    timeouts = "attr_timeout=60,entry_timeout=60"
    return foreground(base, "bindfs", "-f", "-o", timeouts, base / "source", base / "mnt")


def mergerfs(base: Path) -> contextlib.AbstractContextManager[Path]:
    options = "cache.files=auto-full,cache.attr=60,cache.entry=60,category.create=ff,minfreespace=0"
    return foreground(base, "mergerfs", "-f", "-o", options, base / "source", base / "mnt")


@contextlib.contextmanager
def store(base: Path, **roots: Path) -> Iterator[Path]:
    """A mounted store with `roots` beside main, all of them ours alone; yields the mountpoint."""
    (base / "mnt").mkdir(parents=True)
    fusestore("init", base / "store")
    for name, directory in roots.items():
        fusestore("root", "add", base / "store", name, directory, "--outside", "none")
    fusestore("mount", base / "store", base / "mnt")
    try:
        yield base / "mnt"
    finally:
        fusestore("umount", base / "mnt")


@contextlib.contextmanager
def tree_root(base: Path) -> Iterator[Path]:
    with store(base) as mountpoint:
        yield mountpoint / "resources" / "main"


@contextlib.contextmanager
def uploads(base: Path) -> Iterator[Path]:
    with store(base) as mountpoint:
        yield mountpoint / "uploads"


def peers() -> list[Peer]:
    """All that can be measured here; the first is the stick."""
    found = [Peer("passthrough", passthrough), Peer("fusestore tree", tree_root), Peer("fusestore uploads", uploads)]
    found += [Peer(name, mount) for name, mount in (("bindfs", bindfs), ("mergerfs", mergerfs)) if shutil.which(name)]
    return [*found, Peer("native", native)]
