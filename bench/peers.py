"""What is compared: how each file system is mounted over a directory of the same disk, and unmounted again.

Options and why: docs/performance.md. A peer that is not installed is left out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path  # noqa: TC003  # msgspec reads annotations at run time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from bench.stores import ENVIRONMENT, PROJECT, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Place(msgspec.Struct, frozen=True):
    """Where to work, and what lies behind it."""

    directory: Path
    backing: Path  # the directory of the disk below which the bytes are
    archive: Path | None = None  # what `tools` unpacks

    def encoded(self) -> bytes:
        return msgspec.json.encode(self, enc_hook=str)

    def work(self, name: str, archive: Path | None = None) -> Place:
        """A new directory in it."""
        (self.directory / name).mkdir()
        return Place(self.directory / name, self.backing, archive)


class Peer(NamedTuple):
    name: str  # on the command line and in every table
    about: str
    mount: Callable[[Path], contextlib.AbstractContextManager[Place]]  # below a directory that it makes
    program: str | None = None  # what must be installed


def wait_for(mountpoint: Path, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 20
    while not os.path.ismount(mountpoint):
        if process.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(f"{mountpoint} was not mounted by {process.args!r}")
        time.sleep(0.01)


@contextlib.contextmanager
def foreground(base: Path, *command: str) -> Iterator[Place]:
    """A daemon that stays in the foreground and is given the two directories as its last arguments."""
    source, mountpoint = base / "source", base / "mnt"
    source.mkdir(parents=True)
    mountpoint.mkdir()
    process = subprocess.Popen([*command, source, mountpoint], env=ENVIRONMENT, cwd=PROJECT)
    try:
        wait_for(mountpoint, process)
        yield Place(mountpoint, source)
    finally:
        subprocess.run(["fusermount3", "-u", mountpoint], check=False)
        process.wait(30)


@contextlib.contextmanager
def native(base: Path) -> Iterator[Place]:
    base.mkdir(parents=True)
    yield Place(base, base)


def floor(base: Path) -> contextlib.AbstractContextManager[Place]:
    return foreground(base, sys.executable, "-m", "bench.passthrough")


def floor_looking(base: Path) -> contextlib.AbstractContextManager[Place]:
    return foreground(base, sys.executable, "-m", "bench.passthrough", "--look")


def bindfs(base: Path) -> contextlib.AbstractContextManager[Place]:
    return foreground(base, "bindfs", "-f", "-o", "attr_timeout=60,entry_timeout=60")


def bindfs_caching(base: Path) -> contextlib.AbstractContextManager[Place]:
    return foreground(base, "bindfs", "-f", "-o", "attr_timeout=60,entry_timeout=60,kernel_cache")


def mergerfs(base: Path) -> contextlib.AbstractContextManager[Place]:
    options = (
        "use_ino,category.create=ff,minfreespace=0,cache.files=auto-full,cache.attr=60,cache.entry=60,"
        "cache.statfs=60,cache.symlinks=true,cache.readdir=true,security_capability=false"
    )
    return foreground(base, "mergerfs", "-f", "-o", options)


@contextlib.contextmanager
def uploads(base: Path) -> Iterator[Place]:
    with store(base) as mountpoint:
        yield Place(mountpoint / "uploads", base / "store" / "uploads")


@contextlib.contextmanager
def tree_root(base: Path, outside: str = "none", **options: Any) -> Iterator[Place]:
    with store(base, outside, tree=base / "tree", **options) as mountpoint:
        yield Place(mountpoint / "resources" / "tree", base / "tree")


def writers(base: Path) -> contextlib.AbstractContextManager[Place]:
    return tree_root(base, "writers")


def writeback(base: Path) -> contextlib.AbstractContextManager[Place]:
    return tree_root(base, writeback=True)


NATIVE: Final = "native"
FLOOR: Final = "floor"
FLOOR_LOOKING: Final = "floor+look"
OTHERS: Final = ("bindfs", "mergerfs")  # "the better of the two"
OURS: Final = ("writers", "none", "writeback", "uploads")
_ALL: Final = (
    Peer(NATIVE, "the directory itself", native),
    Peer(FLOOR, "a bare pyfuse3 pass-through without an index", floor),
    Peer(FLOOR_LOOKING, "the same, looking for the next request before it sleeps, as fusestore does", floor_looking),
    Peer("bindfs", "its defaults, attributes and names cached for 60 s", bindfs, "bindfs"),
    Peer("mergerfs", "one branch, all that its manual recommends for speed", mergerfs, "mergerfs"),
    Peer("writers", "fusestore, a tree root with outside = writers", writers),
    Peer("none", "fusestore, a tree root with outside = none", tree_root),
    Peer("writeback", "the same with mount.writeback", writeback),
    Peer("uploads", "fusestore, its landing area", uploads),
)
_ON_REQUEST: Final = (Peer("bindfs+cache", "bindfs with kernel_cache beside", bindfs_caching, "bindfs"),)


def installed(names: list[str] | None = None) -> list[Peer]:
    """The peers of these names, or all that are compared; without those whose program is missing.

    Raises:
        ValueError: there is no peer of such a name.
    """
    known = {peer.name: peer for peer in (*_ALL, *_ON_REQUEST)}
    if unknown := [name for name in names or () if name not in known]:
        raise ValueError(f"no peer is called {unknown[0]!r}; there are {', '.join(known)}")
    chosen = [known[name] for name in names] if names else list(_ALL)
    return [peer for peer in chosen if peer.program is None or shutil.which(peer.program)]


def about(name: str) -> str:
    return next(peer.about for peer in (*_ALL, *_ON_REQUEST) if peer.name == name)
