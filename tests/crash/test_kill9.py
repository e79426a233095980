"""kill -9 of the daemon at random moments: everything acknowledged is there, nothing removed comes back."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import PROJECT, Mounted, Root, eventually, mounted
from tests.support.pair import two_disks
from tests.support.watcher import Watcher
from tests.support.workload import Log, Model, judge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKERS = 2


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Mounted]:
    with contextlib.ExitStack() as stack:
        disks = stack.enter_context(two_disks())
        roots = {"hot": Root(disks.hot / "root"), "cold": Root(disks.cold / "root")}
        store = stack.enter_context(mounted(tmp_path / "own", roots))
        store.allow_log("unclean|replay|recover|interrupted|leftover")
        yield store


def start(subject: Mounted, log: Path, seed: int, top: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.workload", str(subject.mountpoint), str(log), str(seed), top]
    return subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE)


def lines(logs: list[Path]) -> int:
    return sum(log.read_bytes().count(b"\n") for log in logs if log.exists())


def on_disk_too(subject: Mounted, model: Model) -> list[str]:
    """What is wrong with the roots' own directories, once nothing is on its way any more."""
    problems = []
    for name, disk in (("main", subject.store / "main"), *((n, r.directory) for n, r in subject.roots.items())):
        for path, thing in model.names.items():
            if not path.startswith(f"resources/{name}/"):
                continue
            names = [other for other, twin in model.names.items() if twin is thing]
            if not all(other.startswith(f"resources/{name}/") for other in names):
                continue  # hard links on two roots: the bytes can lie on one only
            place = disk / path.removeprefix(f"resources/{name}/")
            if not os.path.lexists(place):
                problems.append(f"{place}: not on the disk")
            elif thing.kind == "create" and place.read_bytes() != (subject.mountpoint / path).read_bytes():
                problems.append(f"{place}: other bytes on the disk than in the mount")
    return problems


def ids_and_seqs(events: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    return [(event["seq"], event["id"], event["kind"]) for event in events]


@pytest.mark.parametrize(
    ("rounds", "seed"),
    [
        pytest.param(5, 1, marks=pytest.mark.timeout(420)),
        pytest.param(20, 2, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_kill_9_at_random_moments_loses_nothing_and_brings_nothing_back(
    subject: Mounted, tmp_path: Path, rounds: int, seed: int
) -> None:
    chance = random.Random(seed)
    finished: dict[str, Log] = {}
    known: list[tuple[int, str, str]] = []
    for turn in range(rounds):
        tops = [f"round{turn}-{worker}" for worker in range(WORKERS)]
        logs = [tmp_path / f"{top}.log" for top in tops]
        watcher = Watcher(subject.socket, since=known[-1][0] if known else 0)
        running = [start(subject, log, chance.randrange(1 << 30), top) for log, top in zip(logs, tops, strict=True)]
        wanted = chance.randrange(40, 1500)
        eventually(lambda: lines(logs) > wanted or any(w.poll() is not None for w in running), "some calls", 120)  # noqa: B023
        time.sleep(chance.random() / 50)  # the moment is random on purpose; nothing waits for it
        subject.kill9()
        for worker in running:
            _, complaint = worker.communicate(timeout=30)
            assert worker.returncode == 0, complaint.decode()[-3000:]
        seen = watcher.stop()

        for _ in range(chance.choice((0, 0, 1, 2))):  # and again while it recovers
            subject.mount()
            time.sleep(chance.random() / 3)
            subject.kill9()
        subject.mount()

        finished |= {top: Log(log) for log, top in zip(logs, tops, strict=True)}
        prove(subject, finished)
        subject.wait("--all", timeout_s=200)
        prove(subject, finished, disks=True)

        events = subject.events()
        now = ids_and_seqs(events)
        assert [seq for seq, _, _ in now] == list(range(now[0][0], now[-1][0] + 1)), "the log has a gap"
        assert now[: len(known)] == known, "logged events changed or vanished"
        assert seen == list(range(seen[0], seen[0] + len(seen))) if seen else True
        assert set(seen) <= {seq for seq, _, _ in now}, "a watcher was told what the log does not know"
        made = {event["path"] for event in events if event["kind"] == "created"}
        for top in tops:
            created = [o["path"] for o in finished[top].done if o["do"] in ("create", "mkdir", "symlink")]
            assert not [path for path in created if path not in made], "an acknowledged creation has no event"
        known = now

        subject.umount()
        subject.cli("check", subject.store, timeout_s=120)
        subject.mount()


def prove(subject: Mounted, finished: dict[str, Log], *, disks: bool = False) -> None:
    for top, log in finished.items():
        model, problems = judge(subject.mountpoint, log, top)
        if disks:
            problems += on_disk_too(subject, model)
        under_way = f"under way: {log.open}\nlast done: {log.done[-3:]}"
        assert not problems, f"{top}: {len(problems)} problems\n" + "\n".join(problems[:20]) + f"\n{under_way}"
