"""A watcher sees every seq exactly once, whatever happens to it or to the daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import COMMAND, PROJECT, Mounted, eventually
from tests.support.watcher import Line, Watcher

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)


def churn(subject: Mounted, label: str, count: int = 60) -> None:
    """Changes of every kind; the last one leaves a name that tells that all of them happened."""
    for place in (subject.uploads, subject.resources / "main"):
        top = place / label
        top.mkdir()
        for number in range(count):
            (top / f"{number}").write_bytes(b"x" * number)
        for number in range(0, count, 2):
            os.rename(top / f"{number}", top / f"renamed-{number}")
        for number in range(1, count, 4):
            os.unlink(top / f"{number}")
    os.rename(subject.uploads / label / "renamed-0", subject.resources / "main" / f"{label}-moved")


def seqs_logged(subject: Mounted, since: int = 0) -> list[int]:
    return [int(event["seq"]) for event in subject.events(since)]


def settled(subject: Mounted) -> list[int]:
    """The log once nothing adds to it any more: moves done, contents hashed."""
    subject.wait("--all")
    return seqs_logged(subject)


def test_a_watcher_connected_throughout_sees_every_seq_once_and_in_order(own: Mounted) -> None:
    watcher = Watcher(own.socket)
    churn(own, "one")
    churn(own, "two")
    logged = settled(own)
    watcher.until(lambda seen: bool(seen) and seen[-1]["seq"] >= logged[-1], "the last event")
    seen = watcher.stop()
    assert seen == list(range(seen[0], seen[-1] + 1))
    assert seen[: len(logged)] == logged


def test_what_a_watcher_sees_is_what_the_log_says(own: Mounted) -> None:
    watcher = Watcher(own.socket)
    churn(own, "one", 10)
    logged = settled(own)
    watcher.until(lambda seen: bool(seen) and seen[-1]["seq"] >= logged[-1], "the last event")
    watcher.stop()
    by_seq = {event["seq"]: event for event in own.events()}
    for message in watcher.seen:
        logged_event = by_seq[message["seq"]]
        assert message["operation"] == logged_event["operation"]
        assert message["data"]["id"] == logged_event["id"]
        assert message["data"]["path"] == logged_event["path"]


def test_reconnecting_with_since_misses_nothing_and_repeats_nothing(own: Mounted) -> None:
    seen: list[int] = []
    for round_number in range(5):
        watcher = Watcher(own.socket, since=seen[-1] if seen else 0)
        churn(own, f"during-{round_number}", 8)
        watcher.until(lambda messages: len(messages) > 10, "some events")
        seen += watcher.stop()
        churn(own, f"between-{round_number}", 8)
    logged = settled(own)
    last = Watcher(own.socket, since=seen[-1])
    last.until(lambda messages: bool(messages) and messages[-1]["seq"] >= logged[-1], "the last event")
    seen += last.stop()
    assert seen[: len(logged)] == logged
    assert seen == list(range(logged[0], seen[-1] + 1))


def test_a_watcher_resumes_across_kill_9_and_restart_without_gap_or_repeat(own: Mounted) -> None:
    seen: list[int] = []
    for round_number in range(3):
        watcher = Watcher(own.socket, since=seen[-1] if seen else 0)
        churn(own, f"round-{round_number}", 20)
        watcher.until(lambda messages: len(messages) > 20, "some events")
        if round_number % 2:
            own.remount()
        else:
            own.kill9()
            own.mount()
        seen += watcher.stop()
    logged = settled(own)
    last = Watcher(own.socket, since=seen[-1])
    last.until(lambda messages: bool(messages) and messages[-1]["seq"] >= logged[-1], "the last event")
    seen += last.stop()
    assert seen[: len(logged)] == logged
    assert seen == list(range(logged[0], seen[-1] + 1))


def test_events_follow_prints_each_change_as_it_happens(own: Mounted, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "FUSESTORE_SOCKET": str(own.socket)}
        command = [*COMMAND, "events", "--since", "0", "--follow", "--json"]
        follower = subprocess.Popen(command, stdout=out, env=environment)
        try:
            churn(own, "one", 5)
            logged = settled(own)
            lines = (tmp_path / "out").read_bytes
            eventually(lambda: len(lines().splitlines()) >= len(logged), "every event printed")
        finally:
            follower.terminate()
            follower.wait(10)
    printed = [json.loads(line)["seq"] for line in (tmp_path / "out").read_bytes().splitlines()]
    assert printed[: len(logged)] == logged


def test_who_watches_a_directory_hears_of_it_and_of_what_happens_to_all_above(own: Mounted) -> None:
    top = own.resources / "main" / "top"
    (top / "d").mkdir(parents=True)
    (top / "beside").write_bytes(b"x")
    with Line(own.socket) as line:
        assert line.call("events", "listen", paths=["resources/main/top/d"])["success"]
        (top / "beside").unlink()
        (top / "d" / "new").write_bytes(b"new")
        os.rename(top, own.resources / "main" / "elsewhere")
        (own.uploads / "u").write_bytes(b"u")
        line.send(b'{"tid": 9, "collectionName": "events", "methodName": "fence"}\n')
        heard = []
        while (message := line.receive()) is not None and message.get("tid") != 9:
            heard.append((message["data"]["kind"], message["data"]["path"]))
    assert heard[0] == ("created", "resources/main/top/d/new")
    assert heard[-1] == ("renamed", "resources/main/elsewhere")
    assert {path for _, path in heard[:-1]} == {"resources/main/top/d/new"}
    said = own.cli("events", own.resources / "main" / "elsewhere", "--kind", "renamed").out.splitlines()
    assert len(said) == 1


def test_reading_emits_nothing(own: Mounted) -> None:
    (own.uploads / "f").write_bytes(b"x")
    before = settled(own)
    assert (own.uploads / "f").read_bytes() == b"x"
    os.listdir(own.uploads)
    os.stat(own.uploads / "f")
    os.getxattr(own.uploads / "f", "user.fusestore.id")
    assert seqs_logged(own) == before


def test_a_finalized_event_carries_id_version_size_and_hash(own: Mounted) -> None:
    (own.uploads / "f").write_bytes(b"x" * 1000)
    own.wait(own.uploads / "f")
    record = own.record(own.uploads / "f")
    finals = [e for e in own.events() if e["kind"] == "finalized" and e["path"] == "uploads/f"]
    assert len(finals) == 1
    assert (finals[0]["id"], finals[0]["size"], finals[0]["version"]) == (record["id"], 1000, record["version"])
    assert record["hash"].startswith("blake3:")
    hashes = [e["hash"] for e in own.events() if e["path"] == "uploads/f" and e["kind"] in ("finalized", "hashed")]
    assert record["hash"] in hashes


def test_a_dead_or_deaf_watcher_holds_nobody_up(own: Mounted) -> None:
    deaf = Line(own.socket)
    assert deaf.call("events", "listen", since=0)["success"]
    gone = Watcher(own.socket)
    gone.stop()
    watcher = Watcher(own.socket)
    for number in range(5):
        churn(own, f"load-{number}", 100)
    logged = settled(own)
    watcher.until(lambda seen: bool(seen) and seen[-1]["seq"] >= logged[-1], "the last event")
    assert watcher.stop()[: len(logged)] == logged
    deaf.close()


def test_the_socket_answers_while_programs_ask_the_mount_without_a_pause(own: Mounted) -> None:
    ask = "import os, sys\nos.chdir(sys.argv[1])\nwhile True: os.mkdir(sys.argv[2]); os.rmdir(sys.argv[2])"
    command = [sys.executable, "-c", ask, str(own.uploads)]
    busy = [subprocess.Popen([*command, f"busy-{number}"]) for number in range(3)]
    try:
        eventually(lambda: len(seqs_logged(own)) > 100, "requests are pouring in")
        for number in range(5):
            before = seqs_logged(own)[-1]
            place = own.uploads / f"heard-{number}"
            place.mkdir()
            assert any(event["path"] == f"uploads/{place.name}" for event in own.events(before))
    finally:
        for process in busy:
            process.kill()
            process.wait(10)
