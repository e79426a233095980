"""`fusestore scrub` on a mounted store: one flipped bit on a disk is found, named, and told until it is put right."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import Mounted, Root, eventually, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.pair import Disks

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def store(tmp_path: Path, disks: Disks, deadline_s: float) -> Iterator[Mounted]:
    """Nobody else writes on its two disks."""
    roots = {name: Root(disk / tmp_path.name, "none") for name, disk in (("hot", disks.hot), ("cold", disks.cold))}
    with mounted(tmp_path / "own", roots) as subject, subject.deadline(deadline_s):
        yield subject


def flip(path: Path) -> None:
    """One bit of a file changes on its disk, as a disk does that."""
    times = path.stat()
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
        file.flush()
        os.fsync(file.fileno())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def rested(store: Mounted) -> dict[str, Any]:
    """The pass when it is over."""
    eventually(lambda: not store.json("scrub", "--status")["running"], "the pass is over", timeout_s=60)
    found: dict[str, Any] = store.json("scrub", "--status")
    return found


def test_one_flipped_bit_is_found_named_and_told_across_restarts_until_it_is_put_right(store: Mounted) -> None:
    store.allow_log("does not match its hash")
    hot, cold = store.resources / "hot", store.resources / "cold"
    content = random.Random(4).randbytes(3 << 20)
    for name in ("good", "bad"):
        (hot / name).write_bytes(content)
    store.wait()
    assert store.json("scrub", "--now", "--rate", "0")["running"] in (True, False)
    assert rested(store)["damaged"] == []
    assert store.record(hot / "bad")["verified"] == "sound"
    flip(store.roots["hot"].directory / "bad")
    since = store.json("status")["index"]["last_seq"]
    store.cli("scrub", "--root", "hot", "--rate", "20000000")
    status = rested(store)
    (bad,) = status["damaged"]
    assert (bad["path"], bad["outcome"], status["checked"]) == ("resources/hot/bad", "damaged", 2)
    assert re.fullmatch("blake3:[0-9a-f]{64}", bad["found"])
    (event,) = [event for event in store.events(since) if event["kind"] == "damaged"]
    assert event["detail"] == f"expected {bad['expected']}, found {bad['found']}"
    store.kill9()
    store.mount()
    assert "resources/hot/bad is damaged" in store.json("status")["health"]
    assert store.json("explain", hot / "bad")["code"] == "damaged"
    assert store.where(hot / "bad")[0]["state"] == "bad"
    assert bad["found"] in store.cli("scrub", "--status").out
    os.rename(hot / "bad", cold / "bad")
    store.cli("wait", cold / "bad", code=1)
    assert "recorded hash" in store.moves()[0]["reason"]
    (cold / "bad").write_bytes(content)
    eventually(lambda: not store.moves(), "the move goes on")
    store.wait()
    assert store.json("status")["health"] == "ok"
    assert store.json("status")["damaged"] == 0
    assert (store.roots["cold"].directory / "bad").read_bytes() == content


def test_what_the_kernel_has_cached_of_damaged_bytes_is_not_read_any_more(store: Mounted) -> None:
    store.allow_log("does not match its hash")
    path, content = store.resources / "hot" / "file", os.urandom(1 << 20)
    path.write_bytes(content)
    store.cli("replicate", path, "--to", "cold", "--wait")
    flip(store.roots["hot"].directory / "file")
    store.remount()  # the kernel forgets all
    assert path.read_bytes() != content
    store.cli("verify", path, code=1)
    assert path.read_bytes() == content  # of the copy
    flip(store.roots["hot"].directory / "file")
    store.cli("verify", path)
    flip(store.roots["hot"].directory / "file")
    store.remount()
    assert path.read_bytes() != content
    store.cli("scrub", "--now", "--rate", "0")
    rested(store)
    assert path.read_bytes() == content
    store.wait()
    assert (store.roots["hot"].directory / "file").read_bytes() == content
    assert path.read_bytes() == content


@pytest.mark.parametrize("verify", [("verify",), ("where", "--verify")])
def test_what_verify_finds_is_known_to_status(store: Mounted, verify: tuple[str, ...]) -> None:
    store.allow_log("does not match its hash")
    path = store.resources / "hot" / "file"
    path.write_bytes(bytes(10_000))
    store.wait()
    assert "was not compared with the disk yet" in store.cli("explain", path).out
    store.cli(*verify, path)
    assert "was compared with the disk" in store.cli("explain", path).out
    flip(store.roots["hot"].directory / "file")
    store.cli(*verify, path, code=1)
    assert "resources/hot/file is damaged" in store.json("status")["health"]
    flip(store.roots["hot"].directory / "file")
    store.cli(*verify, path)
    assert store.json("status")["health"] == "ok"


def test_a_pass_is_held_to_its_rate_goes_on_after_a_restart_and_can_be_stopped(store: Mounted) -> None:
    (store.resources / "hot" / "file").write_bytes(bytes(8 << 20))
    store.wait()
    assert store.json("scrub", "--now", "--rate", "100000")["running"]
    store.remount()  # the end of the daemon waits for no file to be read
    status = store.json("scrub", "--status")
    assert (status["running"], status["rate"], status["checked"]) == (True, 100_000, 0)
    assert not store.json("scrub", "--stop")["running"]
    store.remount()
    assert not store.json("scrub", "--status")["running"]
    store.cli("scrub", "--stop", "--now", code=2)


@pytest.mark.parametrize("rotten", ["the file", "its replica"])
def test_what_rots_is_made_anew_from_the_other_copy(store: Mounted, rotten: str) -> None:
    store.allow_log("does not match its hash|a replica is bad")
    hot = store.resources / "hot"
    content = random.Random(5).randbytes(3 << 20)
    (hot / "d").mkdir()
    (hot / "d/a").write_bytes(content)
    os.link(hot / "d/a", hot / "b")
    os.utime(hot / "b", ns=(10**18, 10**18 + 1))
    store.wait()
    store.cli("replicate", hot / "b", "--to", "cold", "--wait")
    before = store.record(hot / "b")
    places = {copy["root"]: Path(copy["path"]) for copy in store.where(hot / "b")}
    flip(places["hot" if rotten == "the file" else "cold"])
    store.kill9()
    store.mount()  # no page of it is remembered
    with open(hot / "b", "rb") as reader:
        store.cli("scrub", "--now", "--rate", "0")
        assert rested(store)["bad"] == 1
        store.wait()
        eventually(lambda: all(copy["state"] == "current" for copy in store.where(hot / "b")), "both are whole again")
        assert {copy["root"]: copy["role"] for copy in store.where(hot / "b")} == {"hot": "home", "cold": "replica"}
        if rotten == "the file":
            assert "repaired from the copy on cold" in store.cli("history", hot / "b").out
            assert reader.read() == content
    after = store.record(hot / "b")
    for fact in ("id", "version", "mtime_ns", "hash"):
        assert after[fact] == before[fact], fact
    assert store.json("scrub", "--status")["damaged"] == []
    for copy in store.where(hot / "b"):
        assert Path(copy["path"]).read_bytes() == content
    disk = store.roots["hot"].directory
    assert (disk / "b").stat().st_ino == (disk / "d/a").stat().st_ino
    assert (hot / "d/a").read_bytes() == content
