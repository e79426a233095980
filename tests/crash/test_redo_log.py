"""The index under `kill -9`, torn logs and power cuts: what was promised stays, and no number is given out twice."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from fusestore.index.check import check
from fusestore.index.durable import Durable
from fusestore.index.redolog import HEADER_BYTES, RedoLog
from fusestore.index.snapshots import Mark
from fusestore.index.store import Index
from fusestore.model import RESOURCES
from tests.support import indexes
from tests.support.indexes import create, remove

if TYPE_CHECKING:
    from pathlib import Path

    from fusestore.index.schema import Numbers
    from fusestore.model import InodeNo

place, made = indexes.place, indexes.made  # the fixtures

# A program that changes an index and says on its standard output which seq it has been promised. With a
# point (class, method, before or after, n-th call) it kills itself there.
WORKER = """
import itertools, os, signal, sys
from pathlib import Path
from fusestore.index.durable import Durable
from fusestore.index.logs import RedoLogs
from fusestore.index.redolog import RedoLog
from fusestore.index.snapshots import Mark
from fusestore.index.store import Index
from fusestore.index.tables import Tables
from fusestore.index.witness import Witness
from tests.support.indexes import create, remove

def kill_at(point, when, nth):
    owner, name = point.split(".")
    method = getattr(globals()[owner], name)
    calls = itertools.count(1)
    def wrapped(*args, **kwargs):
        last = next(calls) == int(nth)
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(globals()[owner], name, wrapped)

directory, witnesses, changes, *point = sys.argv[1:]
if point:
    kill_at(*point)
index = Index.open(Path(directory), witnesses=Path(witnesses))
present = [name for name, _ in index.dentries(4)]
for change in range(int(changes)):
    if change % 3 == 2:
        remove(index, present.pop(0))
    else:
        present.append(b"f%d" % index.last_seq)
        create(index, present[-1])
    os.write(1, index.last_seq.to_bytes(8, "big"))
    if change % 20 == 19:
        index.commit()
index.close()
"""

POINTS = [
    (point, when, nth)
    for point, nths in {
        "RedoLog.append": (1, 2, 25),
        "RedoLogs.turn": (1, 2),
        "RedoLog.reset": (1,),
        "Witness.begin": (1,),
        "Witness.note": (1, 2, 23),
        "Witness.remove": (1,),
        "Tables._write": (1, 2, 3, 24, 25, 26),
        "Durable._commit_rows": (1, 2, 3),
        "Durable._make_durable": (1, 2, 3),
        "Mark.set": (1, 2, 3),
    }.items()
    for when in ("before", "after")
    for nth in nths
]


def start(made: Path, place: Path, changes: int, *point: object) -> subprocess.Popen[bytes]:
    arguments = [made, place, changes, *point]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def inodes_by_events(index: Index) -> set[InodeNo]:
    """Which inodes have names, told by the feed alone."""
    present: set[InodeNo] = set()
    for event in index.events(0, 1_000_000):
        if event.kind == "created":
            present.add(event.inode)
        else:
            present.remove(event.inode)
    return present


def assert_whole(index: Index, promised: int) -> None:
    """Nothing promised is missing, nothing is half there, and the feed has no gap."""
    assert index.epoch == 1
    assert promised <= index.last_seq
    assert [event.seq for event in index.events(0, 1_000_000)] == list(range(1, index.last_seq + 1))
    assert {number for _, number in index.dentries(RESOURCES)} == inodes_by_events(index)
    assert list(check(index)) == []


def test_kill_9_at_random_moments_loses_nothing_that_was_promised(made: Path, place: Path) -> None:
    dice = random.Random(7)
    for _ in range(8):
        worker = start(made, place, 1_000_000)
        assert worker.stdout is not None
        promises = worker.stdout.read(8 * dice.randint(1, 1500))
        worker.send_signal(signal.SIGKILL)
        promises += worker.stdout.read()
        worker.communicate(timeout=60)
        assert promises, "the worker never came to a change"
        index = Index.open(made, witnesses=place)
        assert not index.was_clean
        assert_whole(index, int.from_bytes(promises[-8:], "big"))
        index.close(clean=dice.random() < 0.5)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(("point", "when", "nth"), POINTS)
def test_kill_9_at_every_step_loses_nothing_that_was_promised(
    made: Path, place: Path, point: str, when: str, nth: int, clean: bool
) -> None:
    index = Index.open(made, witnesses=place)
    for number in range(5):
        create(index, b"old%d" % number)
    index.close(clean=clean)
    worker = start(made, place, 50, point, when, nth)
    promises, complaint = worker.communicate(timeout=60)
    assert worker.returncode == -signal.SIGKILL, complaint
    index = Index.open(made, witnesses=place)
    assert_whole(index, int.from_bytes(promises[-8:], "big") if promises else 5)
    create(index, b"new")
    assert_whole(index, index.last_seq)
    index.close()


# -- torn logs --------------------------------------------------------------------------------------------------------


def unclean(made: Path, place: Path, names: int) -> Index:
    """An index with so many names in its log; still open, so that it can be copied as it lies on the disk."""
    index = Index.open(made, witnesses=place)
    for number in range(names):
        create(index, b"%04d" % number)
    return index


def as_after_a_cut(made: Path, copy: Path, log: bytes | None = None) -> Path:
    """What a disk holds that lost its power: data and log as they are now, or with other bytes in the log."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in ("data.mdb", "synced", "redo.log", "redo2.log"):
        shutil.copy(made / name, copy)
    if log is not None:
        (copy / "redo.log").write_bytes(log)
    return copy


