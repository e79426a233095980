"""Clients of every kind at once, the worst among them, while everything changes: nobody else notices."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.mounted.test_snapshots import meddle, plant, rest
from tests.support.daemon import COMMAND, PROJECT, Mounted, eventually
from tests.support.watcher import Line, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS: Final = int(os.environ.get("FUSESTORE_SECONDS", "300"))
DEAF: Final = 8
MEMORY_KB: Final = (
    100_000  # more than with nobody there; each peer that does not read may hold 256 KiB and its last line
)
SLOW_S: Final = 10
LISTEN: Final = b'{"tid": 1, "collectionName": "events", "methodName": "listen", "data": {"since": 0}}\n'
ALL_FILES: Final = b'{"tid": 2, "collectionName": "files", "methodName": "list", "data": {"recursive": true}}\n'
OTHERS: Final = {  # command -> what it is told on its standard input
    ("socat", "-t", "600", "-", "UNIX-CONNECT:control.sock"): LISTEN,
    ("nc", "-U", "control.sock"): LISTEN,
    (*COMMAND, "events", "--since", "0", "--follow", "--json", "--socket", "control.sock"): b"",
}


class Program:
    """A watcher of the whole log that is a program of its own; what it prints goes to a file."""

    def __init__(self, subject: Mounted, command: tuple[str, ...], request: bytes, file: Path) -> None:
        self._file = file
        self.name = " ".join(command[:2])
        with file.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=subject.store,  # the path is short enough for an address
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                stdin=subprocess.PIPE,
                stdout=out,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(request)
        self.process.stdin.flush()

    @property
    def seqs(self) -> list[int]:
        *lines, _ = self._file.read_bytes().split(b"\n")
        return [message["seq"] for line in lines if "seq" in (message := json.loads(line))]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def programs(subject: Mounted, folder: Path, label: str) -> list[Program]:
    return [
        Program(subject, command, request, folder / f"{label}-{number}")
        for number, (command, request) in enumerate(OTHERS.items())
        if shutil.which(command[0])
    ]


def connected(subject: Mounted) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    directory = os.open(subject.store, os.O_PATH)
    try:
        peer.connect(f"/proc/self/fd/{directory}/control.sock")
    finally:
        os.close(directory)
    return peer


def deaf(subject: Mounted) -> socket.socket:
    """One that listens and asks for more and more, as long as the daemon takes it, and never reads."""
    peer = connected(subject)
    peer.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        peer.send(LISTEN)
        while True:
            peer.send(ALL_FILES)
    return peer


def babble(subject: Mounted, chance: random.Random) -> None:
    """Send anything but requests."""
    with connected(subject) as peer, contextlib.suppress(OSError):
        for _ in range(chance.randrange(1, 20)):
            peer.sendall(chance.randbytes(chance.randrange(1, 5000)) + chance.choice((b"", b"\n", b'{"tid":1}\n')))
        peer.settimeout(chance.random() / 10)
        peer.recv(1000)


def break_off(subject: Mounted, chance: random.Random) -> None:
    """Go in the middle of an answer."""
    with connected(subject) as peer:
        peer.settimeout(SLOW_S)
        peer.sendall(chance.choice((LISTEN, ALL_FILES, LISTEN + ALL_FILES * 20)))
        peer.recv(chance.randrange(1, 3000))


@contextlib.contextmanager
def over_and_over(call: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Somebody beside us who does it again and again; what went wrong there is raised at the end."""
    over = threading.Event()
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            while not over.is_set():
                call()
        except BaseException as error:  # noqa: BLE001  # raised below
            wrong.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield wrong
    finally:
        over.set()
        thread.join(60)
    assert not thread.is_alive()
    assert not wrong, wrong


def memory_kb(subject: Mounted) -> int:
    status = Path(f"/proc/{subject.pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


def sockets(subject: Mounted) -> int:
    """How many the daemon has open."""
    found = 0
    for entry in Path(f"/proc/{subject.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(entry).startswith("socket:")
    return found


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(4, marks=pytest.mark.timeout(200)),
        pytest.param(SECONDS, marks=[pytest.mark.long, pytest.mark.timeout(SECONDS + 1200)]),
    ],
    ids=["short", "long"],
)
def test_clients_of_every_kind_at_once_do_not_notice_each_other(own: Mounted, tmp_path: Path, seconds: int) -> None:
    plant(own, 100)
    own.wait("--all")
    before, most, alone = memory_kb(own), 0, sockets(own)
    took_s: list[float] = []

    with contextlib.ExitStack() as stack:
        watcher = Watcher(own.socket)
        reading, stopped = programs(own, tmp_path, "reading"), programs(own, tmp_path, "stopped")
        for each in (*reading, *stopped):
            stack.callback(each.end)
        for each in stopped:
            eventually(lambda: each.seqs, f"{each.name} hears something", timeout_s=30)  # noqa: B023
            each.process.send_signal(signal.SIGSTOP)
        for _ in range(DEAF):
            stack.enter_context(deaf(own))
        line = stack.enter_context(Line(own.socket, timeout_s=60))

        def ask() -> None:
            began = time.monotonic()
            assert line.call("files", "get", path="resources/main")["success"]
            took_s.append(time.monotonic() - began)
            time.sleep(0.01)

        with over_and_over(ask), contextlib.ExitStack() as nuisances:
            for number, nuisance in enumerate((babble, break_off)):
                chance = random.Random(number)
                nuisances.enter_context(over_and_over(lambda do=nuisance, by=chance: do(own, by)))  # type: ignore[misc]
            meddler = meddle(own)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                most = max(most, memory_kb(own))
                time.sleep(0.1)
            seq = rest(own, meddler)
        assert most < before + MEMORY_KB, f"{before} kB became {most} kB"
        assert len(took_s) > seconds
        assert max(took_s) < SLOW_S

        for each in stopped:
            each.process.send_signal(signal.SIGCONT)
        watcher.until(lambda seen: bool(seen) and seen[-1]["seq"] >= seq, "the last event")
        logged = [int(event["seq"]) for event in own.events() if event["seq"] <= seq]
        assert len(logged) == seq
        for each in (*reading, *stopped):
            eventually(lambda: max(each.seqs) >= seq, f"{each.name} hears of the last event", timeout_s=60)  # noqa: B023
            assert each.seqs[:seq] == logged, each.name
        assert watcher.stop()[:seq] == logged

    def nothing_left() -> dict[str, Any]:
        with Line(own.socket) as line:
            watchers = line.call("dispatcher", "status")["data"]["watchers"]
            jobs = line.call("jobs", "list")["data"]
        return {"watchers": watchers, "jobs": len(jobs), "sockets": sockets(own) - alone}

    eventually(lambda: nothing_left() == dict.fromkeys(("watchers", "jobs", "sockets"), 0), "everything given back")
