"""How a store is, all in all."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from fusestore.core.moves import OPEN
from fusestore.model import MoveState
from fusestore.service import awaiting, copies, describing, emptying, soundness

if TYPE_CHECKING:
    from pathlib import Path

    from fusestore.service.store import Store

TROUBLE_SHOWN = 5


class Status:
    """What is asked about the whole."""

    _store: Store
    _mountpoint: Path
    _started: float

    def places(self) -> dict[str, str]:
        """Where the store is, and where it is mounted."""
        return {"store": os.fspath(self._store.config.store), "mountpoint": os.fspath(self._mountpoint)}

    def roots(self) -> list[dict[str, Any]]:
        """Every root, with its room."""
        return [describing.root(self._store, driver) for driver in self._store.roots.values()]

    def status(self) -> dict[str, Any]:
        """Roots, room, moves, the index, and whether an operator is needed."""
        store = self._store
        roots = self.roots()
        moves = store.index.moves(open_only=True)
        states = [move.state for move in moves]
        fault = store.index.fault
        trouble = [f"nothing can be changed until the next mount: {fault.args[0]}"] if fault is not None else []
        trouble += [] if store.index.has_room else ["the store's disk is full: nothing new can be made"]
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
            **self.places(),
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
                "events": store.index.last_seq - store.index.first_seq + 1,
                "size_bytes": store.index.size_bytes,
                "epoch": store.index.epoch,
                "last_seq": store.index.last_seq,
            },
        }


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