def log_bytes(made: Path) -> tuple[bytes, list[int]]:
    """The used part of a log, and where its records begin."""
    raw = (made / "redo.log").read_bytes()
    starts, position = [], HEADER_BYTES
    while length := struct.unpack_from(">I", raw, position)[0]:
        starts.append(position)
        position += 8 + length
    return raw[:position], [*starts, position]


@pytest.mark.parametrize("rest", ["gone", "zeros", "noise"])
def test_a_log_cut_off_anywhere_gives_its_valid_prefix(made: Path, place: Path, tmp_path: Path, rest: str) -> None:
    index = unclean(made, place, 6)
    raw, starts = log_bytes(made)
    file = tmp_path / "cut.log"
    (applied,) = struct.unpack_from(">Q", raw, HEADER_BYTES + 8)
    applied -= 1
    index.close()
    noise = random.Random(1).randbytes(2000)
    for end in range(starts[-4], len(raw) + 1):
        tail = {"gone": b"", "zeros": bytes(2000), "noise": noise}[rest]
        cut = raw[:end] + tail
        file.write_bytes(cut)
        whole = sum(cut.startswith(raw[:start]) for start in starts[1:])  # a tail may happen to be what was cut off
        found = [number for number, _ in records(file, index.uuid, applied)]
        assert found == list(range(applied + 1, applied + 1 + whole)), end


def records(path: Path, uuid: bytes, applied: int) -> list[tuple[int, bytes]]:
    log = RedoLog(path, uuid)
    found = list(log.records(applied))
    log.close()
    return found


def test_a_torn_log_opens_with_whole_batches_only(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 6)
    raw, starts = log_bytes(made)
    given = index.last_seq
    for end in range(starts[-4], len(raw), 23):
        whole = sum(start <= end for start in starts[1:])
        copy = Index.open(as_after_a_cut(made, tmp_path / "copy", raw[:end]), witnesses=tmp_path / "no witness")
        assert [name for name, _ in copy.dentries(RESOURCES)] == [b"%04d" % number for number in range(whole)]
        assert list(check(copy)) == []
        assert copy.last_seq > given
        copy.close()
    index.close()


def test_a_flipped_byte_ends_the_valid_prefix(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 4)
    raw, starts = log_bytes(made)
    for at in range(starts[2], starts[3], 7):
        damaged = raw[:at] + bytes([raw[at] ^ 0x40]) + raw[at + 1 :]
        copy = Index.open(as_after_a_cut(made, tmp_path / "copy", damaged), witnesses=tmp_path / "no witness")
        assert [name for name, _ in copy.dentries(RESOURCES)] == [b"0000", b"0001"]
        copy.close()
    index.close()


def test_remains_of_an_older_round_are_never_replayed(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 20)
    index.commit()
    for number in range(20):
        remove(index, b"%04d" % number)
        copy = Index.open(as_after_a_cut(made, tmp_path / "copy"), witnesses=tmp_path / "no witness")
        assert [name for name, _ in copy.dentries(RESOURCES)] == [b"%04d" % left for left in range(number + 1, 20)]
        copy.close()
    index.close()


# -- power cuts -------------------------------------------------------------------------------------------------------


def test_a_power_cut_raises_the_epoch_and_reuses_no_number(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 10)
    index.commit()
    before = as_after_a_cut(made, tmp_path / "copy")
    lost = [create(index, b"lost%d" % number).number for number in range(10)]
    given = index.last_seq
    copy = Index.open(before, witnesses=tmp_path / "no witness")
    assert (copy.epoch, copy.was_clean) == (2, False)
    assert copy.last_seq > given
    (told,) = copy.events(10, 10)
    assert (told.kind, told.epoch, told.seq) == ("epoch", 2, copy.last_seq)
    assert copy.new_inode() > max(lost)
    create(copy, b"new")
    assert copy.last_seq == told.seq + 1
    assert list(check(copy)) == []
    copy.close(clean=False)
    index.close()


