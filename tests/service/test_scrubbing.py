"""Everything is read again in the background: what does not match is named, marked, and nobody's copy is made of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from blake3 import blake3
from msgspec.structs import replace

from fusestore.core.moves import MISMATCH
from fusestore.jobs.scrubber import BUSY_S, LOOK_S, Halted, Manners, Scrubber
from fusestore.model import MOUNT_ROOT, MoveState, Outcome, ReplicaState
from fusestore.service import describing, soundness, verifying
from tests.support.byhand import Job, finish, run

if TYPE_CHECKING:
    from fusestore.model import Event, Verified
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"


def rot(opened: Opened, root: str, name: str) -> bytes:
    """One bit of a file flips on its disk, and nothing else changes; returns what is there now."""
    path = opened.disks[root] / name
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return bytes(content)


def scrub(opened: Opened, root: str = "", *, again: bool = True) -> Scrubber:
    """One pass, to its end."""
    scrubber = Scrubber(opened.store)
    scrubber.start(root, 0, again=again)
    finish(scrubber.go_on())
    assert not scrubber.is_running
    return scrubber


def verified(opened: Opened, path: str) -> Verified | None:
    return opened.store.index.verified(opened.find(path))


def told(opened: Opened) -> list[Event]:
    return [each for each in opened.store.index.events(0, 10_000) if each.kind in ("damaged", "mended")]


@pytest.fixture
def two(opened: Opened) -> Opened:
    for path in (f"{HOT}/good", f"{HOT}/bad", "uploads/up"):
        opened.write(path, path.encode() * 100)
    opened.settle()
    return opened


def test_a_pass_reads_every_file_and_names_the_one_flipped_bit(two: Opened) -> None:
    rotten = rot(two, "hot", "bad")
    before = time.time_ns()
    scrubber = scrub(two)
    status = scrubber.status()
    assert (status["checked"], status["bad"], status["skipped"], status["running"]) == (3, 1, 0, False)
    for path in (f"{HOT}/good", "uploads/up"):
        found = verified(two, path)
        assert found is not None
        assert (found.outcome, found.time_ns >= before) == (Outcome.SOUND, True)
    bad = verified(two, f"{HOT}/bad")
    assert bad is not None
    assert (bad.outcome, bad.found) == (Outcome.DAMAGED, blake3(rotten).digest())
    (event,) = told(two)
    inode = two.stat(f"{HOT}/bad")
    assert (event.kind, event.path) == ("damaged", f"{HOT}/bad".encode())
    assert event.detail == f"expected blake3:{inode.hash.hex()}, found blake3:{bad.found.hex()}"
    assert (two.disks["hot"] / "bad").read_bytes() == rotten  # nothing is changed
    assert two.store.index.journal(inode.id)[-1].command == "verify"


def test_verify_tells_files_whose_root_is_away_apart_from_those_that_differ(two: Opened) -> None:
    rot(two, "hot", "bad")
    (hot,) = (root for root in two.store.roots.values() if root.name == "hot")

    def verify() -> dict[str, Any]:
        return finish(verifying.verify(two.store, MOUNT_ROOT, None, lambda *figures: None))

    found = verify()
    assert (found["checked"], [bad["path"] for bad in found["bad"]], found["away"]) == (3, [f"{HOT}/bad"], [])
    hot.online = False
    found = verify()
    hot.online = True
    assert (found["checked"], found["ok"], found["unknown"], found["bad"]) == (1, 1, 0, [])
    assert [(each["path"], each["root"]) for each in found["away"]] == [(f"{HOT}/bad", "hot"), (f"{HOT}/good", "hot")]


def test_what_is_known_to_be_bad_is_told_once_until_it_is_written_or_reads_well_again(two: Opened) -> None:
    good = (two.disks["hot"] / "bad").read_bytes()
    rotten = rot(two, "hot", "bad")
    scrub(two)
    scrub(two)
    assert [event.kind for event in told(two)] == ["damaged"]
    assert [inode.number for inode, _ in soundness.all_unsound(two.store)] == [two.find(f"{HOT}/bad")]
    (two.disks["hot"] / "bad").write_bytes(good)
    scrub(two)
    assert [(event.kind, event.cause) for event in told(two)] == [("damaged", "scrub"), ("mended", "scrub")]
    assert soundness.all_unsound(two.store) == []
    (two.disks["hot"] / "bad").write_bytes(rotten)
    scrub(two)
    assert len(soundness.all_unsound(two.store)) == 1
    two.write(f"{HOT}/bad", b"written anew")
    two.settle()
    assert soundness.all_unsound(two.store) == []
    assert describing.record(two.store, two.stat(f"{HOT}/bad"))["verified"] == ""
    two.unlink(f"{HOT}/bad")
    assert two.store.index.unsound() == []


def test_a_move_does_not_copy_what_is_known_to_be_bad_and_goes_on_when_it_is_good_again(two: Opened) -> None:
    good = (two.disks["hot"] / "bad").read_bytes()
    rot(two, "hot", "bad")
    scrub(two)
    two.rename(f"{HOT}/bad", f"{COLD}/bad")
    two.step(30)
    (move,) = two.store.index.moves(open_only=True)
    assert (move.state, move.reason) == (MoveState.WAITING, MISMATCH)
    assert os.listdir(two.disks["cold"] / ".fusestore" / "incoming") == []
    (two.disks["hot"] / "bad").write_bytes(good)
    scrub(two)
    two.rest()
    two.assert_at_home()


def test_what_a_move_finds_bad_is_marked_too(two: Opened) -> None:
    rot(two, "hot", "bad")
    two.rename(f"{HOT}/bad", f"{COLD}/bad")
    two.step(50)
    assert [event.kind for event in told(two)] == ["damaged"]
    assert len(soundness.all_unsound(two.store)) == 1


def test_verify_takes_down_what_it_finds(two: Opened) -> None:
    rot(two, "hot", "bad")
    result = finish(verifying.verify(two.store, two.find(HOT), None, lambda *_: None))
    assert (result["ok"], len(result["bad"])) == (1, 1)
    assert [event.kind for event in told(two)] == ["damaged"]
    assert describing.record(two.store, two.stat(f"{HOT}/good"))["verified"] == "sound"
    assert describing.record(two.store, two.stat(f"{HOT}/bad"))["verified"] == "damaged"


def test_a_file_that_its_disk_cannot_read_is_told_and_one_that_is_away_is_passed_over(
    two: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(verifying, "read_in", fails)
    assert scrub(two, "hot").status()["bad"] == 2
    assert {each.outcome for _, each in soundness.all_unsound(two.store)} == {Outcome.UNREADABLE}
    (hot,) = (root for root in two.store.roots.values() if root.name == "hot")
    hot.online = False
    assert scrub(two, "hot").status()["skipped"] == 2
    hot.online = True


def test_one_root_alone_and_what_was_read_not_long_ago(two: Opened) -> None:
    assert scrub(two, "uploads").status()["checked"] == 1
    two.store.config = replace(two.store.config, scrub=replace(two.store.config.scrub, every_days=7))
    assert scrub(two, again=False).status()["checked"] == 2
    assert scrub(two, again=False).status()["checked"] == 0
    assert scrub(two, again=True).status()["checked"] == 3


def test_a_look_does_not_make_a_new_version_of_what_is_known_to_be_bad_but_a_later_time_does(shared: Opened) -> None:
    """The ctime of a file has moved, and nothing else: before it is known to be bad that would be somebody's edit."""
    shared.write(f"{HOT}/bad", b"x" * 100)
    shared.settle()
    rot(shared, "hot", "bad")
    scrub(shared)
    shared.stat(f"{HOT}/bad")
    shared.settle()
    inode = shared.stat(f"{HOT}/bad")
    assert (inode.version, [each.number for each, _ in soundness.all_unsound(shared.store)]) == (1, [inode.number])
    (shared.disks["hot"] / "bad").touch()
    shared.stat(f"{HOT}/bad")
    shared.settle()
    assert shared.stat(f"{HOT}/bad").version == 2
    assert soundness.all_unsound(shared.store) == []


