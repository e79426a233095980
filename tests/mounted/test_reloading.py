"""Settings taken in again by a daemon that goes on serving."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Root, eventually, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Mounted

pytestmark = pytest.mark.timeout(120)
MIB = 1 << 20


@pytest.fixture
def subject(tmp_path: Path, deadline_s: float) -> Iterator[Mounted]:
    with mounted(tmp_path, {"cold": Root(tmp_path / "cold")}) as subject, subject.deadline(deadline_s):
        yield subject


def test_a_move_that_crawls_goes_at_the_new_rate_and_nothing_is_unmounted(travel: Mounted) -> None:
    travel.configure("moves", rate=1000)
    travel.configure("hash", algorithm="sha256")
    assert travel.json("reload", travel.store) == {"applied": ["moves.rate"], "needs_remount": ["hash.algorithm"]}
    (travel.resources / "hot" / "f").write_bytes(os.urandom(2 * MIB))
    travel.wait()
    with open(travel.resources / "hot" / "f", "rb") as held:
        os.rename(travel.resources / "hot" / "f", travel.resources / "cold" / "f")
        eventually(lambda: travel.json("moves", "show", "1")["state"] == "running", "the copy has begun")
        travel.configure("moves", rate=0)
        text = travel.cli("reload", travel.mountpoint / "uploads").out
        assert text == "applied: moves.rate\nfrom the next mount: hash.algorithm\n"
        travel.wait(timeout_s=30)
        assert len(held.read()) == 2 * MIB
    assert [each["root"] for each in travel.where(travel.resources / "cold" / "f")] == ["cold"]
    assert travel.record(travel.resources / "cold" / "f")["hash"].startswith("blake3:")


def test_a_daemon_is_found_by_its_store_and_by_any_path_in_its_mount(subject: Mounted) -> None:
    for where in (subject.store, subject.mountpoint, subject.mountpoint / "uploads"):
        assert subject.json("status", where)["pid"] == subject.pid
    assert "no store is mounted here" in subject.cli("status", "/", code=6).err


def test_more_copies_are_made_of_what_is_there_and_one_more_mistake_changes_nothing(subject: Mounted) -> None:
    (subject.resources / "main" / "f").write_bytes(b"content")
    subject.wait()
    good = (subject.store / "fusestore.toml").read_text()
    wrong = good.replace("[roots.main]", "[moves]\nrate = -1\n[roots.main]\ncopies = 2")
    (subject.store / "fusestore.toml").write_text(wrong)
    run = subject.cli("reload", subject.mountpoint, code=2)
    mistake = "moves.rate: expected a number of bytes a second, 0 for no limit, found -1"
    assert run.complaint == [f"fusestore: {subject.store}/fusestore.toml: {mistake}"]
    assert len(subject.where(subject.resources / "main" / "f")) == 1
    (subject.store / "fusestore.toml").write_text(good.replace("[roots.main]", "[roots.main]\ncopies = 2"))
    assert subject.json("reload")["applied"] == ["roots.main.copies"]
    subject.wait()
    assert [each["state"] for each in subject.where(subject.resources / "main" / "f")] == ["current", "current"]


def test_a_hangup_signal_takes_the_settings_in_and_complains_in_the_log(subject: Mounted) -> None:
    def lines() -> list[str]:
        return [line for line in subject.log.read_text().splitlines() if "settings" in line]

    subject.configure("events", keep=5)
    os.kill(subject.pid, signal.SIGHUP)
    eventually(lambda: len(lines()) == 1, "the signal is answered")
    assert "applied=events.keep" in lines()[0]
    subject.configure("events", keep=0)
    subject.allow_log(r"the settings stay as they are.*events\.keep: expected a number of events")
    os.kill(subject.pid, signal.SIGHUP)
    eventually(lambda: len(lines()) == 2, "the signal is answered")
    assert "the settings stay as they are" in lines()[1]
    subject.configure("events", keep=5)
    assert subject.json("reload") == {"applied": [], "needs_remount": []}


def test_the_log_says_more_or_less_from_then_on(subject: Mounted) -> None:
    subject.configure("log", level="error")
    assert subject.json("reload")["applied"] == ["log.level"]
    subject.configure("events", keep=5)
    subject.cli("reload")
    subject.configure("log", level="info")
    subject.cli("reload")
    said = [line for line in subject.log.read_text().splitlines() if "settings taken in again" in line]
    assert ["log.level" in line for line in said] == [True]


def test_a_new_root_is_named_as_one_that_needs_a_mount(subject: Mounted) -> None:
    subject.cli("root", "add", subject.store, "warm", subject.base / "warm")
    assert json.loads(subject.cli("reload", "--json").out) == {"applied": [], "needs_remount": ["roots.warm"]}
    assert sorted(os.listdir(subject.resources)) == ["cold", "main"]
    subject.remount()
    assert sorted(os.listdir(subject.resources)) == ["cold", "main", "warm"]
