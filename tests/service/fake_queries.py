"""A service in memory that answers the control socket's questions: a few files, and a log that can be cut."""

from __future__ import annotations

from contextlib import nullcontext
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

import trio

from fusestore.errors import LastCopy, NoConsumer, NoMove, NoRoom, NotFound
from fusestore.model import InodeNo
from fusestore.service.asking import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from fusestore.control.methods import Report
    from fusestore.core.rights import Asker
    from fusestore.model import Inode, Owner

FACT = {"code": "hash-unknown", "text": "no hash is recorded", "hint": ""}
ID = "01932f6c-7a55-7cde-8f01-23456789abcd"


class FakePresence:
    """Implements the `Presence` port."""

    def __init__(self, there: list[dict[str, Any]], seq: int) -> None:
        self.seq = seq
        self.epoch = 1
        self.partial = ["main"]
        self.is_open = True
        self._there = there

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for each in self._there:
            assert self.is_open
            yield each

    def by_id(self) -> Iterator[tuple[bytes, int, Inode]]:
        for each in self._there:
            assert self.is_open
            yield UUID(each["id"]).bytes, each["last"], each  # type: ignore[misc]

    def describe(self, inode: Inode) -> dict[str, Any] | None:
        return inode if inode["path"] is not None else None  # type: ignore[index, return-value]

    def close(self) -> None:
        self.is_open = False