def test_what_somebody_writes_is_passed_over(two: Opened) -> None:
    fh = two.open_file(f"{HOT}/good", write=True)
    status = scrub(two).status()
    assert (status["checked"], status["skipped"]) == (2, 1)
    two.release(fh)


def test_a_pass_goes_on_behind_the_last_file_after_a_crash(two: Opened) -> None:
    scrubber = Scrubber(two.store)
    scrubber.start("", 0, again=True)
    job = Job(scrubber.go_on())
    while scrubber.status()["checked"] < 2:
        job.step()
    job.drop()
    two.crash()
    two.open()
    again = Scrubber(two.store)
    assert (again.is_running, again.status()["checked"]) == (True, 2)
    finish(again.go_on())
    assert again.status()["checked"] == 3


def test_a_pass_that_is_stopped_does_not_go_on(two: Opened) -> None:
    scrubber = Scrubber(two.store)
    scrubber.start("", 0, again=True)
    job = Job(scrubber.go_on())
    while not scrubber.status()["checked"]:
        job.step()
    scrubber.stop()
    job.drop()
    assert not Scrubber(two.store).is_running


def test_it_begins_by_itself_when_its_days_are_over(running: Opened) -> None:
    store = running.store
    scrubber = Scrubber(store)
    seen: list[dict[str, Any]] = []

    async def look() -> None:
        await trio.sleep(2 * LOOK_S)
        seen.append(scrubber.status())

    run(look, scrubber.run)
    store.config = replace(store.config, scrub=replace(store.config.scrub, every_days=1))
    run(look, scrubber.run)
    assert [status["begun_ns"] > 0 for status in seen] == [False, True]
    begun = scrubber.status()["begun_ns"]
    run(look, scrubber.run)
    assert scrubber.status()["begun_ns"] == begun  # not again before the day is over


