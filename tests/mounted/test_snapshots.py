"""What there is and then what changes, told while the tree is changed at full speed: together they are the tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final, NamedTuple

import pytest

from tests.support.daemon import COMMAND, PROJECT, Mounted
from tests.support.watcher import Line

pytestmark = pytest.mark.timeout(120)

ROUNDS: Final = 6

# Renames files and directories across roots, makes and removes, without a pause, until its standard input ends.
MEDDLER: Final = """
import os, select, sys
places = [sys.argv[1] + "/uploads", sys.argv[1] + "/resources/main"]
turn = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    here, there = places[turn % 2], places[(turn + 1) % 2]
    os.mkdir(f"{here}/d{turn}")
    for number in range(5):
        with open(f"{here}/d{turn}/{number}", "wb") as file:
            file.write(b"x" * number)
    os.link(f"{here}/d{turn}/1", f"{here}/d{turn}/again")
    os.rename(f"{here}/d{turn}/2", f"{here}/d{turn}/two")
    os.rename(f"{here}/d{turn}", f"{here}/e{turn}")
    os.rename(f"{here}/tree", f"{here}/tree-{turn}")
    os.rename(f"{here}/tree-{turn}", f"{here}/tree")
    if turn % 7 == 0:
        os.rename(f"{here}/e{turn}", f"{there}/e{turn}")
    elif turn % 3 == 0:
        for name in os.listdir(f"{here}/e{turn}"):
            os.unlink(f"{here}/e{turn}/{name}")
        os.rmdir(f"{here}/e{turn}")
    turn += 1
"""


class Known(NamedTuple):
    """What a watcher knows of one name."""

    id: str
    size: int


class Model:
    """A tree by paths, made from nothing but broadcasts."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.seq = 0
        self.is_whole = False

    def take(self, message: dict[str, Any]) -> None:
        data, seq = message["data"], message["seq"]
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
        path, known = data["path"], Known(data["id"], data["size"])
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
            self.known[path] = self.known.pop(old)
        else:
            for each, was in self.known.items():  # all names of a file
                if was.id == known.id:
                    self.known[each] = known


def listen(subject: Mounted) -> tuple[Model, Line]:
    """A watcher that has just been told all that there is."""
    model, line = Model(), Line(subject.socket)
    assert line.call("events", "listen", snapshot=True)["success"]
    while not model.is_whole:
        message = line.receive()
        assert message is not None
        model.take(message)
    return model, line


def catch_up(model: Model, line: Line, seq: int) -> None:
    while model.seq < seq:
        message = line.receive()
        assert message is not None
        model.take(message)


def compare(subject: Mounted, model: Model) -> None:
    listed = subprocess.check_output(["find", ".", "-print0"], cwd=subject.mountpoint).decode().split("\0")
    found = {path.removeprefix(".").removeprefix("/") for path in listed if path}
    assert sorted(found) == sorted(model.known)
    for path in found:
        real = subject.mountpoint / path
        assert model.known[path].id == os.getxattr(real, "user.fusestore.id").decode(), path
        if real.is_file():
            assert model.known[path].size == real.stat().st_size, path


def test_a_snapshot_and_the_changes_after_it_are_the_tree(own: Mounted) -> None:
    for place in (own.uploads, own.resources / "main"):
        for number in range(400):
            (place / f"tree/{number % 20}/{number}").mkdir(parents=True)
            (place / f"tree/{number % 20}/{number}/file").write_bytes(b"x" * number)
    meddler = subprocess.Popen([sys.executable, "-c", MEDDLER, own.mountpoint], stdin=subprocess.PIPE)
    watchers = [listen(own) for _ in range(ROUNDS)]
    meddler.communicate(b"enough", timeout=60)
    assert meddler.returncode == 0
    own.wait("--all")
    with Line(own.socket) as line:
        seq = line.call("events", "fence")["data"]["seq"]
    for model, line in watchers:
        catch_up(model, line, seq)
        line.close()
        compare(own, model)


def test_the_command_prints_what_there_is_and_then_follows(own: Mounted) -> None:
    top = own.uploads / "top"
    top.mkdir()
    (top / "file").write_bytes(b"12345")
    own.wait("--all")
    printed = own.cli("events", top, "--snapshot").out.splitlines()
    assert [line.split()[4:6] for line in printed[:-1]] == [["present", "uploads/top"], ["present", "uploads/top/file"]]
    assert "2 names after event" in printed[-1]
    told = [json.loads(line) for line in own.cli("events", own.uploads, "--snapshot", "--json").out.splitlines()]
    assert [each["path"] for each in told[:-1]] == ["uploads", "uploads/top", "uploads/top/file"]
    assert told[2]["size"] == 5
    (top / "new").write_bytes(b"")
    assert f"{own.uploads.name}/top/new" in own.cli("events", own.uploads, "--snapshot").out
    own.cli("events", "--snapshot", "--since", "0", code=2)
    following = [*COMMAND, "events", "--snapshot", "-f", "--json", os.fspath(own.uploads)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "FUSESTORE_SOCKET": str(own.socket)}
    process = subprocess.Popen(following, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        kinds = [json.loads(process.stdout.readline())["kind"] for _ in range(5)]
        assert kinds == ["present"] * 4 + ["whole"]
        (top / "file").rename(top / "other")
        assert json.loads(process.stdout.readline())["path"] == "uploads/top/other"
    finally:
        process.kill()
        process.communicate()