class FakeQueries:
    """Implements the `Queries` port."""

    def __init__(self) -> None:
        self.first_seq = 1
        self.last_seq = 0
        self.epoch = 1
        self.files = {"uploads/a": InodeNo(300), ID: InodeNo(300), "uploads/\udcff\u00e9": InodeNo(301)}
        self.log: dict[int, dict[str, Any]] = {}
        self.there: list[dict[str, Any]] = []
        self.presences: list[FakePresence] = []
        self.spools: list[IO[bytes]] = []
        self.stuck: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str | int | None]] = []
        self.running = 0
        self.acked: dict[str, int] = {}
        self.reserved: set[tuple[str, str, object]] = set()
        self.copies: list[tuple[str, str, str | None]] = []
        self.reloaded: dict[str, list[str]] = {"applied": ["moves.rate"], "needs_remount": ["hash.algorithm"]}
        self.refused: Exception | None = None
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
                "old_path": "",
                "root": "uploads",
                "old_root": "",
                "seq": self.last_seq,
                "epoch": self.epoch,
                "time_ns": 1_700_000_000_000_000_000 + self.last_seq,
            }
        self._news.set()
        self._news = trio.Event()

    def consumers(self) -> list[dict[str, Any]]:
        return [self.consumer(name) for name in self.acked]

    def consumer(self, name: str) -> dict[str, Any]:
        if name not in self.acked:
            raise NoConsumer(name)
        return {"consumer": name, "seq": self.acked[name], "epoch": self.epoch}

    def register_consumer(self, name: str, seq: int) -> bool:
        return self.acked.setdefault(name, seq) is seq

    def acknowledge(self, name: str, seq: int, epoch: int) -> dict[str, Any]:
        self.acked[name] = max(self.acked[name], seq)
        self._news.set()
        self._news = trio.Event()
        return self.consumer(name)

    def forget_consumer(self, name: str) -> bool:
        return self.acked.pop(name, None) is not None

    async def acknowledged(self, name: str, seq: int, report: Report) -> dict[str, Any]:
        while self.consumer(name)["seq"] < seq:
            await self._news.wait()
        return self.consumer(name)

    def cut(self, first_seq: int) -> None:
        """Retention takes everything before `first_seq`."""
        self.log = {seq: event for seq, event in self.log.items() if seq >= first_seq}
        self.first_seq = first_seq

    def crash(self, survived: int, next_seq: int) -> None:
        """A power cut: events after `survived` are lost, numbers go on behind `next_seq` in a new epoch."""
        self.log = {seq: event for seq, event in self.log.items() if seq <= survived}
        self.last_seq, self.epoch = next_seq, self.epoch + 1
        self.happen()

    def places(self) -> dict[str, str]:
        return {"store": "/srv/store", "mountpoint": "/mnt/lab"}

    def roots(self) -> list[dict[str, Any]]:
        place = {"path": "/srv/store/main", "layout": "tree", "outside": "none", "device": 5, "drain": None}
        room = {"total_bytes": 1 << 40, "free_bytes": 1 << 30}
        return [{"name": "main", **place, "state": "online", "reason": "", "since_ns": 0, **room}]

    def status(self) -> dict[str, Any]:
        return {
            **self.places(),
            "pid": 1,
            "uptime_s": 3725,
            "health": "good",
            "roots": self.roots(),
            "replicas": {"due": 0},
            "moves": {"queued": 0, "running": 0, "waiting": len(self.stuck)},
            "index": {"inodes": 3, "events": len(self.log), "size_bytes": 4096, "epoch": 1, "last_seq": self.last_seq},
        }

    async def accept_root(self, root: str, report: Report) -> dict[str, Any]:
        return {"there": 3, "missing": 0, "online": True}

    async def retry_root(self, root: str, report: Report) -> dict[str, Any]:
        return {"there": 2, "missing": 1, "online": False}

    def find(self, what: str, asker: Asker | None = None) -> InodeNo:
        if what in ("crash", "bad"):
            raise ZeroDivisionError(what)
        if what not in self.files:
            raise NotFound(what.encode("utf-8", "surrogateescape"))
        return self.files[what]

    def holding(self, hash: tuple[str, bytes]) -> InodeNo:
        return self.files["uploads/a"]

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
        entries = [self.record(number) for path, number in self.files.items() if path != ID]
        return {"entries": entries[:limit], "problems": [], "after": None}

    def reserve(self, ids: list[str], owner: str, holder: object, asker: Asker | None) -> list[str]:
        self.reserved |= {(each, owner, holder) for each in ids}
        return ids

    def unreserve(self, ids: list[str], owner: str, holder: object, asker: Asker | None) -> int:
        before = len(self.reserved)
        self.reserved -= {(each, owner, holder) for each in ids}
        return before - len(self.reserved)

    def unreserve_all(self, holder: object) -> None:
        self.reserved = {claim for claim in self.reserved if claim[2] is not holder}

    def has_reserved(self, holder: object) -> bool:
        return any(claim[2] is holder for claim in self.reserved)

    async def register(
        self, name: str, body: bytes, content_type: str, mode: int, owner: Owner, asker: Asker, *, download: bool
    ) -> dict[str, Any]:
        return {"id": ID, "path": f"uploads/{name}"}

    async def write(self, what: str, body: bytes, owner: Owner, asker: Asker) -> dict[str, Any]:
        return {"id": ID, "path": what, "old_id": ID}

    async def unlink(self, what: str, owner: Owner, asker: Asker) -> bool:
        return what in self.files

    async def digest(self, what: str, asker: Asker | None) -> dict[str, Any]:
        return {"id": ID, "path": "uploads/a", "version": 1, "size": 0, "hash": "blake3:00"}

    def record(self, inode: InodeNo) -> dict[str, Any]:
        path = next(path for path, number in self.files.items() if number == inode)
        return {
            "id": ID,
            "path": path,
            "paths": [path],
            "type": "file",
            "verified": "",
            "verified_ns": 0,
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
        place = {"root": "main", "path": f"/disk/{inode}", "role": "home", "size": 5, "present": True}
        return [{**place, "state": "current", "reason": "", "verified_ns": 0}]

    async def reread(self, inode: InodeNo, owner: Owner, report: Report) -> list[dict[str, Any]]:
        return [{**place, "found": "bad"} for place in self.locations(inode)]

    def replicate(self, what: str, root: str, source: str | None, owner: Owner) -> int:
        self.find(what)
        self.copies.append((what, root, source))
        return 1

    async def lacking(self, what: str, root: str) -> int:
        return 12

    async def replicas_made(self, what: str, root: str, report: Report) -> list[dict[str, Any]]:
        return [{"path": what, "root": root, "reason": "no room"}]

    async def drop(self, what: str, root: str, *, force_last: bool, owner: Owner, report: Report) -> dict[str, Any]:
        self.find(what)
        if not force_last:
            raise LastCopy(root, what.encode())
        return {"dropped": 0, "removed": 1, "refused": []}

    def drain(self, root: str, to: list[str], owner: Owner) -> bool:
        return True

    def stop_draining(self, root: str, owner: Owner) -> bool:
        return False

    async def release(self, root: str, owner: Owner) -> dict[str, Any] | None:
        return None

    async def plan_drain(self, root: str, to: list[str]) -> dict[str, Any]:
        none = {"ready_files": 0, "ready_bytes": 0, "held_files": 0, "held_bytes": 0, "held": [], "stays": 3}
        return {"copies": [{"root": each, "files": 2, "bytes": 1024} for each in to], **none}

    async def drained(self, root: str, report: Report) -> dict[str, Any] | None:
        return None

    def history(self, what: str) -> list[dict[str, Any]]:
        return []

    async def explain(self, what: str) -> tuple[dict[str, Any], list[Answer]]:
        facts = [{"code": "on-its-way", "text": "it is elsewhere", "hint": "wait"}, FACT]
        told = {**self.record(self.find(what)), "verdict": f"{what}: it is elsewhere; wait", "code": "on-its-way"}
        return {**told, "facts": facts}, [Answer("rm", "", None), Answer("mv", "cold", NoRoom("cold"))]

    def moves(self, *, all: bool, before: int | None, limit: int) -> list[dict[str, Any]]:
        found = [move for move in self.stuck if before is None or move["number"] < before]
        return sorted(found, key=lambda move: -move["number"])[:limit]

    def progress(self) -> list[dict[str, Any]]:
        return self.stuck

    def move(self, what: str | int) -> dict[str, Any]:
        found = [move for move in self.stuck if what in (move["number"], move["path"])]
        if not found:
            raise NoMove(what)
        return found[0]

    async def steer(self, verb: str, what: str | int | None, owner: Owner) -> list[dict[str, Any]]:
        self.asked.append((verb, what))
        return self.stuck if what is None else [self.move(what)]

    async def cancel(self, what: str | int, owner: Owner) -> dict[str, Any]:
        self.asked.append(("cancel", what))
        return {**self.move(what), "state": "cancelled"}

    def events(self, since: int, limit: int) -> list[dict[str, Any]]:
        return [self.log[seq] for seq in sorted(self.log) if seq > since][:limit]

    def listening(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def changed(self, seq: int) -> None:
        while self.last_seq <= seq:
            await self._news.wait()

    async def present(self, paths: Sequence[str] | None) -> FakePresence:
        self.presences.append(FakePresence(self.there, self.last_seq))
        return self.presences[-1]

    def scratch(self) -> IO[bytes]:
        self.spools.append(BytesIO())
        return self.spools[-1]

    async def wait(self, what: str | int | None, report: Report) -> dict[str, Any]:
        self.running += 1
        try:
            report(1, 2, "files")
            await self.let_go.wait()
            return {"moves": self.stuck, "replicas": []}
        finally:
            self.running -= 1

    async def verify(self, what: str | None, root: str | None, owner: Owner, report: Report) -> dict[str, Any]:
        bad = [{"path": "uploads/b", "id": ID, "error": "gone"}]
        away = [{"path": f"resources/cold/{name}", "id": ID, "root": "cold"} for name in "cd"]
        return {"checked": 2, "ok": 1, "unknown": 0, "bad": bad, "away": away}

    def scrub(self) -> dict[str, Any]:
        bad = {
            "id": ID,
            "path": "uploads/a",
            "root": "main",
            "outcome": "damaged",
            "time_ns": 1_700_000_000_000_000_000,
        }
        counts = {"checked": 2, "skipped": 1, "bad": 1, "read_bytes": 5, "after": 300, "last_inode": 301}
        times = {"begun_ns": 1_700_000_000_000_000_000, "ended_ns": 0}
        unsound = [{**bad, "expected": "blake3:00", "found": "blake3:01"}]
        return {"running": True, "root": "", "rate": 1 << 20, **times, **counts, "damaged": unsound}

    def start_scrub(self, root: str | None, rate: int | None, *, again: bool) -> None:
        self.running += 1

    def stop_scrub(self) -> None:
        self.running -= 1

    def trash(self, root: str | None) -> list[dict[str, Any]]:
        times = {"removed_ns": 1_700_000_000_000_000_000, "until_ns": 1_700_000_001_000_000_000}
        entry = {"name": "0017-01932f6c", "id": ID, "root": "main", "path": "uploads/a", "size": 5, "why": "moved"}
        return [{**entry, "held_bytes": 4096, **times}]

    async def empty_trash(self, root: str | None) -> dict[str, Any]:
        return {"files": 1, "bytes": 4096}

    async def restore(self, what: str, path: str, owner: Owner) -> dict[str, Any]:
        return {"id": ID, "path": path, "old_id": ID, "old_path": "uploads/a"}

    async def reload(self) -> dict[str, list[str]]:
        if self.refused is not None:
            raise self.refused
        return self.reloaded

    def shutdown(self) -> None:
        self.was_shut_down.set()
