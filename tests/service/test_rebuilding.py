"""What a rebuild finds, and what it refuses; on a store without a kernel."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from fusestore.errors import NewerFormat, RootUnavailable, StoreError
from fusestore.index.check import check
from fusestore.index.store import Index
from fusestore.model import ReplicaState, State
from fusestore.service import dropping, replicating
from fusestore.service.rebuild.rebuilding import rebuild
from tests.support.byhand import Job
from tests.support.calls import ME
from tests.support.manifests import note_down

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusestore.model import Inode
    from fusestore.service.rebuild.tally import Report
    from tests.support.opened import Opened

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"


@pytest.fixture
def lost(opened: Opened) -> Iterator[Opened]:
    """Open again at the end, whatever the test did to its index."""
    yield opened
    if not opened.store.roots[opened.store.tops[opened.find("uploads")]].online:
        opened.open()


def plant(opened: Opened) -> dict[str, Inode]:
    """A few objects, settled; returns them by path."""
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/file", b"hot")
    opened.symlink(f"{HOT}/d/symlink", "nowhere")
    opened.link(f"{HOT}/d/file", f"{HOT}/link")
    opened.write(f"{COLD}/file", b"cold")
    opened.mkdir("uploads/d")
    opened.write("uploads/d/file", b"uploaded")
    opened.symlink("uploads/d/symlink", "anywhere")
    opened.settle()
    return known(opened)


def known(opened: Opened) -> dict[str, Inode]:
    return {path: opened.stat(path) for path, _ in opened.walk()}


def identities(inodes: dict[str, Inode]) -> dict[str, tuple[bytes, int, int, bytes]]:
    return {path: (each.id, each.number, each.version, each.current_hash) for path, each in inodes.items()}


def end(opened: Opened, *, noted: bool = True) -> None:
    """The daemon ends, and the index is lost."""
    if noted:
        note_down(opened.store)
    opened.close()
    shutil.rmtree(opened.path / "index")


def again(opened: Opened, *, trust_copies: bool = False) -> Report:
    report = rebuild(opened.config, trust_copies=trust_copies)
    opened.open()
    opened.check()
    return report


def total(report: Report, what: str) -> int:
    return sum(getattr(root, what) for root in report.roots)


def copy_disk(disk: Path) -> None:
    """What a restore does: the same bytes, attributes and labels in other objects."""
    aside = disk.with_name("original")
    disk.rename(aside)
    shutil.copytree(aside, disk, symlinks=True, copy_function=_copy)
    for directory, _, _ in os.walk(aside):
        place = os.path.relpath(directory, aside)
        _copy_label(directory, disk / place)
    shutil.rmtree(aside)


def _copy(source: str, target: str) -> None:
    shutil.copy2(source, target, follow_symlinks=False)
    if not os.path.islink(source):
        _copy_label(source, target)


def _copy_label(source: str | Path, target: str | Path) -> None:
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))


def test_without_manifests_labels_alone_bring_ids_and_numbers_back(opened: Opened) -> None:
    before = identities(plant(opened))
    end(opened, noted=False)
    report = again(opened)
    after = identities(known(opened))
    labelled = [f"{HOT}/d", f"{HOT}/d/file", f"{HOT}/link", f"{COLD}/file"]
    assert {path: after[path][:2] for path in labelled} == {path: before[path][:2] for path in labelled}
    assert after[f"{HOT}/d/symlink"][0] != before[f"{HOT}/d/symlink"][0]
    upload = before["uploads/d/file"]
    assert after[f"uploads/{upload[0].hex()}"][:2] == upload[:2]
    assert opened.read(f"uploads/{upload[0].hex()}") == b"uploaded"
    assert (total(report, "new"), total(report, "recovered")) == (1, 1)
    opened.rest()


def test_what_was_made_after_the_last_word_of_the_manifest_is_known_by_its_label(opened: Opened) -> None:
    plant(opened)
    note_down(opened.store)
    opened.write(f"{HOT}/late", b"late")
    opened.write("uploads/late", b"late too")
    late = known(opened)[f"{HOT}/late"], known(opened)["uploads/late"]
    end(opened, noted=False)
    again(opened)
    names = [f"{HOT}/late", f"uploads/{late[1].id.hex()}"]
    assert [(opened.stat(name).id, opened.stat(name).number) for name in names] == [(n.id, n.number) for n in late]
    assert opened.stat(names[1]).state is State.INTERRUPTED  # nobody knows whether its writer was done
    opened.settle()
    assert opened.stat(names[0]).current_hash


def test_no_number_is_given_out_twice(opened: Opened) -> None:
    plant(opened)
    move = opened.store.index.new_move()
    epoch, seq = opened.store.index.epoch, opened.store.index.last_seq
    last = opened.write(f"{HOT}/last", b"")
    opened.rename(f"{HOT}/last", f"{COLD}/last")
    end(opened)
    again(opened)
    index = opened.store.index
    assert (index.epoch > epoch, index.last_seq > seq, index.new_move() > move + 1) == (True, True, True)
    assert opened.write(f"{HOT}/next", b"") > last
    assert next(event.kind for event in index.events(0, 1)) == "epoch"


def test_a_copy_with_the_label_inside_is_somebody_new(opened: Opened) -> None:
    before = plant(opened)
    disk = opened.disks["hot"]
    end(opened)
    _copy(os.fspath(disk / "d" / "file"), os.fspath(disk / "copied"))
    report = again(opened)
    after = known(opened)
    assert identities(before).items() <= identities(after).items()
    assert after[f"{HOT}/copied"].id not in {inode.id for inode in before.values()}
    assert (total(report, "copies"), total(report, "new")) == (1, 1)


def test_a_restored_disk_is_believed_only_when_that_is_asked_for(opened: Opened) -> None:
    before = plant(opened)
    end(opened)
    copy_disk(opened.disks["hot"])
    report = rebuild(opened.config, dry_run=True)
    assert (total(report, "copies"), total(report, "by_copy")) == (3, 0)
    report = again(opened, trust_copies=True)
    after = known(opened)
    files = [f"{HOT}/d/file", f"{HOT}/link"]
    assert identities(after)[f"{HOT}/d"] == identities(before)[f"{HOT}/d"]
    believed = [path for path in files if identities(after)[path] == identities(before)[path]]
    assert len(believed) == 1  # a restore that parted two links: one of them is the object
    assert total(report, "by_copy") == 2
    end(opened)
    assert total(again(opened), "by_copy") == 0  # they have labels of their own now
    assert identities(known(opened))[f"{HOT}/d"] == identities(before)[f"{HOT}/d"]


def test_a_copy_is_never_believed_when_the_object_itself_is_there(opened: Opened) -> None:
    before = plant(opened)
    disk = opened.disks["hot"]
    end(opened)
    _copy(os.fspath(disk / "d" / "file"), os.fspath(disk / "copied"))
    report = again(opened, trust_copies=True)
    assert identities(before).items() <= identities(known(opened)).items()
    assert (total(report, "by_copy"), total(report, "copies")) == (0, 1)


def test_what_is_gone_is_missing_and_what_was_renamed_is_not(opened: Opened) -> None:
    before = plant(opened)
    opened.write(f"{HOT}/gone", b"gone")
    opened.write("uploads/gone", b"gone")
    opened.settle()
    disk = opened.disks["hot"]
    upload = opened.path_aside(opened.store.tops[opened.find("uploads")], opened.find("uploads/gone"))
    end(opened)
    (disk / "gone").unlink()
    upload.unlink()
    (disk / "d").rename(disk / "renamed")
    report = again(opened)
    told = {(root, path) for root, what, path in report.told if what == "missing"}
    assert told == {("hot", b"resources/hot/gone"), ("uploads", b"uploads/gone")}
    assert total(report, "missing") == 2
    after = identities(known(opened))
    for path, identity in identities(before).items():
        assert after[path.replace(f"{HOT}/d", f"{HOT}/renamed")] == identity
    assert f"{HOT}/gone" not in after


def bring(opened: Opened, path: str) -> None:
    """Let its move go on until a file has arrived, and its old bytes are not destroyed yet."""
    while not opened.store.condemned.concerns(opened.find(path)):
        opened.step()


def lost_on_the_way(opened: Opened, *left: str, root: str = "hot") -> Report:
    """The index is lost now, with old bytes on a root; these are gone then, and apart from them all is as before."""
    before = identities(known(opened)), opened.snapshot()
    note_down(opened.store)
    opened.crash()
    shutil.rmtree(opened.path / "index")
    assert all(os.path.lexists(opened.disks[root] / path) for path in left)
    report = again(opened)
    for _, what, path in report.told:  # the next mount would show it
        assert what == "further copy"
        (opened.disks[root] / os.fsdecode(path)).unlink()
    assert not any(os.path.lexists(opened.disks[root] / path) for path in left)
    assert (identities(known(opened)), opened.snapshot()) == before
    opened.rest()
    opened.assert_at_home()
    return report


@pytest.mark.parametrize("target", [COLD, "uploads"])
def test_what_a_move_has_left_is_not_taken_for_the_file(opened: Opened, target: str) -> None:
    source = "hot" if target == COLD else "cold"
    opened.write(f"resources/{source}/file", b"content")
    opened.link(f"resources/{source}/file", f"resources/{source}/linked")
    opened.settle()
    opened.rename(f"resources/{source}/linked", f"{target}/linked")
    opened.rename(f"resources/{source}/file", f"{target}/file")
    bring(opened, f"{target}/file")
    lost_on_the_way(opened, "file", "linked", root=source)


def test_what_a_move_has_left_is_told_apart_though_the_file_was_written_since(opened: Opened) -> None:
    opened.write(f"{HOT}/file", b"content")
    opened.rename(f"{HOT}/file", f"{COLD}/file")
    bring(opened, f"{COLD}/file")
    fh = opened.open_file(f"{COLD}/file", write=True)
    opened.write_at(fh, b"other content", 0)
    opened.release(fh)
    opened.settle()
    lost_on_the_way(opened, "file")
    assert opened.read(f"{COLD}/file") == b"other content"


def test_a_replica_that_no_manifest_knows_is_one_again(opened: Opened) -> None:
    opened.write(f"{HOT}/file", b"content")
    opened.settle()
    note_down(opened.store)
    opened.replicate(f"{HOT}/file", "cold")
    opened.rest()
    before = identities(known(opened)), opened.snapshot()
    end(opened, noted=False)
    report = again(opened)
    assert (report.told, total(report, "replicas")) == ([], 1)
    cold = replicating.named(opened.store, "cold").number
    number = opened.find(f"{HOT}/file")
    replica = opened.store.index.replica(number, cold)
    assert replica is not None
    assert replica.state is ReplicaState.STALE  # nobody knows of which content it was made
    opened.rest()
    replica = opened.store.index.replica(number, cold)
    assert replica is not None
    assert replica.state is ReplicaState.CURRENT
    assert (identities(known(opened)), opened.snapshot()) == before


def test_what_was_given_up_in_an_id_area_is_not_taken_for_the_file(opened: Opened) -> None:
    opened.write("uploads/file", b"content")
    opened.settle()
    opened.replicate("uploads/file", "cold")
    opened.rest()
    number, store = opened.find("uploads/file"), opened.store
    uploads, cold = (replicating.named(store, name) for name in ("uploads", "cold"))
    job = Job(dropping.drop(store, number, uploads, force_last=False, owner=ME, report=lambda count: None))
    while not store.condemned.concerns(number):
        job.step()
    job.drop()
    left = opened.path_aside(uploads.number, number)
    lost_on_the_way(opened, os.fspath(left.relative_to(opened.disks["uploads"])), root="uploads")
    assert {spot.root for spot in opened.store.placement.spots(number)} == {cold.number}


def test_what_a_move_has_left_in_a_tree_brings_no_removed_name_back(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    for name in ("file", "other"):
        opened.write(f"{HOT}/d/{name}", name.encode())
    opened.settle()
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    opened.rename(f"{COLD}/d/file", f"{COLD}/d/renamed")
    bring(opened, f"{COLD}/d/renamed")
    lost_on_the_way(opened, "d/file")


def test_a_symlink_that_a_move_has_left_is_not_taken_for_another(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.symlink(f"{HOT}/d/symlink", "nowhere")
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    bring(opened, f"{COLD}/d/symlink")
    lost_on_the_way(opened, "d/symlink")


def test_what_was_written_meanwhile_has_no_stale_hash(opened: Opened) -> None:
    before = plant(opened)
    disk = opened.disks["cold"]
    end(opened)
    (disk / "file").write_bytes(b"written by others")
    again(opened)
    after = opened.stat(f"{COLD}/file")
    assert after.id == before[f"{COLD}/file"].id
    assert after.version == before[f"{COLD}/file"].version + 1
    assert not after.current_hash
    opened.settle()
    assert opened.stat(f"{COLD}/file").current_hash


def test_a_dry_run_changes_nothing(opened: Opened) -> None:
    plant(opened)
    end(opened)
    copy_disk(opened.disks["cold"])
    before = {name: opened.on_disk(name) for name in opened.disks}
    label = os.getxattr(opened.disks["cold"] / "file", "user.fusestore")
    report = rebuild(opened.config, dry_run=True, trust_copies=True)
    assert total(report, "by_copy") == 1
    assert not (opened.path / "index").exists()
    assert not (opened.path / "index.new").exists()
    assert {name: opened.on_disk(name) for name in opened.disks} == before
    assert os.getxattr(opened.disks["cold"] / "file", "user.fusestore") == label
    again(opened)


def test_a_sound_index_is_replaced_only_when_that_is_asked_for_and_kept(opened: Opened) -> None:
    before = identities(plant(opened))
    note_down(opened.store)
    opened.close()
    with pytest.raises(StoreError, match="--replace"):
        rebuild(opened.config)
    report = rebuild(opened.config, replace=True)
    assert report.kept is not None
    assert report.kept.name.startswith("index.old-")
    old = Index.open(report.kept)
    assert list(check(old)) == []
    old.close(clean=old.was_clean)
    opened.open()
    assert identities(known(opened)) == before


def test_a_damaged_index_is_kept_and_replaced(opened: Opened) -> None:
    before = identities(plant(opened))
    note_down(opened.store)
    opened.close()
    data = opened.path / "index" / "data.mdb"
    data.write_bytes(os.urandom(data.stat().st_size))
    report = again(opened)
    assert report.kept is not None
    assert (report.kept / "data.mdb").exists()
    assert identities(known(opened)) == before


def test_an_index_of_a_newer_version_is_not_replaced(opened: Opened) -> None:
    plant(opened)
    opened.store.index._write({bytes([19]) + b"format": b"99"})
    opened.close()
    with pytest.raises(NewerFormat):
        rebuild(opened.config)
    index = opened.path / "index"
    shutil.rmtree(index)
    again(opened)


def test_a_store_in_use_is_refused_though_its_index_is_gone(opened: Opened) -> None:
    plant(opened)
    shutil.copytree(opened.path / "index", opened.path / "kept")
    shutil.rmtree(opened.path / "index")
    with pytest.raises(RootUnavailable, match="in use"):
        rebuild(opened.config, replace=True)
    (opened.path / "kept").rename(opened.path / "index")


def test_a_disk_that_is_not_there_is_not_taken_for_empty(opened: Opened) -> None:
    plant(opened)
    end(opened)
    disk = opened.disks["cold"]
    away = disk.with_name("away")
    disk.rename(away)
    with pytest.raises(RootUnavailable):
        rebuild(opened.config)
    disk.mkdir()
    with pytest.raises(RootUnavailable, match="mounted"):
        rebuild(opened.config)
    disk.rmdir()
    away.rename(disk)
    assert total(again(opened), "missing") == 0
