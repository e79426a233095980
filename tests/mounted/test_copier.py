"""The process that copies is nobody's concern: it may be killed, and it never outlives its daemon."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import eventually

if TYPE_CHECKING:
    from tests.support.daemon import Mounted

pytestmark = pytest.mark.timeout(120)

MIB = 1 << 20


def copiers(subject: Mounted) -> list[int]:
    """The processes that copy for a daemon which lives."""
    children = Path(f"/proc/{subject.pid}/task").glob("*/children")
    return [int(pid) for each in children for pid in each.read_text().split()]


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def begin_a_slow_copy(subject: Mounted) -> tuple[Path, bytes, int]:
    """A move whose bytes take a while; returns its new name, the content, and the process that copies it."""
    subject.umount()
    subject.configure("moves", rate=8 * MIB)
    subject.mount()
    old, new = subject.resources / "hot" / "f", subject.resources / "cold" / "f"
    content = os.urandom(16 * MIB)
    old.write_bytes(content)
    subject.wait()
    assert copiers(subject) == []
    os.rename(old, new)
    eventually(lambda: (subject.moves() or [{"bytes_done": 0}])[0]["bytes_done"] > MIB, "some of it is copied")
    (pid,) = copiers(subject)
    return new, content, pid


def test_when_it_is_killed_the_move_begins_again_with_another(travel: Mounted) -> None:
    new, content, pid = begin_a_slow_copy(travel)
    os.kill(pid, signal.SIGKILL)
    travel.wait()
    assert new.read_bytes() == content
    assert [each["root"] for each in travel.where(new)] == ["cold"]
    (other,) = copiers(travel)
    assert other != pid


@pytest.mark.parametrize("end", ["kill9", "umount"])
def test_it_is_gone_with_its_daemon(travel: Mounted, end: str) -> None:
    new, content, pid = begin_a_slow_copy(travel)
    if end == "kill9":
        travel.kill9()
    else:
        travel.umount()
    eventually(lambda: not is_alive(pid), "the process that copies is gone")
    travel.configure("moves", rate=0)
    travel.mount()
    travel.wait()
    assert new.read_bytes() == content
    assert list((travel.roots["cold"].directory / ".fusestore" / "incoming").iterdir()) == []
