"""A tree made from what a watcher hears and nothing else, and the tree that there really is."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.support.watcher import Line

if TYPE_CHECKING:
    from tests.support.daemon import Mounted

PAGE: Final = 100  # entries of a manifest in one request


class Known(NamedTuple):
    """What a watcher knows of one name."""

    id: str
    size: int
    hash: str


class Model:
    """A tree by paths, made from nothing but broadcasts."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.last: dict[str, int] = {}  # by id, when something was last told of it
        self.seq = 0
        self.epoch = 0
        self.is_whole = False

    def take(self, message: dict[str, Any]) -> None:
        data, seq = message["data"], message["seq"]
        self.epoch = message["epoch"]
        if message.get("snapshot"):
            assert not self.is_whole, "the snapshot is over"
            assert self.seq in (0, seq), "one snapshot is of one moment"
            self.seq = seq
            if data["kind"] == "whole":
                assert data["total"] == len(self.known)
                self.is_whole = True
                return
        else:
            assert self.is_whole, "the snapshot comes first"
            assert seq == self.seq + 1, "no gap, and nothing twice"
            self.seq = seq
        path, known = data["path"], Known(data["id"], data["size"], data["hash"])
        self.last[known.id] = seq
        if message["operation"] == "insert":
            assert path not in self.known, f"{path} was there already: {message}"
            self.known[path] = known
        elif message["operation"] == "remove":
            assert self.known.pop(path).id == known.id
        elif message["operation"] == "move":
            old = data["old_path"]
            below = [each for each in self.known if each.startswith(old + "/")]
            for each in below:
                self.known[path + each.removeprefix(old)] = self.known.pop(each)
            if self.known[old].id == known.id:  # else the first half of an exchange has put another there
                del self.known[old]
            self.known[path] = known
        else:
            for each, was in self.known.items():  # all names of a file
                if was.id == known.id:
                    self.known[each] = known

    def sync(self, line: Line) -> int:
        """Ask for what differs, and take it all at once; returns how much it was."""
        there = {known.id for known in self.known.values()}
        manifest = sorted((id, seq) for id, seq in self.last.items() if id in there)
        pages = [dict(manifest[first : first + PAGE]) for first in range(0, len(manifest), PAGE)] or [{}]
        for page in pages[:-1]:
            assert line.call("events", "sync", manifest=page, more=True)["success"]
        request = {"tid": "last", "collectionName": "events", "methodName": "sync", "data": {"manifest": pages[-1]}}
        line.send(json.dumps(request).encode() + b"\n")
        told: dict[str, dict[str, Any]] = {}
        while (message := line.receive()) is not None and message.get("tid") != "last":
            assert message["data"]["id"] not in told
            assert (message["operation"] == "insert") is (message["data"]["id"] not in there)
            told[message["data"]["id"]] = message["data"]
            self.last[message["data"]["id"]] = message["seq"]
        assert message is not None
        assert message["data"]["total"] == len(told)
        self._take_told(told)
        self.seq = message["data"]["seq"]
        return len(told)

    def _take_told(self, told: dict[str, dict[str, Any]]) -> None:
        """Who is told of is at its paths; all others are where they were in their directories."""
        now: dict[str, str] = {"": ""}  # old paths, and those of today
        for path in sorted(self.known, key=lambda path: path.count("/") if path else -1):
            above, _, name = path.rpartition("/")
            new = told.get(self.known[path].id, {"path": f"{now.get(above, above)}/{name}".lstrip("/")})
            now[path] = new.get("path", "")
        kept = {now[path]: known for path, known in self.known.items() if known.id not in told}
        come = {
            path: Known(data["id"], data["size"], data["hash"])
            for data in told.values()
            for path in data.get("paths", ())
        }
        assert not kept.keys() & come.keys()
        self.known = kept | come


def listed(subject: Mounted) -> dict[str, dict[str, Any]]:
    """The record of every path, as `files.list` says it."""
    found: dict[str, dict[str, Any]] = {}
    after: str | None = None
    with Line(subject.socket) as line:
        while True:
            page = line.call("files", "list", recursive=True, after=after)["data"]
            found |= {record["path"]: record for record in page["entries"]}
            if (after := page["after"]) is None:
                return found


def compare(subject: Mounted, model: Model) -> None:
    printed = subprocess.check_output(["find", ".", "-print0"], cwd=subject.mountpoint).decode().split("\0")
    found = {path.removeprefix(".").removeprefix("/") for path in printed if path}
    assert sorted(found) == sorted(model.known)
    records = listed(subject)
    assert sorted(records) == sorted(found - {""})
    for path in found:
        real, known = subject.mountpoint / path, model.known[path]
        if not real.is_symlink():  # which has no such attributes
            assert known.id == os.getxattr(real, "user.fusestore.id").decode(), path
        if path and records[path]["type"] != "directory":  # nothing is told of the size of a directory
            assert known == Known(*(records[path][what] for what in ("id", "size", "hash"))), path
            assert known.size == real.lstat().st_size, path
