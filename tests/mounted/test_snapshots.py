"""What there is and then what changes, told while the tree is changed at full speed: together they are the tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Final

import pytest

from tests.support.daemon import COMMAND, PROJECT, Mounted
from tests.support.heard import Model, compare
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


def test_a_snapshot_and_the_changes_after_it_are_the_tree(own: Mounted) -> None:
    plant(own, 400)
    meddler = meddle(own)
    watchers = [listen(own) for _ in range(ROUNDS)]
    seq = rest(own, meddler)
    for model, line in watchers:
        catch_up(model, line, seq)
        line.close()
        compare(own, model)


def meddle(subject: Mounted, seconds: float = 0) -> subprocess.Popen[bytes]:
    """Begin to change the tree; with `seconds`, only for so long."""
    script = MEDDLER if seconds else MEDDLER.replace("turn = 0", "turn = 10_000")
    meddler = subprocess.Popen([sys.executable, "-c", script, subject.mountpoint], stdin=subprocess.PIPE)
    if seconds:
        time.sleep(seconds)
        rest(subject, meddler)
    return meddler


def rest(subject: Mounted, meddler: subprocess.Popen[bytes]) -> int:
    """Wait until nothing changes any more; returns the last event of all."""
    meddler.communicate(b"enough", timeout=60)
    assert meddler.returncode == 0
    return settled(subject)


def settled(subject: Mounted) -> int:
    subject.wait("--all")
    with Line(subject.socket) as line:
        return int(line.call("events", "fence")["data"]["seq"])


def plant(subject: Mounted, count: int) -> None:
    for place in (subject.uploads, subject.resources / "main"):
        for number in range(count):
            (place / f"tree/{number % 20}/{number}").mkdir(parents=True)
            (place / f"tree/{number % 20}/{number}/file").write_bytes(b"x" * number)


def test_what_changed_while_a_watcher_was_away_is_told_and_nothing_else(own: Mounted) -> None:
    plant(own, 200)
    seq = settled(own)
    model, line = listen(own)
    catch_up(model, line, seq)
    line.close()
    compare(own, model)
    with Line(own.socket) as line:
        assert model.sync(line) == 0

    tree = own.resources / "main" / "tree"
    (tree / "0" / "new").write_bytes(b"created")
    (tree / "1" / "1" / "file").write_bytes(b"changed")
    (tree / "2" / "2" / "file").unlink()
    os.link(tree / "3" / "3" / "file", tree / "3" / "link")
    (tree / "4").rename(tree / "away")  # two directories change their names, with all below
    (tree / "5").rename(tree / "4")
    (tree / "away").rename(tree / "5")
    (tree / "6").rename(own.uploads / "six")  # and another its root, to which its files are brought
    files = sum(number % 20 == 6 for number in range(200))
    settled(own)
    own.remount()
    with Line(own.socket) as line:
        assert model.sync(line) == 1 + 1 + 1 + 1 + 2 + 1 + files
        compare(own, model)
        assert model.sync(line) == 0


def test_what_differs_and_the_changes_after_it_are_the_tree_also_while_it_changes(own: Mounted) -> None:
    plant(own, 100)
    model, line = listen(own)
    line.close()
    meddle(own, seconds=1)
    meddler = meddle(own)
    with Line(own.socket) as line:
        for _ in range(ROUNDS):
            model.sync(line)
        seq = rest(own, meddler)
        assert line.call("events", "listen", since=model.seq)["success"]
        catch_up(model, line, seq)
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
