"""A service in memory that answers the control socket's questions: a few files, and a log that can be cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from fusestore.errors import NotFound
from fusestore.model import InodeNo

if TYPE_CHECKING:
    from fusestore.control.methods import Report

ID = "01932f6c-7a55-7cde-8f01-23456789abcd"


class FakeQueries:
    """Implements the `Queries` port."""

    def __init__(self) -> None:
        self.first_seq = 1
        self.last_seq = 0
        self.epoch = 1
        self.files = {"uploads/a": InodeNo(300), ID: InodeNo(300), "uploads/\udcff\u00e9": InodeNo(301)}
        self.log: dict[int, dict[str, Any]] = {}
        self.stuck: list[dict[str, Any]] = []
        self.running = 0
        self.let_go = trio.Event()
        self.was_shut_down = trio.Event()
        self._news = trio.Event()

    def happen(self, count: int = 1) -> None:
        """So many events more."""
        for _ in range(count):
            self.last_seq += 1
            self.log[self.last_seq] = {
                "operation": "insert",
                "kind": "created",
                "id": ID,
                "path": f"uploads/{self.last_seq}",
                "root": "uploads",
                "seq": self.last_seq,
                "epoch": self.epoch,
                "time_ns": 1_700_000_000_000_000_000 + self.last_seq,
            }
        self._news.set()
        self._news = trio.Event()

    def cut(self, first_seq: int) -> None:
        """Retention takes everything before `first_seq`."""
        self.log = {seq: event for seq, event in self.log.items() if seq >= first_seq}
        self.first_seq = first_seq

    def crash(self, survived: int, next_seq: int) -> None:
        """A power cut: events after `survived` are lost, numbers go on behind `next_seq` in a new epoch."""
        self.log = {seq: event for seq, event in self.log.items() if seq <= survived}
        self.last_seq, self.epoch = next_seq, self.epoch + 1
        self.happen()

    def status(self) -> dict[str, Any]:
        return {
            "store": "/srv/store",
            "mountpoint": "/mnt/lab",
            "pid": 1,
            "uptime_s": 3725,
            "health": "good",
            "roots": [
                {
                    "name": "main",
                    "path": "/srv/store/main",
                    "layout": "tree",
                    "outside": "none",
                    "state": "online",
                    "total_bytes": 1 << 40,
                    "free_bytes": 1 << 30,
                    "device": 5,
                }
            ],
            "moves": {"queued": 0, "running": 0, "waiting": len(self.stuck)},
            "index": {"inodes": 3, "events": len(self.log), "size_bytes": 4096, "epoch": 1, "last_seq": self.last_seq},
        }

    def find(self, what: str) -> InodeNo:
        if what in ("crash", "bad"):
            raise ZeroDivisionError(what)
        if what not in self.files:
            raise NotFound(what.encode("utf-8", "surrogateescape"))
        return self.files[what]

    def record(self, inode: InodeNo) -> dict[str, Any]:
        path = next(path for path, number in self.files.items() if number == inode)
        return {
            "id": ID,
            "path": path,
            "paths": [path],
            "type": "file",
            "mode": 0o100644,
            "uid": 0,
            "gid": 0,
            "size": 0,
            "mtime_ns": 1_700_000_000_123_456_789,
            "version": 1,
            "state": "ready",
            "hash": "blake3:00",
            "root": "uploads",
            "nlink": 1,
            "created_ns": 1_700_000_000_123_456_789,
        }

    def locations(self, inode: InodeNo) -> list[dict[str, Any]]:
        return [{"root": "main", "path": f"/disk/{inode}", "role": "home", "size": 5, "present": True}]

    def history(self, what: str) -> list[dict[str, Any]]:
        return []

    def moves(self, *, all: bool, before: int | None, limit: int) -> list[dict[str, Any]]:
        found = [move for move in self.stuck if before is None or move["number"] < before]
        return sorted(found, key=lambda move: -move["number"])[:limit]

    def events(self, since: int, limit: int) -> list[dict[str, Any]]:
        return [self.log[seq] for seq in sorted(self.log) if seq > since][:limit]

    async def changed(self, seq: int) -> None:
        while self.last_seq <= seq:
            await self._news.wait()

    async def wait(self, what: str | int | None, report: Report) -> dict[str, Any]:
        self.running += 1
        try:
            report(1, 2, "files")
            await self.let_go.wait()
            return {"moves": self.stuck}
        finally:
            self.running -= 1

    async def verify(self, what: str | None, root: str | None, report: Report) -> dict[str, Any]:
        return {"checked": 2, "ok": 1, "unknown": 0, "bad": [{"path": "uploads/b", "id": ID, "error": "gone"}]}

    def shutdown(self) -> None:
        self.was_shut_down.set()