def test_it_reads_no_faster_than_its_rate_and_waits_while_all_threads_are_busy() -> None:
    read = Manners(rate=1 << 20)
    began = time.monotonic()
    for _ in range(4):
        read(64 << 10)
    assert time.monotonic() - began >= 4 / 16

    class Others:
        asked = 0

        @property
        def available_tokens(self) -> int:
            self.asked += 1
            return int(self.asked > 2)

    eager = Manners(rate=0)
    eager.others = Others()  # type: ignore[assignment]
    began = time.monotonic()
    eager(1)
    assert time.monotonic() - began >= 2 * BUSY_S
    eager.stopped = True
    with pytest.raises(Halted):
        eager(1)


def test_a_damaged_file_is_read_from_its_replica_and_repaired_by_a_pass(two: Opened) -> None:
    content = f"{HOT}/bad".encode() * 100
    two.replicate(f"{HOT}/bad", "cold")
    two.rest()
    rotten = rot(two, "hot", "bad")
    finish(verifying.verify(two.store, two.find(HOT), None, lambda *_: None))
    assert two.read(f"{HOT}/bad") == content
    assert two.on_disk("hot")["bad"] == rotten
    scrub(two, again=False)  # what is known to be bad is read again however short the time
    two.rest()
    assert two.on_disk("hot")["bad"] == content
    assert [event.kind for event in told(two)] == ["damaged", "mended"]
    assert sorted(two.on_disk("cold").values()) == [content]
    two.assert_at_home()


def test_a_damaged_file_stays_as_it_is_where_its_replica_is_no_better(two: Opened) -> None:
    two.replicate(f"{HOT}/bad", "cold")
    two.rest()
    rotten = rot(two, "hot", "bad")
    (copy,) = (path for path in two.disks["cold"].rglob("*") if path.is_file() and path.stat().st_size == len(rotten))
    copy.write_bytes(bytes(len(rotten)))
    scrub(two)
    assert two.on_disk("hot")["bad"] == rotten
    assert [event.kind for event in told(two)] == ["damaged"]
    assert two.store.index.replicas(two.find(f"{HOT}/bad"))[0][1].state is ReplicaState.BAD
