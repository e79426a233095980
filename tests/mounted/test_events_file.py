"""The event log as a file in the mount, under real tools."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import Mounted, eventually, mounted
from tests.support.tools import failing, python, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(90)
OTHER = 1001


def log_of(subject: Mounted) -> Path:
    return subject.mountpoint / ".fusestore" / "events"


def seqs(text: str) -> list[int]:
    return [json.loads(line)["seq"] for line in text.splitlines()]


def logged(subject: Mounted) -> list[int]:
    return [json.loads(line)["seq"] for line in subject.cli("events", "--json").out.splitlines()]


def settle(subject: Mounted) -> None:
    subject.wait("--all")


@contextlib.contextmanager
def tail(log: Path, *how: str) -> Iterator[Any]:
    """`tail -f` of the log; yields a function that says what it has printed so far."""
    with tempfile.TemporaryFile("w+") as out:
        following = subprocess.Popen(["tail", *how, log], stdout=out)
        try:
            yield lambda: os.pread(out.fileno(), 1 << 24, 0).decode()
        finally:
            following.kill()
            following.wait()


def make(place: Path, count: int) -> None:
    for number in range(count):
        (place / f"{os.urandom(4).hex()}-{number}").write_bytes(b"x")


def test_ordinary_tools_read_the_log(own: Mounted) -> None:
    log = log_of(own)
    make(own.uploads, 30)
    (own.uploads / "some\nname").touch()
    settle(own)
    known = logged(own)
    assert seqs(tool("cat", log)) == known
    assert seqs(tool("tail", "-n", "5", log)) == known[-5:]
    assert seqs(tool("tail", "-n", "70", log)) == known[-70:]
    assert seqs(tool("head", "-n", "3", log)) == known[:3]
    assert seqs(tool("tac", log)) == known[::-1]
    assert seqs(tool("dd", f"if={log}", "bs=100", "status=none")) == known
    assert all("some\\nname" in line for line in tool("grep", "name", log).splitlines())
    assert int(tool("wc", "-c", log).split()[0]) == len(tool("cat", log).encode())
    assert seqs(log.read_text()) == known
    copy = own.base / "copy"
    tool("cp", log, copy)
    assert copy.read_text() == log.read_text()
    assert os.listdir(log.parent) == ["by-id", "by-hash", "moves", "events"]


def test_its_lines_are_those_of_the_socket(own: Mounted) -> None:
    make(own.uploads, 3)
    settle(own)
    for line, event in zip(log_of(own).read_text().splitlines(), own.events(), strict=True):
        told = json.loads(line)
        assert {**told["data"], **{name: told[name] for name in ("operation", "seq", "epoch")}} == event


@pytest.mark.parametrize("how", [("-f",), ("-n", "+1", "-f"), ("-n", "3", "-F"), ("-n", "0", "-f", "-s", "0.1")])
def test_tail_follows_it(own: Mounted, how: tuple[str, ...]) -> None:
    make(own.uploads, 20)
    settle(own)
    before = logged(own)
    with tail(log_of(own), *how) as printed:
        if "0" not in how:
            eventually(lambda: seqs(printed())[-1:] == before[-1:], "what is there already")
        else:
            eventually(lambda: own.descriptors() == [], "it has begun")
            python("import time; time.sleep(0.5)")
        for _ in range(3):
            make(own.uploads, 20)
            python("import time; time.sleep(0.7)")
        settle(own)
        after = logged(own)
        eventually(lambda: seqs(printed())[-1:] == after[-1:], "what came since")
        seen = seqs(printed())
    assert seen == list(range(seen[0], after[-1] + 1))
    first = {"+1": before[0], "3": before[-3], "0": before[-1] + 1}.get(how[1] if how[0] == "-n" else "", before[-10])
    assert seen[0] == first


WAITER = """
import os, select, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
poll, epoll = select.poll(), select.epoll()
poll.register(fd, select.POLLIN)
epoll.register(fd, select.EPOLLIN)
wait = {
    "poll": lambda s: poll.poll(s * 1000),
    "select": lambda s: select.select([fd], [], [], s)[0],
    "epoll": lambda s: epoll.poll(s),
}[sys.argv[2]]
assert wait(5), "what is there already"
while os.read(fd, 1 << 16):
    pass
assert not wait(0.2), "nothing"
print("waiting", flush=True)
assert wait(20), "what comes"
assert os.read(fd, 1 << 16)
"""


@pytest.mark.parametrize("call", ["poll", "select", "epoll"])
def test_who_waits_for_events_is_woken(own: Mounted, call: str) -> None:
    make(own.uploads, 3)
    settle(own)
    command = [sys.executable, "-c", WAITER, str(log_of(own)), call]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiter:
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "waiting\n"
        (own.uploads / "news").touch()
        assert waiter.wait(15) == 0


def test_other_files_are_always_ready(own: Mounted) -> None:
    path = own.uploads / "file"
    path.write_bytes(b"x")
    with path.open("rb") as file, log_of(own).open("rb"):
        poll = select.poll()
        poll.register(file, select.POLLIN | select.POLLOUT)
        assert poll.poll(0) == [(file.fileno(), select.POLLIN | select.POLLOUT)]


def test_retention_stops_a_reader_with_one_line(own: Mounted) -> None:
    own.umount()
    own.configure("events", keep=50)
    own.mount()
    make(own.uploads, 3)
    settle(own)
    with log_of(own).open("rb", buffering=0) as reader:
        assert reader.read(1 << 20)
        make(own.uploads, 300)
        settle(own)
        eventually(lambda: len(logged(own)) < 100, "the log is cut", 30)
        text = reader.read(1 << 20) or b""
        told = [json.loads(line) for line in text.splitlines()]
        assert [line for line in told if "stopped" in line] == told[-1:]
        make(own.uploads, 1)
        assert reader.read(1 << 20) == b""
    settle(own)
    assert seqs(log_of(own).read_text()) == logged(own)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_only_who_may_listen_at_the_socket_may_read_it() -> None:
    base = Path(tempfile.mkdtemp(prefix="fusestore-events-"))  # pytest's own folders are closed to other users
    base.chmod(0o755)
    try:
        with mounted(base, allow_other=True) as subject, subject.deadline(60):
            log = log_of(subject)
            (subject.uploads / "secret").touch()
            assert log.stat().st_mode & 0o777 == 0o400
            tool("cat", log, uid=OTHER, code=1)
            subject.umount()
            subject.configure("control", readers=[str(OTHER)])
            subject.mount()
            assert "secret" in tool("cat", log, uid=OTHER)
            tool("cat", log, uid=OTHER + 1, code=1)
            with subprocess.Popen(["tail", "-f", log], user=OTHER, group=OTHER, extra_groups=[], stdout=PIPE) as tail:
                assert tail.stdout is not None
                assert b"secret" in tail.stdout.readline()
                subject.configure("control", readers=[])
                subject.cli("reload", subject.store)
                (subject.uploads / "later").touch()
                assert b"later" not in tail.stdout.read()  # tail ends, because it may not read on
            with failing(errno.EPERM):
                log.write_text("x")
            with failing(errno.EPERM):
                log.unlink()
    finally:
        shutil.rmtree(base)
