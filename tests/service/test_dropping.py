"""Copies are given up one by one, and the last good one only by force."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from fusestore.errors import InUse, LastCopy, NotFound
from fusestore.jobs.scrubber import Scrubber
from fusestore.model import Outside
from fusestore.service import copies, dropping, replicating
from fusestore.service.queries import Queries
from tests.support.byhand import Job, by_hand, finish
from tests.support.calls import ME
from tests.support.opened import Opened, two_devices

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"


@pytest.fixture
def copied(opened: Opened) -> Opened:
    """hot/a with a replica on cold."""
    opened.write(f"{HOT}/a", b"precious")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    opened.rest()
    return opened


def replica(opened: Opened, path: str, root: str) -> Path:
    return opened.path_aside(replicating.named(opened.store, root).number, opened.find(path))


def commands(opened: Opened, id: bytes) -> list[tuple[str, str]]:
    return [(entry.command, entry.outcome) for entry in opened.store.index.journal(id)]


def test_a_replica_is_dropped_and_its_bytes_with_it(copied: Opened) -> None:
    assert copied.drop(f"{HOT}/a", "cold").dropped == 1
    assert copied.replicas(f"{HOT}/a") == {}
    assert copied.on_disk("cold") == {}
    copied.assert_at_home()


def test_the_place_is_dropped_and_a_replica_takes_over(copied: Opened) -> None:
    copied.set(f"{HOT}/a", mode=0o600)
    fh = copied.open_file(f"{HOT}/a")
    assert copied.drop(f"{HOT}/a", "hot") == (1, 0, {})
    assert copied.on_disk("hot") == {}
    assert copied.read_at(fh) == b"precious"
    copied.release(fh)
    assert copied.root_of(f"{HOT}/a") == "cold"
    assert copied.stat(f"{HOT}/a").mode & 0o777 == 0o600
    assert copied.read(f"{HOT}/a") == b"precious"
    copied.crash()
    copied.open()
    copied.write(f"{HOT}/a", b"and written")
    copied.rest()
    assert list(copied.on_disk("cold").values()) == [b"and written"]


def test_attributes_set_since_the_replica_was_made_come_along(copied: Opened) -> None:
    old, new = copied.disks["hot"] / "a", replica(copied, f"{HOT}/a", "cold")
    os.setxattr(new, b"user.removed", b"1")
    os.setxattr(old, b"user.added", b"2")
    copied.set(f"{HOT}/a", mtime_ns=12_345_000_000, atime_ns=1)
    copied.drop(f"{HOT}/a", "hot")
    assert sorted(os.listxattr(new)) == ["user.added", "user.fusestore"]
    assert copied.stat(f"{HOT}/a").mtime_ns == new.stat().st_mtime_ns == 12_345_000_000


def test_the_last_good_copy_is_not_dropped(copied: Opened) -> None:
    copied.drop(f"{HOT}/a", "cold")
    with pytest.raises(LastCopy, match="last good copy"):
        copied.drop(f"{HOT}/a", "hot")
    with pytest.raises(NotFound, match="cold"):
        copied.drop(f"{HOT}/a", "cold")
    assert copied.read(f"{HOT}/a") == b"precious"


@pytest.mark.parametrize("trouble", ["stale", "wanted", "rotten", "missing"])
def test_a_copy_that_is_not_verified_does_not_count(copied: Opened, trouble: str) -> None:
    path = f"{HOT}/a"
    if trouble == "stale":
        copied.write(path, b"new")
        copied.settle()
    elif trouble == "wanted":
        copied.drop(path, "cold")
        copied.replicate(path, "cold")
    elif trouble == "rotten":
        replica(copied, path, "cold").write_bytes(b"preciouz")
    else:
        replica(copied, path, "cold").unlink()
    with pytest.raises(LastCopy):
        copied.drop(path, "hot")
    assert copied.replicas(path) == {"cold": trouble if trouble in ("stale", "wanted") else "bad"}
    before = copied.read(path)
    copied.rest()
    assert copied.replicas(path) == {"cold": "current"}
    copied.drop(path, "hot")
    assert copied.read(path) == before


def test_the_replica_of_a_file_that_is_rotten_itself_is_the_last_good_copy(copied: Opened) -> None:
    (copied.disks["hot"] / "a").write_bytes(b"preciouz")
    with pytest.raises(LastCopy):
        copied.drop(f"{HOT}/a", "cold")
    copied.drop(f"{HOT}/a", "hot")
    assert copied.read(f"{HOT}/a") == b"precious"


def test_the_only_copy_goes_by_force_and_history_says_so(copied: Opened) -> None:
    copied.link(f"{HOT}/a", f"{HOT}/b")
    copied.drop(f"{HOT}/a", "cold")
    id = copied.stat(f"{HOT}/a").id
    assert copied.drop(f"{HOT}/a", "hot", force_last=True).removed == 1
    assert not copied.exists(f"{HOT}/a")
    assert not copied.exists(f"{HOT}/b")
    assert commands(copied, id)[-3:] == [
        ("drop", "forced: it was the last good copy"),
        ("remove", "done"),
        ("remove", "done"),
    ]
    copied.assert_at_home()


def test_nothing_is_dropped_under_a_writers_hands(copied: Opened) -> None:
    fh = copied.open_file(f"{HOT}/a", write=True)
    with pytest.raises(InUse):
        copied.drop(f"{HOT}/a", "hot")
    copied.release(fh)


def test_below_a_directory_each_file_stands_for_itself(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    for name in "abc":
        opened.write(f"{HOT}/d/{name}", name.encode())
    opened.settle()
    opened.replicate(f"{HOT}/d/a", "cold")
    opened.replicate(f"{HOT}/d/b", "cold")
    opened.rest()
    dropped = opened.drop(f"{HOT}/d", "hot")
    assert (dropped.dropped, dropped.removed, list(dropped.refused)) == (2, 0, [b"resources/hot/d/c"])
    assert [opened.root_of(f"{HOT}/d/{name}") for name in "abc"] == ["cold", "cold", "hot"]
    assert [opened.read(f"{HOT}/d/{name}") for name in "abc"] == [b"a", b"b", b"c"]


def test_the_answer_counts_and_calls_a_hard_link_as_the_caller_does(copied: Opened) -> None:
    copied.mkdir(f"{HOT}/d")
    copied.link(f"{HOT}/a", f"{HOT}/d/b")

    def ask(what: str, root: str, *, force_last: bool = False) -> dict[str, Any]:
        queries = Queries(
            copied.store, Path("/mnt"), copied.mover.running, trio.lowlevel.checkpoint, Scrubber(copied.store), print
        )
        return finish(queries.drop(what, root, force_last=force_last, owner=ME, report=lambda *figures: None))

    done = ask(f"{HOT}/a", "cold")
    assert [(type(done[each]), done[each]) for each in ("dropped", "removed")] == [(int, 1), (int, 0)]
    for name in ("a", "d/b"):
        with pytest.raises(LastCopy, match=rf"replicate.*--force-last.*{HOT}/{name}'$"):
            ask(f"{HOT}/{name}", "hot")
    (refused,) = ask(f"{HOT}/d", "hot")["refused"]
    assert refused["path"] == f"{HOT}/d/b"
    assert f"{HOT}/d/b" in refused["reason"]
    done = ask(f"{HOT}/a", "hot", force_last=True)
    assert [(type(done[each]), done[each]) for each in ("dropped", "removed")] == [(int, 0), (int, 1)]


def test_a_replica_of_a_file_whose_root_is_away_is_the_last_good_copy(copied: Opened) -> None:
    hot = next(root for root in copied.store.roots.values() if root.name == "hot")
    hot.online = False
    with pytest.raises(LastCopy):
        copied.drop(f"{HOT}/a", "cold")
    copied.drop(f"{HOT}/a", "hot")  # that disk is given up, and the replica is the file now
    assert copied.read(f"{HOT}/a") == b"precious"
    assert (copied.disks["hot"] / "a").exists()  # it goes when the disk is back
    hot.online = True
    copied.crash()
    copied.open()
    assert copied.on_disk("hot") == {}
    assert copied.read(f"{HOT}/a") == b"precious"


def test_each_copy_is_read_again_when_that_is_asked_for(copied: Opened) -> None:
    number = copied.find(f"{HOT}/a")

    def found() -> list[tuple[str, str, str, str]]:
        answer = finish(copies.reread(copied.store, number, ME, lambda *figures: None))
        return [(each["root"], each["role"], each["state"], each["found"]) for each in answer]

    assert found() == [("hot", "home", "current", "ok"), ("cold", "replica", "current", "ok")]
    replica(copied, f"{HOT}/a", "cold").write_bytes(b"preciouz")
    assert found() == [("hot", "home", "current", "ok"), ("cold", "replica", "bad", "bad")]
    (copied.disks["hot"] / "a").write_bytes(b"preciouz")
    assert found() == [("hot", "home", "bad", "bad"), ("cold", "replica", "bad", "unknown")]


def test_two_drops_at_once_do_not_rely_on_each_other(copied: Opened) -> None:
    copied.replicate(f"{HOT}/a", "warm")
    copied.rest()
    (copied.disks["hot"] / "a").write_bytes(b"preciouz")
    number = copied.find(f"{HOT}/a")
    jobs = [
        Job(dropping.drop_file(copied.store, number, replicating.named(copied.store, root), force_last=False, owner=ME))
        for root in ("warm", "cold")
    ]
    refused = 0
    while jobs:
        for job in list(jobs):
            try:
                job.step()
            except LastCopy:
                refused += 1
            if job.is_over:
                jobs.remove(job)
    assert refused == 1
    (state,) = copied.replicas(f"{HOT}/a").values()
    assert state == "current"


def test_what_somebody_outside_may_have_written_is_not_dropped_for_an_older_copy() -> None:
    with by_hand(), two_devices() as disks:
        opened = Opened(*disks, outside=Outside.WRITERS)
        opened.write(f"{HOT}/a", b"precious")
        opened.settle()
        opened.replicate(f"{HOT}/a", "cold")
        opened.rest()
        file = opened.disks["hot"] / "a"
        times = file.stat()
        file.write_bytes(b"preciouz")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(InUse):
            opened.drop(f"{HOT}/a", "hot")
        assert file.read_bytes() == b"preciouz"
        opened.rest()
        assert opened.read(f"{HOT}/a") == b"preciouz"
        opened.close()
        opened.remove()
