"""Renaming across roots is the move: names at once, bytes later, true at every moment in between."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.daemon import Mounted, Root, eventually, mounted
from tests.support.disks import bytes_below, loop_disk
from tests.support.tools import EXCHANGE, NOREPLACE, failing, library, renameat2, tool

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(300)
MIB = 1 << 20


def random_file(path: Path, size: int, seed: int = 1) -> str:
    """Fill `path` with random bytes; returns their SHA-256."""
    chance, digest = random.Random(seed), hashlib.sha256()
    with open(path, "wb") as file:
        for start in range(0, size, MIB):
            block = chance.randbytes(min(MIB, size - start))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    return tool("sha256sum", path, timeout_s=200).split()[0].lstrip("\\")


def timed(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def by_rename(old: Path, new: Path) -> None:
    os.rename(old, new)


def by_mv(old: Path, new: Path) -> None:
    tool("mv", old, new)


@pytest.mark.parametrize("move", [by_rename, by_mv])
@pytest.mark.parametrize("size", [64 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.long)])
def test_a_big_file_goes_from_uploads_to_hot_to_cold(
    travel: Mounted, size: int, move: Callable[[Path, Path], None]
) -> None:
    hot, cold = travel.resources / "hot" / "reads.fq", travel.resources / "cold" / "reads.fq"
    digest = random_file(travel.uploads / "reads.fq", size)
    identity = (
        os.getxattr(travel.uploads / "reads.fq", "user.fusestore.id"),
        os.stat(travel.uploads / "reads.fq").st_ino,
    )
    travel.wait("--all")
    for old, new in ((travel.uploads / "reads.fq", hot), (hot, cold)):
        assert timed(lambda old=old, new=new: move(old, new)) < 1  # type: ignore[misc]  # bound in the loop on purpose
        assert not old.exists()
        assert sha256(new) == digest
        travel.wait("--all")
        assert sha256(new) == digest
        assert (os.getxattr(new, "user.fusestore.id"), os.stat(new).st_ino) == identity

    disk = travel.roots["cold"].directory / "reads.fq"
    assert sha256(disk) == digest
    assert bytes_below(travel.roots["hot"].directory) == []
    assert bytes_below(travel.store / "uploads") == []
    assert [(place["root"], place["path"]) for place in travel.where(cold)] == [("cold", str(disk))]
    ended = [e for e in travel.history(cold) if e["command"] == "move" and e["outcome"] == "done"]
    assert [(e["old_root"], e["new_root"]) for e in ended] == [("uploads", "hot"), ("hot", "cold")]
    travel.umount()
    assert sha256(disk) == digest


def test_where_and_moves_tell_the_truth_while_the_bytes_are_on_their_way(travel: Mounted) -> None:
    old, new = travel.resources / "hot" / "f", travel.resources / "cold" / "f"
    in_the_way = travel.roots["cold"].directory / "f"
    digest = random_file(old, 64 * MIB)  # takes long enough to be overtaken
    os.rename(old, new)
    in_the_way.write_bytes(b"holds the bytes where they are")
    travel.allow_log("in the way")
    assert {place["root"] for place in travel.where(new) if place["present"]} == {"hot"}
    assert [(m["path"], m["source"], m["target"]) for m in travel.moves()] == [("resources/cold/f", "hot", "cold")]
    assert sha256(new) == digest
    in_the_way.unlink()
    eventually(lambda: not travel.moves(), "the move goes on", 60)
    assert [place["root"] for place in travel.where(new)] == ["cold"]
    assert travel.moves() == []


def make_rich_tree(top: Path) -> Path:
    """Everything a tree can hold: hard links, symlinks, FIFOs, empty directories, odd names, xattrs, times, holes."""
    library(top)
    (top / "empty" / "below").mkdir(parents=True)
    os.symlink("../json/decoder.py", top / "empty" / "link")
    os.symlink("nowhere", top / "dangling")
    os.link(top / "json" / "decoder.py", top / "empty" / "second name")
    os.link(top / "json" / "decoder.py", top / "third name")
    os.mkfifo(top / "fifo", 0o620)
    odd = os.path.join(os.fsencode(top), b"odd \xff\n*" + b"n" * 240)
    os.mkdir(odd)
    Path(os.fsdecode(odd), "leaf").write_bytes(b"leaf")
    with open(top / "sparse", "wb") as file:
        file.write(b"head")
        file.seek(64 * MIB)
        file.write(b"tail")
    os.setxattr(top / "third name", "user.sample", b"\x00\xff binary")
    os.setxattr(top / "empty", "user.on.directory", b"yes")
    os.chmod(top / "json", 0o2750)
    os.chmod(top / "json" / "encoder.py", 0o4711)
    if os.geteuid() == 0:
        os.chown(top / "email", 1234, 5678)
        os.chown(top / "email" / "parser.py", 4321, 8765)
        os.mknod(top / "null", 0o20666, os.makedev(1, 3))
    for directory, names, files in os.walk(top, topdown=False):
        for name in files + names:
            stamp = (hash_of(name) % 10**9) * 10**9 + 123_456_789
            os.utime(os.path.join(directory, name), ns=(stamp, stamp), follow_symlinks=False)
    return top


def hash_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6], "big")


@pytest.mark.parametrize("start", ["uploads", "resources/hot", "resources/main"])
def test_a_rich_tree_arrives_with_everything_it_had(travel: Mounted, tmp_path: Path, start: str) -> None:
    source = make_rich_tree(tmp_path / "source")
    old, new = travel.mountpoint / start / "tree", travel.resources / "cold" / "tree"
    tool("cp", "-a", source, old)
    assert_same(source, old)
    assert timed(lambda: os.rename(old, new)) < 1
    assert_same(source, new)
    travel.wait("--all")
    assert_same(source, new)
    assert_same(source, travel.roots["cold"].directory / "tree")
    assert not old.exists()
    assert bytes_below(travel.roots["hot"].directory) == []
    assert bytes_below(travel.store / "uploads") == []
    assert bytes_below(travel.store / "main") == []


def test_a_tree_that_comes_back_to_uploads_is_whole_there(travel: Mounted, tmp_path: Path) -> None:
    source = make_rich_tree(tmp_path / "source")
    tool("cp", "-a", source, travel.resources / "hot" / "tree")
    os.rename(travel.resources / "hot" / "tree", travel.uploads / "tree")
    travel.wait("--all")
    assert_same(source, travel.uploads / "tree")
    assert bytes_below(travel.roots["hot"].directory) == []


def test_five_moves_make_five_entries_in_history(travel: Mounted) -> None:
    places = [travel.uploads, *(travel.resources / n for n in ("hot", "cold", "main", "hot", "cold"))]
    (places[0] / "f").write_bytes(b"travelling")
    for old, new in itertools.pairwise(places):
        os.rename(old / "f", new / "f")
        travel.wait("--all")
    done = [e for e in travel.history(places[-1] / "f") if e["command"] == "move" and e["outcome"] == "done"]
    assert [e["new_root"] for e in done] == ["hot", "cold", "main", "hot", "cold"]
    assert sorted(e["time_ns"] for e in done) == [e["time_ns"] for e in done]


def test_a_move_replaces_the_file_that_had_the_name(travel: Mounted) -> None:
    (travel.uploads / "f").write_bytes(b"new")
    (travel.resources / "cold" / "f").write_bytes(b"old")
    travel.wait("--all")
    with open(travel.resources / "cold" / "f", "rb") as reader:
        os.rename(travel.uploads / "f", travel.resources / "cold" / "f")
        assert reader.read() == b"old"
    assert (travel.resources / "cold" / "f").read_bytes() == b"new"
    travel.wait("--all")
    assert (travel.roots["cold"].directory / "f").read_bytes() == b"new"


def test_noreplace_across_roots_refuses_and_exchange_is_not_offered(travel: Mounted) -> None:
    old, new = travel.uploads / "f", travel.resources / "cold" / "f"
    old.write_bytes(b"one")
    new.write_bytes(b"two")
    with pytest.raises(FileExistsError):
        renameat2(old, new, NOREPLACE)
    tool("mv", "-n", old, new)
    with failing(errno.EINVAL):
        renameat2(old, new, EXCHANGE)
    assert (old.read_bytes(), new.read_bytes()) == (b"one", b"two")


def test_a_file_that_cannot_fit_is_refused_at_once_and_stays_as_it_was(tmp_path: Path) -> None:
    with loop_disk("ext4", 32) as small, mounted(tmp_path / "own", {"small": Root(small / "root")}) as subject:
        subject.allow_log("no room")
        digest = random_file(subject.uploads / "big", 48 * MIB)
        subject.wait("--all")
        before, log = os.stat(subject.uploads / "big"), subject.events()
        with failing(errno.ENOSPC):
            os.rename(subject.uploads / "big", subject.resources / "small" / "big")
        assert os.listdir(subject.resources / "small") == []
        after = os.stat(subject.uploads / "big")
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert sha256(subject.uploads / "big") == digest
        assert subject.events() == log
        assert subject.moves() == []


def test_writing_to_a_full_root_says_so_and_the_daemon_lives(tmp_path: Path) -> None:
    with loop_disk("ext4", 32) as small, mounted(tmp_path / "own", {"small": Root(small / "root")}) as subject:
        with failing(errno.ENOSPC), open(subject.resources / "small" / "f", "wb", buffering=0) as file:
            file.writelines(bytes(MIB) for _ in range(64))
        os.unlink(subject.resources / "small" / "f")
        (subject.resources / "small" / "g").write_bytes(b"room again")
        subject.allow_log("No space left|ENOSPC|no room")


def test_a_stranger_on_the_disk_at_the_target_path_is_never_overwritten(travel: Mounted) -> None:
    old, new = travel.uploads / "f", travel.resources / "cold" / "f"
    stranger = travel.roots["cold"].directory / "f"
    ours = random_file(old, 64 * MIB)  # takes long enough to be overtaken
    os.rename(old, new)
    stranger.write_bytes(b"a stranger's bytes")
    eventually(lambda: any("in the way" in m["reason"] for m in travel.moves()), "the conflict is shown", 30)
    assert stranger.read_bytes() == b"a stranger's bytes"
    assert sha256(new) == ours
    travel.allow_log("in the way")
    stranger.unlink()
    eventually(lambda: not travel.moves(), "the move goes on once the stranger is gone", 60)
    assert sha256(stranger) == ours
    assert sha256(new) == ours


def test_moves_go_on_after_a_restart(travel: Mounted) -> None:
    digests = {}
    for number in range(12):
        digests[f"f{number}"] = random_file(travel.uploads / f"f{number}", 8 * MIB, seed=number)
    for name in digests:
        os.rename(travel.uploads / name, travel.resources / "cold" / name)
    travel.remount()
    assert {name: sha256(travel.resources / "cold" / name) for name in digests} == digests
    travel.wait("--all")
    assert {name: sha256(travel.roots["cold"].directory / name) for name in digests} == digests


def test_verify_finds_the_one_flipped_bit(travel: Mounted) -> None:
    path = travel.resources / "cold" / "f"
    random_file(path, 2 * MIB)
    travel.wait("--all")
    assert travel.json("verify", path)["bad"] == []
    disk = travel.roots["cold"].directory / "f"
    status = os.stat(disk)
    with open(disk, "r+b") as file:
        file.seek(MIB)
        byte = file.read(1)[0]
        file.seek(MIB)
        file.write(bytes([byte ^ 1]))
    os.utime(disk, ns=(status.st_atime_ns, status.st_mtime_ns))
    run = travel.cli("verify", path, "--json", code=1)
    assert "resources/cold/f" in run.out
    travel.allow_log("verif|differ|hash")
