"""A watcher is killed and resumes, and the daemon is killed: what was heard is the log, and replayed it is the tree."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.mounted.test_snapshots import listen, settled
from tests.support.daemon import PROJECT, Mounted, eventually
from tests.support.heard import compare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Prints what it hears after the event that its arguments name, a whole line at a time, until it is killed.
WATCHER: Final = """
import json, os, sys
from pathlib import Path
from tests.support.watcher import Line
line = Line(Path(sys.argv[1]), timeout_s=600)
assert line.call("events", "listen", since=int(sys.argv[2]), epoch=int(sys.argv[3]))["success"]
while (message := line.receive()) is not None:
    os.write(1, json.dumps(message).encode() + b"\\n")
"""


class Heard:
    """What a watcher has heard in all its lives; only what it had written down whole counts."""

    def __init__(self, subject: Mounted, file: Path, seq: int, epoch: int) -> None:
        self._subject = subject
        self._file = file
        self._start = (seq, epoch)
        file.touch()

    def all(self) -> list[dict[str, Any]]:
        *whole, _ = self._file.read_bytes().split(b"\n")
        return [json.loads(line) for line in whole]

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """A new life of it, which ends by SIGKILL."""
        whole = self._file.read_bytes().rpartition(b"\n")
        os.truncate(self._file, len(whole[0] + whole[1]))
        last = self.all()[-1:]
        seq, epoch = (last[0]["seq"], last[0]["epoch"]) if last else self._start
        command = [sys.executable, "-c", WATCHER, str(self._subject.socket), str(seq), str(epoch)]
        with self._file.open("ab") as out, subprocess.Popen(command, cwd=PROJECT, stdout=out) as process:
            try:
                yield
            finally:
                process.kill()

    def grows_by(self, count: int) -> None:
        before = len(self.all())
        eventually(lambda: len(self.all()) >= before + count, f"{count} more events", timeout_s=60)


@contextlib.contextmanager
def changing(subject: Mounted, log: Path, seed: int, top: str) -> Iterator[None]:
    """A program that changes everything, and ends when the mount dies or the block does."""
    command = [sys.executable, "-m", "tests.support.workload", str(subject.mountpoint), str(log), str(seed), top]
    with subprocess.Popen(command, cwd=PROJECT) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(5, marks=pytest.mark.timeout(300)),
        pytest.param(
            int(os.environ.get("FUSESTORE_KILLS", "100")), marks=[pytest.mark.long, pytest.mark.timeout(3600)]
        ),
    ],
    ids=["some", "many"],
)
def test_what_is_heard_across_all_kills_is_the_log_and_the_tree(travel: Mounted, tmp_path: Path, rounds: int) -> None:
    travel.allow_log("unclean|replay|recover|interrupted|leftover")
    chance = random.Random(os.environ.get("FUSESTORE_SEED", "resume"))
    seq = settled(travel)
    model, line = listen(travel)  # of a tree that is empty yet
    line.close()
    assert model.seq == seq
    heard = Heard(travel, tmp_path / "heard", seq, model.epoch)
    for turn in range(rounds):
        with heard.listening(), changing(travel, tmp_path / f"{turn}.log", chance.randrange(1 << 30), f"round{turn}"):
            heard.grows_by(chance.randrange(5, 150))
            time.sleep(chance.random() / 50)  # the moment is random on purpose; nothing waits for it
            if chance.random() < 0.7:
                travel.kill9()
        if not travel.pid:
            travel.mount()
    seq = settled(travel)
    with heard.listening():
        eventually(lambda: any(message["seq"] >= seq for message in heard.all()[-5:]), "the last event", timeout_s=60)
    messages = [message for message in heard.all() if message["seq"] <= seq]

    logged = [(event["seq"], event["kind"], event["id"]) for event in travel.events(model.seq) if event["seq"] <= seq]
    assert [(each["seq"], each["data"]["kind"], each["data"]["id"]) for each in messages] == logged
    for message in messages:
        model.take(message)
    compare(travel, model)

    other, line = listen(travel)  # and so says who comes only now
    line.close()
    assert other.known == model.known