@pytest.mark.parametrize("lost", ["pages", "root", "nothing"])
def test_a_commit_that_was_not_synced_yet_is_gone_back_on(
    made: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The disk may have any part of it when the power is cut: its root without its pages too."""
    unclean(made, place, 300).close()
    index = Index.open(made, witnesses=place)  # its commit is durable
    for number in range(300):
        remove(index, b"%04d" % number)
    before = (made / "data.mdb").read_bytes()
    synced = threading.Event()
    monkeypatch.setattr(Mark, "set", lambda mark, txnid: synced.wait(60))
    index.commit()
    create(index, b"after")
    cut = as_after_a_cut(made, tmp_path / "copy")
    after = (cut / "data.mdb").read_bytes()
    roots = 2 * mmap.PAGESIZE
    kept = {"pages": after[:roots] + before[roots:], "root": before[:roots] + after[roots:], "nothing": after}
    (cut / "data.mdb").write_bytes(kept[lost])
    synced.set()
    monkeypatch.undo()
    assert kept["pages"] not in (before, after)
    copy = Index.open(cut, witnesses=place)
    assert [name for name, _ in copy.dentries(RESOURCES)] == [b"after"]
    assert_whole(copy, 601)
    copy.close(clean=False)
    index.close()


def test_changes_that_come_while_a_commit_is_synced_are_kept(
    made: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = unclean(made, place, 3)
    synced = threading.Event()
    make_durable = Durable._make_durable

    def late(self: Durable, fresh: Numbers) -> Numbers:
        synced.wait(60)
        return make_durable(self, fresh)

    monkeypatch.setattr(Durable, "_make_durable", late)
    index.commit()
    for number in range(3):
        create(index, b"more%d" % number)
    wanted = [index.wants_commit]
    synced.set()
    index.commit()
    create(index, b"last")
    copy = Index.open(as_after_a_cut(made, tmp_path / "copy"), witnesses=place)
    assert not any(wanted)
    assert len(copy.dentries(RESOURCES)) == 7
    assert_whole(copy, 7)
    copy.close(clean=False)
    index.close()


def test_a_data_file_put_back_from_elsewhere_is_taken_as_it_is(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 10)
    index.commit()
    index.close()
    saved = (made / "data.mdb").read_bytes()
    for _ in range(3):
        Index.open(made, witnesses=place).close()
    (made / "data.mdb").write_bytes(saved)
    index = Index.open(made, witnesses=place)
    assert len(index.dentries(RESOURCES)) == 10
    index.close()


def test_that_something_was_lost_is_known_until_a_run_ends_in_order(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 10)
    copy, witnesses = as_after_a_cut(made, tmp_path / "copy"), place / "after"
    witnesses.mkdir()
    told = []
    for clean in (False, True, True):  # one only looks, one serves
        opened = Index.open(copy, witnesses=witnesses)
        told.append((opened.lost, opened.lost_ns))
        opened.close(clean=clean)
    assert told[0][0]
    assert told[1] == told[0]
    assert told[2] == (False, (0, 0))
    index.close()


def test_a_witness_that_knows_more_than_the_log_raises_the_epoch(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 10)
    raw, starts = log_bytes(made)
    copy = Index.open(as_after_a_cut(made, tmp_path / "copy", raw[: starts[-2]]), witnesses=place)
    assert copy.epoch == 2
    copy.close()
    index.close()


def test_a_witness_that_agrees_with_the_log_keeps_the_epoch(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 10)
    copy = Index.open(as_after_a_cut(made, tmp_path / "copy"), witnesses=place)
    assert (copy.epoch, copy.last_seq) == (1, 10)
    copy.close()
    index.close()


def test_the_witness_of_another_run_proves_nothing(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 10)
    older = as_after_a_cut(made, tmp_path / "copy")
    index.close()
    index = Index.open(made, witnesses=place)
    copy = Index.open(older, witnesses=place)
    assert copy.epoch == 2
    copy.close()
    index.close()


def test_a_witness_behind_a_symlink_or_of_a_wrong_size_is_not_believed(made: Path, place: Path) -> None:
    index = unclean(made, place, 3)
    (kept,) = place.iterdir()
    index.close(clean=False)
    os.rename(kept, place / "elsewhere")
    kept.symlink_to(place / "elsewhere")
    index = Index.open(made, witnesses=place)
    assert index.epoch == 2
    index.close(clean=False)
    kept.write_bytes(b"short")
    index = Index.open(made, witnesses=place)
    assert index.epoch == 3
    index.close()


def test_a_witness_on_a_disk_is_not_believed(made: Path, place: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    index = Index.open(made, witnesses=disk)
    create(index, b"a")
    index.close(clean=False)
    index = Index.open(made, witnesses=disk)
    assert index.epoch == 2
    index.close()


def test_what_was_synced_is_in_the_log(made: Path, place: Path, tmp_path: Path) -> None:
    index = unclean(made, place, 5)
    index.sync_log()
    copy = Index.open(as_after_a_cut(made, tmp_path / "copy"), witnesses=tmp_path / "no witness")
    assert len(copy.dentries(RESOURCES)) == 5
    copy.close()
    index.close()


def test_a_record_that_was_taken_back_while_it_was_synced_does_not_make_the_next_durable(tmp_path: Path) -> None:
    log = RedoLog(tmp_path / "log", bytes(16))
    log.reset()
    log.append(1, b"one")
    log.sync()
    log.take_back()
    log.append(1, b"another")
    durable = [log.is_durable]
    log.sync()
    assert [*durable, log.is_durable] == [False, True]
    log.close()
