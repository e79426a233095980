"""Many connections to one daemon: who is let in all the same, and what they cost."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusestore.client import Client
from fusestore.control.crowd import EACH, PLACES
from fusestore.errors import ControlError, NoDaemon
from fusestore.jobs.keeper import ANSWER_S, PROBE_S
from tests.support.daemon import Mounted, Root, eventually, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)

AS_NOBODY = f"""
import json, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
listen = json.dumps({{"tid": 1, "collectionName": "events", "methodName": "listen"}}).encode() + b"\\n"
peers = []
for number in range({EACH + 20}):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(sys.argv[1])
    try:
        peer.sendall(listen)
    except BrokenPipeError:
        pass  # refused already
    print(peer.makefile().readline(), end="", flush=True)
    peers.append(peer)
sys.stdin.read()
"""


@pytest.fixture
def subject(deadline_s: float) -> Iterator[Mounted]:
    base = Path(tempfile.mkdtemp(prefix="fusestore-crowd-"))  # pytest's own folders are closed to other users
    base.chmod(0o755)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    try:
        with mounted(base) as subject, subject.deadline(deadline_s):
            yield subject
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        shutil.rmtree(base)


def memory_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_an_idle_connection_costs_little_and_a_full_house_of_them_lets_the_next_one_in(subject: Mounted) -> None:
    before = memory_kb(subject.pid)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(subject.socket)) for _ in range(PLACES)]
        for client in clients:
            client.call("dispatcher.hello", {"keep_alive": True})
        assert (memory_kb(subject.pid) - before) / PLACES < 50
        refused = subject.cli("status", code=1).complaint
        assert refused == ["fusestore: 512 connections are open already, and none of them can make room; close some"]

        def let_in() -> bool:
            try:
                with Client(subject.socket) as late:
                    return bool(late.call("dispatcher.ping") == "pong")
            except (ControlError, NoDaemon):
                return False

        eventually(let_in, "those that have been idle make room", timeout_s=30)
        subject.cli("status")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_crowd_of_one_user_gets_its_share_and_locks_out_nobody(subject: Mounted) -> None:
    subject.umount()
    subject.store.chmod(0o755)
    subject.configure("control", mode="0666", readers=["nobody"])
    subject.mount()
    command = [sys.executable, "-I", "-c", AS_NOBODY, str(subject.socket)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout is not None
        lines = [crowd.stdout.readline() for _ in range(EACH + 20)]
        assert ["too_many" in line for line in lines] == [False] * EACH + [True] * 20
        assert subject.json("status")["watchers"] == EACH
        crowd.communicate()


def test_who_has_a_huge_file_read_for_its_hash_holds_up_nobody_else(tmp_path: Path, deadline_s: float) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with (disk / "huge").open("w") as huge:
        huge.truncate(60 << 30)
    (disk / "small").write_text("x")
    with mounted(tmp_path / "own", {"disk": Root(disk)}) as subject, subject.deadline(deadline_s):
        here = subject.mountpoint / "resources" / "disk"
        assert (here / "huge").exists()
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(os.fspath(subject.socket))
            digest = {"collectionName": "files", "methodName": "digest", "data": {"path": "resources/disk/huge"}}
            peer.sendall(b"".join(json.dumps({"tid": tid, **digest}).encode() + b"\n" for tid in range(32)))
            time.sleep(ANSWER_S + 3 * PROBE_S)  # a disk that did not answer would be offline by now
            (here / "new").write_text("new")
            assert [root["state"] for root in subject.json("status")["roots"] if root["name"] == "disk"] == ["online"]
        with Client(subject.socket) as client:
            assert client.call("files.digest", {"path": "resources/disk/small"}, timeout_s=20)["size"] == 1
