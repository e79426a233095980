"""Opening, committing, closing, and running out of room."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import lmdb
import pytest
from msgspec.structs import replace

from fusestore.errors import IndexFault, IndexFull, StoreError
from fusestore.index import schema
from fusestore.index.batch import Batch
from fusestore.index.check import check
from fusestore.index.migrate import migrate
from fusestore.index.numbers import BLOCK
from fusestore.index.redolog import RedoLog
from fusestore.index.schema import META, TAG
from fusestore.index.store import Index
from fusestore.model import MOUNT_ROOT, RESOURCES
from tests.support import indexes
from tests.support.indexes import create, furnish, remove

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fusestore.core.ports import Catalog
    from fusestore.index.tables import Tables

place, made = indexes.place, indexes.made  # the fixtures


# -- opening ----------------------------------------------------------------------------------------------------------


def test_what_was_applied_is_there_after_a_clean_close(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    file = create(index, b"a")
    index.close()
    index = Index.open(made, witnesses=place)
    assert index.was_clean
    assert index.inode(file.number) == file
    assert (index.epoch, index.last_seq) == (1, 1)
    assert index.new_inode() == file.number + 1
    assert list(place.iterdir()) != []
    index.close()
    assert list(place.iterdir()) == []


def test_an_index_that_is_in_use_names_its_process(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    with pytest.raises(StoreError, match=f"in use \\(pid {os.getpid()}\\)"):
        Index.open(made, witnesses=place)
    index.close()
    Index.open(made, witnesses=place).close()


def test_a_directory_without_an_index_is_refused_and_left_alone(tmp_path: Path, place: Path) -> None:
    with pytest.raises(StoreError, match="holds no index"):
        Index.open(tmp_path, witnesses=place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_there", [True, False])
def test_a_store_that_has_lost_its_index_is_told_to_rebuild_it(tmp_path: Path, place: Path, is_there: bool) -> None:
    (tmp_path / "fusestore.toml").touch()
    if is_there:
        (tmp_path / "index").mkdir()
    with pytest.raises(StoreError, match=f"holds no index; `fusestore rebuild {tmp_path}`"):
        Index.open(tmp_path / "index", witnesses=place)
    assert (tmp_path / "index").exists() is is_there


def test_an_index_is_not_made_twice(made: Path, place: Path) -> None:
    with pytest.raises(StoreError, match="already"):
        Index.open(made, create=True, witnesses=place)


@pytest.mark.parametrize("content", [b"", b"x" * 100_000])
def test_a_file_that_is_no_index_is_refused(made: Path, place: Path, content: bytes) -> None:
    (made / "data.mdb").write_bytes(content)
    with pytest.raises(StoreError, match="not the index"):
        Index.open(made, witnesses=place)


def test_somebody_elses_lmdb_environment_is_refused_and_left_alone(made: Path, place: Path) -> None:
    (made / "data.mdb").unlink()
    with lmdb.open(str(made), lib_version=0) as env, env.begin(write=True) as txn:
        txn.put(b"a", b"b")
    before = (made / "data.mdb").read_bytes()
    with pytest.raises(StoreError, match="not the index"):
        Index.open(made, witnesses=place)
    assert (made / "data.mdb").read_bytes() == before


def test_an_index_of_the_first_format_is_brought_up_with_what_it_holds(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    batch = Batch()
    batch.rows[TAG[META] + schema.FORMAT_ROW] = b"1"
    index.apply(batch)
    before = list(index.scan(schema.INODES))
    index.close()
    index = Index.open(made, witnesses=place)
    assert index.get(META, schema.FORMAT_ROW) == b"%d" % schema.FORMAT
    assert list(index.scan(schema.INODES)) == before
    assert list(check(index)) == []
    index.close()


def test_a_newer_format_is_refused_and_left_alone(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    batch = Batch()
    batch.rows[TAG[META] + schema.FORMAT_ROW] = b"%d" % (schema.FORMAT + 1)
    index.apply(batch)
    index.close()
    before = (made / "data.mdb").read_bytes()
    with pytest.raises(StoreError, match=f"format {schema.FORMAT + 1}"):
        Index.open(made, witnesses=place)
    assert (made / "data.mdb").read_bytes() == before


def test_the_log_of_another_index_is_not_replayed(made: Path, place: Path) -> None:
    (made / "redo.log").write_bytes(b"fsredo1\n" + b"x" * 16)
    with pytest.raises(StoreError, match="does not belong"):
        Index.open(made, witnesses=place)


def test_looking_at_an_index_leaves_it_as_unclean_as_it_was(made: Path, place: Path) -> None:
    Index.open(made, witnesses=place).close(clean=False)
    index = Index.open(made, witnesses=place)
    assert not index.was_clean
    index.close(clean=index.was_clean)
    index = Index.open(made, witnesses=place)
    assert not index.was_clean
    assert index.epoch == 1
    index.close()
    index = Index.open(made, witnesses=place)
    assert index.was_clean
    index.close()


def test_migration_steps_run_in_order_and_each_sees_what_the_last_one_wrote(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    seen: list[bytes | None] = []

    def step(name: bytes) -> dict[bytes, bytes | None]:
        seen.append(index.get(META, b"step"))
        return {TAG[META] + b"step": name}

    def second(tables: Tables) -> Mapping[bytes, bytes | None]:
        return step(b"second")

    def first(tables: Tables) -> Mapping[bytes, bytes | None]:
        return step(b"first")

    for rows in migrate(index, 1, {1: first, 2: second}, to=3):
        batch = Batch()
        batch.rows.update(rows)
        index.apply(batch)
    assert seen == [None, b"first"]
    assert index.get(META, schema.FORMAT_ROW) == b"3"
    index.close()


def test_an_index_of_the_format_before_opens_and_is_of_this_one_then(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    batch = Batch()
    batch.rows[TAG[META] + schema.FORMAT_ROW] = b"1"
    index.apply(batch)
    index.close()
    index = Index.open(made, witnesses=place)
    assert index.get(META, schema.FORMAT_ROW) == b"%d" % schema.FORMAT
    index.close()


def test_an_inode_knows_its_last_event_and_one_of_an_older_format_counts_as_changed(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    old, gone = create(index, b"old"), create(index, b"gone")
    assert (old.seq, gone.seq) == (1, 2)
    remove(index, b"gone")
    batch = Batch()
    batch.event(indexes.event(old, "told"))  # without its record
    index.apply(batch)
    found = index.inode(old.number)
    assert found is not None
    assert (found.seq, found) == (4, replace(old, seq=4))
    batch = Batch()
    batch.rows[TAG[META] + schema.FORMAT_ROW] = b"2"
    batch.put_inode(replace(found, seq=0))
    index.apply(batch)
    index.close()
    index = Index.open(made, witnesses=place)
    new = create(index, b"new")
    index.commit()
    found = index.inode(old.number)
    view = index.view()
    assert found is not None
    assert (view.last_event(found), view.last_event(new)) == (4, 5)
    assert list(view.ids()) == sorted(index.ids_from(b"", 100))
    assert list(check(index)) == []
    view.close()
    index.close()


# -- looking at one commit --------------------------------------------------------------------------------------------


def test_a_view_is_what_the_events_up_to_its_seq_have_made(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    before = create(index, b"before")
    index.commit()
    between = create(index, b"between")
    view = index.view()
    index.commit()
    remove(index, b"before")
    index.commit()
    after = create(index, b"after")
    assert (view.seq, view.epoch) == (1, 1)
    assert list(view.names(RESOURCES)) == [(b"before", before.number)]
    assert view.inode(before.number) == before
    assert view.parents(before.number) == ((RESOURCES, b"before"),)
    view.close()
    index.commit()
    view = index.view()
    assert view.seq == index.last_seq == 4
    assert list(view.names(RESOURCES)) == [(b"after", after.number), (b"between", between.number)]
    view.close()
    index.close()


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_never_pass_the_durable_mark(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    for _ in range(2 * BLOCK):
        assert index.new_inode() < index.numbers.inode_limit
    index.close()
    with lmdb.open(str(made), lib_version=0, max_dbs=40) as env, env.begin() as txn:
        raw = txn.get(schema.NUMBERS_ROW, db=env.open_db(b"meta", txn=txn, create=False))
        assert raw is not None
        stored = schema.NUMBERS.unpack(raw)
    assert stored.next_inode < stored.inode_limit


def test_inode_numbers_jump_to_the_mark_after_an_unclean_end(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    given, limit = index.new_inode(), index.numbers.inode_limit
    index.close(clean=False)
    index = Index.open(made, witnesses=place)
    assert index.new_inode() >= limit > given
    assert index.epoch == 1
    index.close()


# -- committing -------------------------------------------------------------------------------------------------------


def test_a_commit_is_wanted_only_when_there_is_something_and_time_has_passed(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place, commit_s=3600)
    wanted = [index.wants_commit]
    create(index, b"a")
    wanted.append(index.wants_commit)
    batch = Batch()
    batch.xattr(RESOURCES, b"user.big", bytes(9 << 20))
    index.apply(batch)
    wanted.append(index.wants_commit)
    index.commit()
    wanted.append(index.wants_commit)
    assert wanted == [False, False, True, False]
    index.sync_log()
    index.close()
    index.sync_log()


# -- room -------------------------------------------------------------------------------------------------------------


def create_until_full(index: Index, *, commit_every: int) -> list[bytes]:
    """Create files until the index refuses, and return their names."""
    names: list[bytes] = []
    try:
        for number in range(100_000):
            name = b"file-%06d" % number + b"x" * 100
            create(index, name)
            names.append(name)
            if number % commit_every == 0:
                index.commit()
    except IndexFull:
        assert names
        return names
    raise AssertionError("never full")


def test_a_full_map_refuses_creates_and_takes_removals(tmp_path: Path, place: Path) -> None:
    index = Index.open(tmp_path / "index", create=True, witnesses=place, map_bytes=2 << 20)
    furnish(index)
    names = create_until_full(index, commit_every=50)
    had_room = index.has_room
    for at, name in enumerate(names):
        remove(index, name)
        if at % 50 == 0:
            index.commit()
    batch = Batch()
    while index.forget_events(batch, keep=0):
        index.apply(batch)
        index.commit()
        batch = Batch()
    index.commit()
    assert (had_room, index.has_room) == (False, True)
    create(index, b"again")
    assert list(check(index)) == []
    index.close()


def test_a_map_that_fills_within_one_transaction_loses_nothing_applied(tmp_path: Path, place: Path) -> None:
    index = Index.open(tmp_path / "index", create=True, witnesses=place, map_bytes=1 << 20)
    furnish(index)
    made = create_until_full(index, commit_every=1_000_000)
    assert [name for name, _ in index.dentries(RESOURCES)] == made
    remove(index, made.pop())
    assert list(check(index)) == []
    index.close()
    index = Index.open(tmp_path / "index", witnesses=place, map_bytes=1 << 20)
    assert [name for name, _ in index.dentries(RESOURCES)] == made
    index.close()


def test_a_log_that_cannot_be_written_refuses_the_change_whole(
    made: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.open(made, witnesses=place)
    create(index, b"a")

    def full(log: RedoLog, number: int, payload: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(RedoLog, "append", full)
        with pytest.raises(IndexFull):
            create(index, b"b")
    create(index, b"c")
    assert [name for name, _ in index.dentries(RESOURCES)] == [b"a", b"c"]
    assert index.last_seq == 2
    index.close()


def test_a_disk_that_fails_stops_changes_and_not_reads(
    made: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.open(made, witnesses=place)
    create(index, b"a")

    def fail(log: RedoLog, number: int, payload: bytes) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(RedoLog, "append", fail)
        with pytest.raises(IndexFault):
            create(index, b"b")
    with pytest.raises(IndexFault):
        create(index, b"c")
    with pytest.raises(IndexFault):
        index.commit()
    assert index.dentry(RESOURCES, b"a") is not None
    index.close()
    index = Index.open(made, witnesses=place)
    assert not index.was_clean
    assert index.dentry(RESOURCES, b"a") is not None
    assert index.epoch == 1
    index.close()


SMALL_DISK = """
import sys
from pathlib import Path
from fusestore.index.store import Index
from fusestore.errors import IndexFull
from tests.support.indexes import create, furnish, remove
from fusestore.index.check import check
index = Index.open(Path(sys.argv[1]) / "index", create=True, witnesses=Path(sys.argv[2]))
furnish(index)
names = []
try:
    for number in range(400_000):
        name = b"%07d" % number + b"z" * 150
        create(index, name)
        names.append(name)
        if number % 500 == 0:
            index.commit()
    sys.exit("never full")
except IndexFull:
    pass
assert not index.has_room
(Path(sys.argv[1]) / "ballast").write_bytes(b"")
try:
    with open(Path(sys.argv[1]) / "ballast", "wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
except OSError:
    pass
for at, name in enumerate(names):
    remove(index, name)
    if at % 500 == 0:
        index.commit()
index.commit()
assert not index.dentries(4)
assert not list(check(index))
(Path(sys.argv[1]) / "ballast").unlink()
create(index, b"again")
index.close()
print(len(names))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_refuses_creates_and_takes_removals(tmp_path: Path, place: Path) -> None:
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True, timeout=60)
    try:
        ran = subprocess.run(
            [sys.executable, "-c", SMALL_DISK, disk, place], check=False, timeout=110, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        assert int(ran.stdout) > 1000
    finally:
        subprocess.run(["umount", disk], check=True, timeout=60)


def test_an_index_reads_like_the_catalog_that_the_rules_ask_for(made: Path, place: Path) -> None:
    index = Index.open(made, witnesses=place)
    catalog: Catalog = index  # the type checker proves it
    assert catalog.dentry(MOUNT_ROOT, b"resources") == RESOURCES
    index.close()
