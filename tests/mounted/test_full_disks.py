"""A root whose disk has no room, no inodes, or is read-only: right errnos, nothing half done, and on it goes after."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.daemon import Mounted, Root, eventually, mounted
from tests.support.disks import can_loop, fill, loop_disk, run
from tests.support.tools import failing, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(100)
TROUBLE = r"a disk refused|refused|synced|no room|unfinished copies|what no name needs"


class Full(NamedTuple):
    store: Mounted
    disk: Path
    shown: Path  # its root in the mount


@pytest.fixture
def full(request: pytest.FixtureRequest, tmp_path: Path, deadline_s: float) -> Iterator[Full]:
    """A root on a small ext4 disk; the parameter is options of mkfs."""
    if not can_loop("ext4"):
        pytest.skip("loop disks need root")
    with (
        loop_disk("ext4", 16, *getattr(request, "param", ())) as disk,
        mounted(tmp_path / "own", {"full": Root(disk / "root", "writers")}) as store,
        store.deadline(deadline_s),
    ):
        store.allow_log(TROUBLE)
        (store.resources / "full" / "file").write_bytes(b"content")
        yield Full(store, disk, store.resources / "full")


def names(full: Full) -> list[str]:
    """What lies on the disk, which must be what is shown."""
    found = sorted(os.listdir(full.disk / "root"))
    found.remove(".fusestore")
    assert sorted(os.listdir(full.shown)) == found
    return found


def test_a_write_that_the_disk_cannot_take_is_short_or_fails_and_the_file_can_go_on(full: Full) -> None:
    ballast = fill(full.disk)
    with open(full.shown / "growing", "wb", buffering=0) as file:
        with failing(errno.ENOSPC):
            file.writelines(bytes(4096) for _ in range(1000))
        assert (full.shown / "file").read_bytes() == b"content"
        ballast.unlink()
        end = file.seek(0, os.SEEK_END)
        file.write(b"on it goes")
    full.store.wait("--all")
    assert (full.disk / "root" / "growing").read_bytes() == bytes(end) + b"on it goes"
    assert full.store.record(full.shown / "growing")["state"] == "ready"
    assert names(full) == ["file", "growing"]


@pytest.mark.parametrize("full", [("-N", "64")], indirect=True)
def test_without_free_inodes_nothing_can_be_made_and_everything_else_goes_on(full: Full) -> None:
    spare = full.disk / "spare"
    spare.mkdir()
    with failing(errno.ENOSPC):
        for number in range(100):
            (spare / f"{number}").touch()
    makes: list[Callable[[], object]] = [
        (full.shown / "new").touch,
        (full.shown / "new").mkdir,
        lambda: os.mkfifo(full.shown / "new"),
    ]
    for make in makes:
        with failing(errno.ENOSPC):
            make()
    os.rename(full.shown / "file", full.shown / "renamed")
    os.link(full.shown / "renamed", full.shown / "linked")
    assert names(full) == ["linked", "renamed"]
    away = full.store.resources / "main" / "small"
    away.write_bytes(b"x")
    full.store.wait("--all")
    os.rename(away, full.shown / "small")
    eventually(lambda: [move["reason"] for move in full.store.moves()] == ["no inodes"], "the move waits", 20)
    assert (full.shown / "small").read_bytes() == b"x"
    tool("rm", "-r", spare)
    eventually(lambda: not full.store.moves(), "the move is over", 20)
    assert names(full) == ["linked", "renamed", "small"]


@pytest.mark.parametrize("full", [("-N", "64")], indirect=True)
def test_what_arrived_on_a_disk_without_free_inodes_is_known_when_the_index_is_made_anew(full: Full) -> None:
    store, many = full.store, full.store.resources / "main" / "many"
    many.mkdir()
    for number in range(100):
        (many / f"{number}").write_bytes(b"%d" % number)
    store.wait()
    os.rename(many, full.shown / "many")
    eventually(lambda: [move["reason"] for move in store.moves()] == ["no inodes"], "the move waits", 20)
    arrived = len(os.listdir(full.disk / "root" / "many"))
    assert arrived > 10
    facts = {path: os.getxattr(path, "user.fusestore.id") for path in (full.shown, full.shown / "many")}
    hashes = {path: os.getxattr(path, "user.fusestore.hash") for path in (full.shown / "many").iterdir()}
    store.umount()
    tool("rm", "-r", store.store / "index")
    store.cli("rebuild", store.store)
    store.mount()
    assert {path: os.getxattr(path, "user.fusestore.id") for path in facts} == facts
    assert {path: os.getxattr(path, "user.fusestore.hash") for path in hashes} == hashes


def test_a_directory_that_fills_the_disk_half_way_waits_and_is_usable_meanwhile(full: Full) -> None:
    tree = full.store.resources / "main" / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / f"{number}").write_bytes(bytes([number]) * 100_000)
    full.store.wait("--all")
    os.rename(tree, full.shown / "tree")
    ballast = fill(full.disk)
    eventually(
        lambda: not full.store.moves() or full.store.moves()[0]["reason"] == "no room", "the move waits or is over", 20
    )
    for number in range(40):
        assert (full.shown / "tree" / f"{number}").read_bytes() == bytes([number]) * 100_000
    ballast.unlink()
    eventually(lambda: not full.store.moves(), "the move is over", 20)
    assert len(os.listdir(full.disk / "root" / "tree")) == 40


@pytest.mark.parametrize("full", [("-e", "remount-ro")], indirect=True)
def test_a_disk_that_made_itself_read_only_says_so_and_can_be_read(full: Full) -> None:
    """As ext4 does when it finds an error."""
    full.store.wait("--all")
    device = run("findmnt", "-no", "SOURCE", os.fspath(full.disk)).rpartition("/")[2]
    trigger = Path(f"/sys/fs/ext4/{device}/trigger_fs_error")
    if not trigger.exists():
        pytest.skip("this kernel's ext4 cannot be told to find an error")
    trigger.write_text("for a test")
    assert (full.shown / "file").read_bytes() == b"content"
    changes: list[Callable[[], object]] = [
        (full.shown / "new").touch,
        (full.shown / "new").mkdir,
        (full.shown / "file").unlink,
        lambda: os.rename(full.shown / "file", full.shown / "renamed"),
        lambda: os.chmod(full.shown / "file", 0o600),
        lambda: os.truncate(full.shown / "file", 0),
        lambda: os.setxattr(full.shown / "file", "user.x", b"x"),
        lambda: os.link(full.shown / "file", full.shown / "linked"),
    ]
    for change in changes:
        with failing(errno.EROFS):
            change()
    assert names(full) == ["file"]
    away = full.store.resources / "main" / "file"
    os.rename(full.shown / "file", away)
    eventually((full.store.store / "main" / "file").exists, "its bytes have arrived", 20)
    assert away.read_bytes() == b"content"
    assert os.listdir(full.shown) == []
    full.store.remount()
    assert away.read_bytes() == b"content"
    assert os.listdir(full.shown) == []


@pytest.mark.parametrize("full", [("-b", "1024")], indirect=True)
def test_an_attribute_that_the_disk_cannot_hold_is_named_with_its_file(full: Full) -> None:
    tree = full.store.resources / "main" / "tree"
    tree.mkdir()
    for name in ("a", "big", "c"):
        (tree / name).write_bytes(name.encode())
    os.setxattr(tree / "big", "user.big", bytes(2000))
    tree.rename(full.shown / "tree")
    assert "1 of 1 move " in full.store.cli("wait", "--all", code=1).err
    (move,) = full.store.json("moves")
    assert "user.big does not fit" in move["reason"]
    assert move["held_path"] == "resources/full/tree/big"
    assert "resources/full/tree/big" in full.store.cli("moves").out
    page = (full.store.mountpoint / ".fusestore" / "moves" / str(move["number"])).read_text()
    assert "held by resources/full/tree/big" in page
    os.removexattr(full.shown / "tree" / "big", "user.big")
    full.store.cli("moves", "retry", "--all")
    full.store.wait("--all")
    assert full.store.json("moves") == []
