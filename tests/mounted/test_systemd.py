"""The daemon under systemd: ready when the tree answers, alive while its loop turns, on a socket held for it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from fusestore.client import Client
from tests.support.daemon import PROJECT, Mounted, Root, mounts
from tests.support.systemd import Manager, manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., subprocess.Popen[bytes]]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def subject(tmp_path: Path, deadline_s: float) -> Iterator[Mounted]:
    """A store that nobody has mounted yet."""
    subject = Mounted(tmp_path, {"cold": Root(tmp_path / "cold")}).build()
    try:
        with subject.deadline(deadline_s):
            yield subject
        subject.finish()
    finally:
        subject.discard()


@pytest.fixture
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    with manager(tmp_path_factory.mktemp("n")) as playing:
        yield playing


@pytest.fixture
def start(subject: Mounted, systemd: Manager) -> Start:
    def start(held: socket.socket | None = None, **extra: str) -> subprocess.Popen[bytes]:
        arguments = ("mount", "--foreground", subject.store, subject.mountpoint)
        daemon = systemd.start(*arguments, log=subject.log, held=held, extra=extra)
        subject.pid = daemon.pid
        return daemon

    return start


def end(subject: Mounted, daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    subject.pid = 0


def test_it_is_ready_when_the_tree_answers_and_says_how_it_does(
    subject: Mounted, systemd: Manager, start: Start
) -> None:
    daemon = start()
    systemd.hear("READY=1")
    assert sorted(os.listdir(subject.mountpoint)) == ["downloads", "resources", "uploads"]
    assert "WATCHDOG=1" not in systemd.told
    assert systemd.hear("STATUS=") == f"STATUS=serving {subject.mountpoint}"
    systemd.forget()
    aside = subject.base / "away"
    subject.roots["cold"].directory.rename(aside)
    assert systemd.hear("STATUS=") == f"STATUS=serving {subject.mountpoint}; offline: cold"
    systemd.forget()
    aside.rename(subject.roots["cold"].directory)
    assert systemd.hear("STATUS=") == f"STATUS=serving {subject.mountpoint}"
    end(subject, daemon)
    assert systemd.last("STATUS=") == "STATUS=finished files are made durable"
    assert "STOPPING=1" in systemd.told
    subject.allow_log("root is (offline|online again)")


def test_the_watchdog_is_fed_while_the_loop_turns_and_not_otherwise(
    subject: Mounted, systemd: Manager, start: Start
) -> None:
    daemon = start(WATCHDOG_USEC="400000", LISTEN_PID="1", LISTEN_FDS="1")  # passed to somebody else
    systemd.hear("READY=1")
    systemd.forget()
    systemd.hear("WATCHDOG=1", timeout_s=5)
    daemon.send_signal(signal.SIGSTOP)
    systemd.forget()
    with pytest.raises(TimeoutError):
        systemd.hear("WATCHDOG=1", timeout_s=1)
    daemon.send_signal(signal.SIGCONT)
    systemd.hear("WATCHDOG=1", timeout_s=5)
    end(subject, daemon)


def test_a_reload_is_told_from_its_beginning_to_its_end(subject: Mounted, systemd: Manager, start: Start) -> None:
    daemon = start()
    systemd.hear("READY=1")
    for keep in (5, 0, 6):
        systemd.forget()
        subject.configure("events", keep=keep)
        daemon.send_signal(signal.SIGHUP)
        systemd.hear("READY=1")
        assert systemd.told[0] == "RELOADING=1"
        assert systemd.told[1].startswith("MONOTONIC_USEC=")
    subject.allow_log("the settings stay as they are")
    end(subject, daemon)


def test_a_socket_that_systemd_holds_is_served_and_stays(
    subject: Mounted, systemd: Manager, start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("h") / "lab.sock"
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))
        held.listen()
        with Client(path) as early:  # before there is a daemon
            daemon = start(held)
            assert early.call("dispatcher.hello")["pid"] == daemon.pid
        systemd.hear("READY=1")
        assert os.getxattr(subject.mountpoint, "user.fusestore.socket") == os.fsencode(path)
        assert not subject.socket.exists()
        assert subject.cli("reload", subject.mountpoint).out == "applied: nothing has changed\n"
        end(subject, daemon)
        assert path.exists()
        with Client(path) as between:  # waits for the next one
            daemon = start(held)
            assert between.call("dispatcher.ping") == "pong"
        end(subject, daemon)


def test_what_is_no_socket_to_serve_on_is_refused_in_one_line(subject: Mounted, systemd: Manager, start: Start) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        held.bind(str(subject.base / "d"))
        daemon = start(held)
        assert daemon.wait(30) == 4
    subject.pid = 0
    systemd.hear("STATUS=what systemd has passed is no Unix stream socket")
    assert str(subject.mountpoint) not in mounts()
    subject.allow_log("no Unix stream socket")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for kind in ("service", "socket"):
        unit = (PROJECT / "systemd" / f"fusestore@.{kind}").read_text()
        (tmp_path / f"fusestore@lab.{kind}").write_text(unit.replace("/opt/fusestore/bin/fusestore", "/bin/true"))
    units = [tmp_path / f"fusestore@lab.{kind}" for kind in ("service", "socket")]
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
