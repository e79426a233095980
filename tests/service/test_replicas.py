"""Further copies of files: made and verified in the background, stale when written over, gone with the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusestore.core.ports import Space
from fusestore.errors import IndexFull, InvalidRequest, NotFound
from fusestore.jobs import staging
from fusestore.service import copies, replicating
from tests.support.byhand import Job, finish

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"


def there(opened: Opened, root: str) -> list[bytes]:
    """The content of what lies in a root's id area."""
    return [
        what for path, what in opened.on_disk(root).items() if isinstance(what, bytes) and path.startswith(".fusestore")
    ]


def kinds(opened: Opened, path: str) -> list[str]:
    number = opened.find(path)
    return [event.kind for event in opened.store.index.events(0, 1000) if event.inode == number]


def test_a_replica_is_a_verified_second_copy_on_another_root(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"only copy")
    opened.settle()
    assert opened.replicate(f"{HOT}/a", "cold") == 1
    assert opened.replicas(f"{HOT}/a") == {"cold": "wanted"}
    opened.rest()
    assert opened.replicas(f"{HOT}/a") == {"cold": "current"}
    assert there(opened, "cold") == [b"only copy"]
    assert kinds(opened, f"{HOT}/a")[-1] == "replicated"
    commands = [entry.command for entry in opened.store.index.journal(opened.stat(f"{HOT}/a").id)]
    assert commands == ["write", "replicate", "replicate"]
    assert opened.replicate(f"{HOT}/a", "cold") == 0
    opened.assert_at_home()


