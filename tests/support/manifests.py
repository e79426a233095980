"""What the manifests of a store's roots say together, read as another program would."""

from __future__ import annotations

import heapq
import os
from itertools import groupby
from typing import TYPE_CHECKING

from fusestore.roots.local import LocalRoot
from fusestore.roots.manifest import Entry, Frame, Manifest, framed
from fusestore.service.recording import entry_of, frame_of, head_of, keeper_of
from tests.support.daemon import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fusestore.model import InodeNo
    from fusestore.service.store import Store
    from tests.support.daemon import Mounted


def frames(disk: Path) -> list[Frame]:
    """All frames of the manifest in a root's directory."""
    with Manifest(os.open(disk / ".fusestore", os.O_RDONLY)) as manifest:
        return list(manifest.frames())


def said(disks: Mapping[str, Path]) -> dict[InodeNo, Entry]:
    """The last entry of each inode."""

    def order(frame: Frame) -> tuple[int, int]:
        return frame.epoch, frame.change

    known: dict[InodeNo, Entry] = {}
    for _, group in groupby(heapq.merge(*map(frames, disks.values()), key=order), key=order):
        together = list(group)
        for number in [number for frame in together for number in frame.gone]:
            known.pop(number, None)
        known |= {entry.inode.number: entry for frame in together for entry in frame.entries}
    return known


def disks(store: Mounted) -> dict[str, Path]:
    """The directories of all roots of a store."""
    own = {name: store.store / name for name in ("uploads", "downloads", "main")}
    return own | {name: root.directory for name, root in store.roots.items()}


def wait_until_noted(store: Mounted) -> None:
    """Make a mark in every root, and wait until each manifest has it, with all that was done before."""
    marks = {}
    for name in disks(store):
        top = store.mountpoint / name if name in ("uploads", "downloads") else store.resources / name
        (top / "mark").write_bytes(b"")
        marks[name] = (top / "mark").stat().st_ino
    store.wait("--all")
    for name, disk in disks(store).items():
        what = f"the manifest of {name} has its mark"
        eventually(lambda disk=disk, number=marks[name]: _has_hash(disk, number), what, timeout_s=20)  # type: ignore[misc]


def _has_hash(disk: Path, number: int) -> bool:
    return any(entry.inode.number == number and entry.inode.hash for each in frames(disk) for entry in each.entries)


def note_down(store: Store) -> None:
    """Write every manifest of an open store as it has to be now."""
    inodes = store.index.inodes_from(0, 1 << 20)
    for number, root in store.roots.items():
        assert isinstance(root, LocalRoot)
        entries = [entry_of(store, inode) for inode in inodes if keeper_of(store, inode) == number]
        data = framed(head_of(store, number)) + framed(frame_of(store, entries, anew=True))
        with root.manifest() as manifest:
            manifest.append(data, manifest.begin(), fresh=True)
            manifest.put_in_place()


def entries(store: Store) -> dict[InodeNo, Entry]:
    """What an open store's index says of everything that has a name."""
    inodes = [each for each in store.index.inodes_from(0, 1 << 20) if keeper_of(store, each) is not None]
    return {inode.number: entry_of(store, inode) for inode in inodes}
