"""A consumer with a name gets every event at least once, whoever of the two is killed, and others can wait for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import COMMAND, PROJECT, Mounted, eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)


def following(subject: Mounted, into: Path) -> subprocess.Popen[bytes]:
    """`fusestore events --consumer` in a process of its own, which appends to a file."""
    command = [*COMMAND, "events", "--consumer", "backup", "--follow", "--json", "--socket", str(subject.socket)]
    with open(into, "ab") as file:
        return subprocess.Popen(command, stdout=file, env={**os.environ, "PYTHONPATH": str(PROJECT)})


def seqs(path: Path) -> set[int]:
    """Of the lines that were written whole."""
    return {json.loads(line)["seq"] for line in path.read_text().splitlines() if line.endswith("}")}


def _is_told(seen: Path, path: str) -> bool:
    return path in seen.read_text()


def behind(subject: Mounted) -> int:
    (consumer,) = subject.json("consumers", "--socket", str(subject.socket))
    lag: int = consumer["lag"]
    return lag


def test_every_event_arrives_though_consumer_and_daemon_are_killed(own: Mounted, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    own.cli("events", "--consumer", "backup", "--since", "0", "--socket", own.socket)
    for number in range(6):
        process = following(own, seen)
        for file in range(30):
            (own.uploads / f"{number}-{file}").write_bytes(b"x")
        eventually(partial(_is_told, seen, f"uploads/{number}-29"), "the last file's event")
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        (own.uploads / f"{number}-between").write_bytes(b"x")
        if number % 2:
            own.kill9()
            own.mount()
    own.wait()
    process = following(own, seen)
    eventually(lambda: behind(own) == 0, "all is acknowledged", 30)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert seqs(seen) >= {event["seq"] for event in own.events()}


def test_others_wait_for_a_consumer_and_are_told_when_it_does_not_come(own: Mounted) -> None:
    own.cli("events", "--consumer", "backup", "--socket", own.socket)
    (own.uploads / "a").write_bytes(b"x")
    own.cli("wait", own.uploads / "a")
    slow = own.cli("wait", own.uploads / "a", "--acked-by", "backup", "--timeout", "1", code=1)
    assert "backup has not acknowledged event" in slow.err
    waiting = subprocess.Popen(
        [*COMMAND, "wait", str(own.uploads / "a"), "--acked-by", "backup", "--timeout", "60"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    printed = own.cli("events", "--consumer", "backup", "--json", "--socket", own.socket).out
    assert "uploads/a" in printed
    assert waiting.wait(timeout=60) == 0
    assert "nobody" in own.cli("wait", "--all", "--acked-by", "nobody", "--socket", own.socket, code=1).err
    own.cli("consumers", "--forget", "backup", "--socket", own.socket)
    assert "there are no consumers" in own.cli("consumers", "--socket", own.socket).out


def test_what_could_not_be_printed_is_not_acknowledged(own: Mounted) -> None:
    own.cli("events", "--consumer", "backup", "--since", "0", "--socket", own.socket)
    (own.uploads / "file").write_bytes(b"x")
    own.wait()
    before = behind(own)
    command = [*COMMAND, "events", "--consumer", "backup", "--socket", str(own.socket)]
    for output in (">&-", "<&- >&-", ">/dev/full"):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {output}', "sh", *command], capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert done.stderr.startswith("fusestore: ")
        assert behind(own) == before > 0
    assert subprocess.run(["sh", "-c", '"$@" 2>&- >&-', "sh", *command], timeout=30, check=False).returncode == 1
    assert "uploads/file" in own.cli("events", "--consumer", "backup", "--socket", own.socket).out
    assert behind(own) == 0


@pytest.mark.parametrize("follow", [False, True])
def test_what_a_filter_leaves_out_is_acknowledged_too(own: Mounted, tmp_path: Path, follow: bool) -> None:
    command = ["events", "--consumer", "backup", "--kind", "removed", "--since", "0", "--socket", str(own.socket)]
    for name in ("kept", "gone"):
        (own.uploads / name).write_bytes(b"x")
    (own.uploads / "gone").unlink()
    own.wait()
    if not follow:
        assert "uploads/gone" in own.cli(*command).out
        assert behind(own) == 0
        (own.uploads / "other").write_bytes(b"x")
        own.wait()
        assert own.cli(*command).out == ""
        assert behind(own) == 0
        return
    with open(tmp_path / "seen", "wb") as file:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        process = subprocess.Popen([*COMMAND, *command, "--follow"], stdout=file, env=environment)
    try:
        eventually(lambda: own.json("consumers", "--socket", own.socket), "it is registered")
        (own.uploads / "other").write_bytes(b"x")
        own.cli("wait", "--acked-by", "backup", own.mountpoint, "--timeout", "40")
    finally:
        process.kill()
        process.wait(timeout=10)
    assert "uploads/gone" in (tmp_path / "seen").read_text()


def test_a_consumer_that_has_lost_events_is_told_how_to_go_on(own: Mounted) -> None:
    own.allow_log("events go that a consumer has not acknowledged")
    command = ["events", "--consumer", "backup", "--socket", str(own.socket)]
    own.cli(*command, "--since", "0")
    own.umount()
    own.configure("events", keep=10, keep_unacked=20)
    own.mount()
    for number in range(50):
        (own.uploads / f"{number}").write_bytes(b"x")
    own.wait()
    eventually(lambda: "has lost events" in own.cli("consumers", "--socket", own.socket).out, "the log is cut")
    complaint = own.cli(*command, code=1).err
    assert "fusestore events --consumer backup --since now" in complaint
    assert own.cli(*command, "--since", "now").out == ""
    assert behind(own) == 0
    (own.uploads / "later").write_bytes(b"x")
    own.wait()
    assert "uploads/later" in own.cli(*command, "--since", "0").out
    assert own.cli(*command).out == ""