def test_every_file_below_a_directory_gets_one_and_the_wish_outlives_the_daemon(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.mkdir(f"{HOT}/d/e")
    for name in ("d/a", "d/b", "d/e/c"):
        opened.write(f"{HOT}/{name}", name.encode())
    opened.symlink(f"{HOT}/d/s", "a")
    opened.settle()
    opened.replicate(f"{HOT}/d", "cold")
    opened.crash()
    opened.open()
    opened.rest()
    assert sorted(there(opened, "cold")) == [b"d/a", b"d/b", b"d/e/c"]
    assert opened.store.index.due_roots() == []
    opened.assert_at_home()


def test_files_that_lie_in_uploads_may_have_one_and_uploads_hold_none(opened: Opened) -> None:
    opened.write("uploads/a", b"up")
    opened.settle()
    opened.replicate("uploads/a", "cold")
    opened.rest()
    assert there(opened, "cold") == [b"up"]
    with pytest.raises(InvalidRequest, match="resource roots"):
        opened.replicate(f"{HOT}", "uploads")
    with pytest.raises(NotFound, match="nowhere"):
        opened.replicate("uploads/a", "nowhere")


def test_what_is_on_the_root_beside_another_copy_needs_none(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"here")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    assert opened.replicate(f"{HOT}/a", "hot") == 0
    opened.rest()
    opened.rename(f"{HOT}/a", f"{WARM}/a")
    assert opened.replicate(f"{WARM}/a", "warm") == 0
    opened.rest()


def test_where_the_only_copy_is_or_goes_no_second_one_is_promised(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"here")
    opened.settle()

    def refusal(path: str, root: str) -> str:
        with pytest.raises(InvalidRequest) as caught:
            opened.replicate(path, root)
        assert opened.replicas(path) == {}
        return str(caught.value)

    assert "its only copy is on hot" in refusal(f"{HOT}/d/a", "hot")
    assert "belongs on hot" in refusal(f"{HOT}/d", "hot")
    opened.rename(f"{HOT}/d/a", f"{COLD}/a")
    assert "its only copy is on its way to cold" in refusal(f"{COLD}/a", "cold")
    assert "on its way from hot to cold" in refusal(f"{COLD}/a", "hot")
    opened.rest()
    opened.rename(f"{COLD}/a", f"{HOT}/d/a")
    opened.rest()
    opened.drain("hot", "cold")
    opened.rest()
    assert "its only copy is on cold" in refusal(f"{HOT}/d/a", "cold")
    opened.stop_draining("hot")
    assert "renaming it brings it to hot" in refusal(f"{HOT}/d/a", "hot")
    opened.rename(f"{HOT}/d/a", f"{HOT}/d/b")
    opened.rest()
    assert opened.root_of(f"{HOT}/d/b") == "hot"
    opened.assert_at_home()


def test_writing_makes_a_replica_stale_at_once_and_it_is_refreshed_when_the_content_has_settled(
    opened: Opened,
) -> None:
    opened.write(f"{HOT}/a", b"old")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    opened.rest()
    fh = opened.open_file(f"{HOT}/a", write=True)
    opened.write_at(fh, b"new!")
    assert opened.replicas(f"{HOT}/a") == {"cold": "stale"}
    opened.make_replicas()
    assert there(opened, "cold") == [b"old"]  # nobody copies under a writer's hands
    opened.release(fh)
    opened.rest()
    assert opened.replicas(f"{HOT}/a") == {"cold": "current"}
    assert there(opened, "cold") == [b"new!"]
    opened.assert_at_home()


def test_a_change_from_outside_makes_a_replica_stale_too(shared: Opened) -> None:
    shared.write(f"{HOT}/a", b"ours")
    shared.settle()
    shared.replicate(f"{HOT}/a", "cold")
    shared.rest()
    (shared.disks["hot"] / "a").write_bytes(b"theirs now")
    shared.stat(f"{HOT}/a")
    assert shared.replicas(f"{HOT}/a") == {"cold": "stale"}
    shared.rest()
    assert there(shared, "cold") == [b"theirs now"]


def test_a_file_written_while_it_is_copied_is_copied_again(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"before")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    root = opened.store.index.due_roots()[0]
    for steps in range(1, 12):
        job = Job(opened.replicator.make_all(root))
        for _ in range(steps):
            if not job.is_over:
                job.step()
        opened.write(f"{HOT}/a", b"after %d" % steps)
        job.finish()
        assert there(opened, "cold") != [b"after %d" % steps]
        opened.rest()
        assert there(opened, "cold") == [b"after %d" % steps]
    opened.assert_at_home()


def test_the_replicas_go_with_the_last_name(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.link(f"{HOT}/a", f"{HOT}/b")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    opened.replicate(f"{HOT}/a", "warm")
    opened.rest()
    opened.unlink(f"{HOT}/a")
    opened.rest()
    assert there(opened, "cold") == there(opened, "warm") == [b"x"]
    opened.write(f"{HOT}/c", b"y")
    opened.rename(f"{HOT}/c", f"{HOT}/b")
    opened.rest()
    assert there(opened, "cold") == there(opened, "warm") == []
    opened.assert_at_home()


def test_a_source_that_does_not_match_its_recorded_hash_is_not_copied(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"right")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    with open(opened.disks["hot"] / "a", "r+b") as file:
        file.write(b"wrong")
    opened.rest()
    assert opened.replicas(f"{HOT}/a") == {"cold": "wanted"}
    assert there(opened, "cold") == []
    assert "recorded hash" in next(iter(opened.store.troubles.values()))
    assert kinds(opened, f"{HOT}/a")[-1] == "replica-held"
    opened.rest()
    assert kinds(opened, f"{HOT}/a").count("replica-held") == 1


def test_a_copy_that_does_not_read_back_as_it_was_written_never_counts(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.write(f"{HOT}/a", b"right")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    cold = next(root for root in opened.store.roots.values() if root.name == "cold")
    sync, spoil = cold.sync, [True]

    def spoiling() -> None:
        sync()
        for path in (opened.disks["cold"] / ".fusestore/incoming").iterdir():
            if spoil.pop():
                path.write_bytes(b"wrong")

    monkeypatch.setattr(cold, "sync", spoiling)
    finish(opened.replicator.make_all(cold.number))
    assert opened.replicas(f"{HOT}/a") == {"cold": "wanted"}
    assert there(opened, "cold") == []
    monkeypatch.undo()
    opened.rest()
    assert opened.replicas(f"{HOT}/a") == {"cold": "current"}


def test_a_move_to_another_disk_with_a_good_replica_copies_nothing(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.write(f"{HOT}/a", b"moving")
    opened.link(f"{HOT}/a", f"{HOT}/b")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    opened.rest()
    opened.set(f"{HOT}/a", mode=0o600)
    fh = opened.open_file(f"{HOT}/a")
    opened.rename(f"{HOT}/b", f"{COLD}/b")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    monkeypatch.setattr(staging, "stage", None)
    opened.rest()
    assert opened.on_disk("cold") == {"a": b"moving", "b": b"moving"}
    assert opened.on_disk("hot") == {}
    assert opened.read_at(fh) == b"moving"
    opened.release(fh)
    assert (opened.disks["cold"] / "a").stat().st_mode & 0o777 == 0o600
    assert "arrived" in kinds(opened, f"{COLD}/a")
    opened.assert_at_home()


@pytest.mark.parametrize("trouble", ["rotten", "stale", "written"])
def test_a_move_to_a_root_whose_replica_is_not_good_copies(shared: Opened, trouble: str) -> None:
    shared.write(f"{HOT}/a", b"moving")
    shared.settle()
    shared.replicate(f"{HOT}/a", "cold")
    shared.rest()
    if trouble == "rotten":
        shared.path_aside(
            shared.store.index.replicas(shared.find(f"{HOT}/a"))[0][0], shared.find(f"{HOT}/a")
        ).write_bytes(b"m0ving")
    elif trouble == "stale":
        shared.write(f"{HOT}/a", b"wr1tten")
    shared.rename(f"{HOT}/a", f"{COLD}/a")
    if trouble == "written":
        (shared.disks["hot"] / "a").write_bytes(b"theirs")
    shared.rest()
    content = {"rotten": b"moving", "stale": b"wr1tten", "written": b"theirs"}[trouble]
    assert shared.on_disk("cold") == {"a": content}
    shared.assert_at_home()


def test_a_move_to_a_root_with_a_replica_leaves_one_copy_there(opened: Opened) -> None:
    for target in (WARM, COLD):
        root = Path(target).name
        opened.write(f"{HOT}/a", b"moving")
        opened.settle()
        opened.replicate(f"{HOT}/a", root)
        opened.rest()
        opened.rename(f"{HOT}/a", f"{target}/a")
        opened.rest()
        assert opened.replicas(f"{target}/a") == {}
        assert opened.on_disk(root) == {"a": b"moving"}
        opened.assert_at_home()
        opened.rename(f"{target}/a", f"{HOT}/a")
        opened.rest()


def test_a_directory_that_goes_to_a_root_with_replicas_of_its_files_leaves_one_copy_there(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"moving")
    opened.settle()
    opened.replicate(f"{HOT}/d", "warm")
    opened.replicate(f"{HOT}/d", "cold")
    opened.rest()
    opened.rename(f"{HOT}/d", f"{WARM}/d")
    opened.rest()
    assert opened.replicas(f"{WARM}/d/a") == {"cold": "current"}
    assert there(opened, "warm") == []
    opened.assert_at_home()


def test_a_directory_moved_outside_to_a_root_with_replicas_leaves_one_copy_there(shared: Opened) -> None:
    shared.mkdir(f"{HOT}/d")
    shared.write(f"{HOT}/d/a", b"moving")
    shared.settle()
    shared.replicate(f"{HOT}/d", "warm")
    shared.rest()
    (shared.disks["hot"] / "d").rename(shared.disks["warm"] / "d")
    assert shared.read(f"{WARM}/d/a") == b"moving"
    assert shared.replicas(f"{WARM}/d/a") == {}
    shared.rest()
    assert there(shared, "warm") == []


def test_a_root_that_is_absent_from_the_start_is_told_and_served_when_it_is_back(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"here")
    opened.write(f"{HOT}/b", b"there")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    opened.rest()
    opened.close()
    away = opened.disks["cold"].with_name("away")
    opened.disks["cold"].rename(away)
    opened.open(degraded=True)
    opened.replicate(f"{HOT}/b", "cold")
    opened.rest()
    (place, replica) = copies.locations(opened.store, opened.stat(f"{HOT}/a"))
    assert (place["root"], place["present"]) == ("hot", True)
    assert (replica["root"], replica["state"], replica["present"]) == ("cold", "current", False)
    opened.unlink(f"{HOT}/a")
    opened.close()
    away.rename(opened.disks["cold"])
    opened.open()
    opened.rest()
    assert there(opened, "cold") == [b"there"]
    opened.assert_at_home()


def test_a_directory_that_cannot_be_listed_stays_due_and_holds_up_nothing_else(
    shared: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.mkdir(f"{HOT}/d")
    shared.write(f"{HOT}/d/a", b"a")
    shared.write(f"{HOT}/z", b"z")
    shared.settle()
    shared.replicate(f"{HOT}/d", "cold")
    shared.replicate(f"{HOT}/z", "cold")
    hot = next(root for root in shared.store.roots.values() if root.name == "hot")

    def refusing(directory: int) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hot, "stat_dir", refusing)
    shared.make_replicas()
    assert there(shared, "cold") == [b"z"]
    monkeypatch.undo()
    shared.rest()
    assert sorted(there(shared, "cold")) == [b"a", b"z"]


def test_an_index_without_room_puts_replicas_off(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"a")
    opened.settle()
    opened.replicate(f"{HOT}/d", "cold")

    def full() -> None:
        raise IndexFull

    monkeypatch.setattr(opened.store.index, "_find_room", full)
    opened.make_replicas()
    assert there(opened, "cold") == []
    monkeypatch.undo()
    opened.rest()
    assert there(opened, "cold") == [b"a"]


def test_a_replica_that_finds_no_room_is_told_once_and_made_when_there_is(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.write(f"{HOT}/a", bytes(10_000))
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    cold = next(root for root in opened.store.roots.values() if root.name == "cold")
    monkeypatch.setattr(cold, "space", lambda: Space(1, 1, 9_999, 1, 1))
    opened.rest()
    opened.rest()
    assert kinds(opened, f"{HOT}/a").count("replica-held") == 1
    (_, replica) = copies.locations(opened.store, opened.stat(f"{HOT}/a"))
    assert (replica["state"], replica["reason"]) == ("wanted", "no room")
    monkeypatch.undo()
    opened.rest()
    assert opened.replicas(f"{HOT}/a") == {"cold": "current"}


def test_the_files_that_are_to_be_copied_are_counted_each_once(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    for name in "abc":
        opened.write(f"{HOT}/d/{name}", name.encode())
    opened.link(f"{HOT}/d/a", f"{HOT}/d/link")
    opened.symlink(f"{HOT}/d/s", "a")
    opened.settle()

    def lacking(path: str, root: str) -> int:
        return finish(copies.lacking(opened.store, opened.find(path), replicating.named(opened.store, root).number))

    assert (lacking(f"{HOT}/d", "cold"), lacking(f"{HOT}/d/a", "cold"), lacking(f"{HOT}/d", "hot")) == (3, 1, 0)
    opened.replicate(f"{HOT}/d/a", "cold")
    assert lacking(f"{HOT}/d", "cold") == 3
    opened.rest()
    assert (lacking(f"{HOT}/d", "cold"), lacking(f"{HOT}/d/a", "cold")) == (2, 0)
