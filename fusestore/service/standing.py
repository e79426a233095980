"""How a store does, in one line for people who look at many services, and cheap enough to be made every second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.model import counted

if TYPE_CHECKING:
    from pathlib import Path

    from fusestore.service.store import Store


def line(store: Store, mountpoint: Path) -> str:
    """What is served, what is wrong with it, and what goes on."""
    said = [f"serving {mountpoint}"]
    if store.index.fault is not None:
        said.append("read-only until the next mount")
    for word, is_doubted in (("offline", False), ("doubted", True)):
        names = [store.roots[root].name for root, gone in store.absent.items() if gone.is_doubted is is_doubted]
        if names:
            said.append(f"{word}: {', '.join(names)}")
    going_on = [
        counted(len(store.running), "move") * bool(store.running),
        counted(len(store.copied), "replica") * bool(store.copied),
    ]
    if any(going_on):
        said.append(" and ".join(filter(None, going_on)) + " on the way")
    draining = [store.roots[root].name for root, drain in store.drains.items() if not drain.finished_ns]
    if draining:
        said.append(f"draining {', '.join(draining)}")
    return "; ".join(said)
