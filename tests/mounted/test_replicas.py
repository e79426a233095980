"""Further copies of files, by command and under real disks."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from fusestore.service.keeping import NO_ROOT
from tests.support.daemon import Mounted, Root, eventually, mounted
from tests.support.disks import can_loop, loop_disk, unmount
from tests.support.faulty import faulty_disk
from tests.support.tools import failing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.faulty import Faulty

pytestmark = pytest.mark.timeout(100)


def copies(store: Mounted, path: Path) -> list[tuple[str, str, str, bool]]:
    return [(each["root"], each["role"], each["state"], each["present"]) for each in store.where(path)]


def test_a_replica_is_made_shown_read_again_refreshed_and_dropped(travel: Mounted) -> None:
    file = travel.resources / "hot" / "run"
    file.write_bytes(b"precious" * 100_000)
    travel.wait()
    assert travel.json("replicate", file, "--to", "cold", "--wait") == {"wanted": 1, "files": 1, "held": []}
    assert copies(travel, file) == [("hot", "home", "current", True), ("cold", "replica", "current", True)]
    assert [each["found"] for each in travel.json("where", "--verify", file)] == ["ok", "ok"]
    assert "a copy is kept on cold already" in travel.cli("replicate", file, "--to", "cold").out
    with open(file, "r+b") as stream:
        stream.write(b"new")
        stream.flush()
        assert copies(travel, file)[1][2] == "stale"
    travel.wait(file)
    assert copies(travel, file)[1] == ("cold", "replica", "current", True)
    assert travel.json("drop", file, "--from", "hot") == {"dropped": 1, "removed": 0, "refused": []}
    assert copies(travel, file) == [("cold", "by id", "current", True)]
    assert file.read_bytes() == b"new" + (b"precious" * 100_000)[3:]
    assert "its only copy is on cold" in travel.cli("replicate", file, "--to", "cold", code=1).err
    assert "last good copy" in travel.cli("drop", file, "--from", "cold", code=1).err
    assert travel.json("drop", file, "--from", "cold", "--force-last")["removed"] == 1
    assert os.listdir(travel.resources / "hot") == []
    assert {"replicated", "dropped", "removed"} <= {event["kind"] for event in travel.events()}


def test_a_tree_is_replicated_also_across_a_restart(travel: Mounted) -> None:
    top = travel.resources / "hot" / "d"
    for number in range(60):
        (top / str(number % 7)).mkdir(parents=True, exist_ok=True)
        (top / str(number % 7) / f"f{number}").write_bytes(b"%d" % number)
    travel.cli("replicate", top, "--to", "cold")
    travel.kill9()
    travel.mount()
    travel.wait(top)
    for number in (0, 59):
        assert copies(travel, top / str(number % 7) / f"f{number}")[1] == ("cold", "replica", "current", True)
    status: dict[str, Any] = travel.json("status")
    assert status["replicas"] == {"due": 0}


# -- disks that fail --------------------------------------------------------------------------------------------------

TROUBLE = r"a disk refused|refused|offline|online again|synced|a replica is"
CONTENT = random.Random(5).randbytes(8 << 20)


@pytest.fixture
def ward(tmp_path: Path, deadline_s: float) -> Iterator[tuple[Mounted, Faulty, Path]]:
    """(store, faulty disk, a file on it that has a replica on `main`)."""
    with (
        faulty_disk(tmp_path / "faulty") as disk,
        mounted(tmp_path / "own", {"sick": Root(disk.mountpoint / "root", "none")}) as store,
        store.deadline(deadline_s),
    ):
        file = store.resources / "sick" / "file"
        file.write_bytes(CONTENT)
        store.wait()
        store.allow_log(TROUBLE)
        store.cli("replicate", file, "--to", "main", "--wait")
        forget(file, disk.mountpoint / "root" / "file")
        yield store, disk, file
        eventually(lambda: os.access(file, os.W_OK) and file.read_bytes() == CONTENT, "all is well again", 30)


def forget(*paths: Path) -> None:
    """Have the next reads come from the disks."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def test_a_program_does_not_notice_that_the_disk_fails_while_it_reads(ward: tuple[Mounted, Faulty, Path]) -> None:
    store, disk, file = ward
    with open(file, "rb", buffering=0) as stream:
        start = stream.read(4096)
        with disk.failing(read="EIO"):
            rest = b"".join(iter(lambda: stream.read(1 << 20), b""))
    assert start + rest == CONTENT
    store.cli("drop", file, "--from", "main")
    forget(file, disk.mountpoint / "root" / "file")
    with disk.failing(read="EIO"), failing(errno.EIO):
        file.read_bytes()


def test_a_file_whose_disk_is_gone_is_read_from_its_replica_and_lists_as_ever(
    ward: tuple[Mounted, Faulty, Path],
) -> None:
    store, disk, file = ward
    with disk.failing(all="EIO"):
        eventually(lambda: "sick is offline" in store.json("status")["health"], "the disk is offline", 20)
        forget(file)
        assert file.read_bytes() == CONTENT
        assert os.listdir(file.parent) == ["file"]
        assert file.stat().st_size == len(CONTENT)
        with failing(errno.EIO):
            os.open(file, os.O_WRONLY)
        assert "last good copy" in store.cli("drop", file, "--from", "main", code=1).err
    eventually(lambda: store.json("status")["health"] == "ok", "the disk is back", 20)


def test_as_many_copies_are_kept_as_a_root_asks_for_and_read_where_that_is_preferred(travel: Mounted) -> None:
    hot = travel.resources / "hot"
    (hot / "before").write_bytes(b"before")
    travel.wait()
    travel.umount()
    config = travel.store / "fusestore.toml"
    config.write_text(config.read_text().replace("[roots.hot]\n", "[roots.hot]\ncopies = 3\n"))
    travel.configure("mount", prefer=["cold"])
    travel.mount()
    (hot / "after").write_bytes(b"after")
    (travel.uploads / "moved").write_bytes(b"moved")
    os.rename(travel.uploads / "moved", hot / "moved")
    travel.wait()
    for name in ("before", "after", "moved"):
        assert copies(travel, hot / name) == [
            ("hot", "home", "current", True),
            ("main", "replica", "current", True),
            ("cold", "replica", "current", True),
        ]
        assert (hot / name).read_bytes() == name.encode()
    assert travel.json("status")["replicas"] == {"due": 0}


def test_status_says_how_many_files_lack_a_copy_that_no_root_can_hold(travel: Mounted) -> None:
    travel.umount()
    config = travel.store / "fusestore.toml"
    config.write_text(config.read_text().replace("[roots.hot]\n", "[roots.hot]\ncopies = 4\n"))
    travel.mount()
    for name in ("a", "b"):
        (travel.resources / "hot" / name).write_bytes(name.encode())
    lacking = f"2 files lack a copy: {NO_ROOT}"
    eventually(lambda: travel.json("status")["health"] == lacking, "the lack is told")
    assert len(copies(travel, travel.resources / "hot" / "a")) == 3
    (travel.resources / "hot" / "a").unlink()
    eventually(lambda: travel.json("status")["health"] == f"1 file lacks a copy: {NO_ROOT}", "one is gone")
    travel.umount()
    config.write_text(config.read_text().replace("copies = 4\n", "copies = 3\n"))
    travel.mount()
    eventually(lambda: travel.json("status")["health"] == "ok", "nothing is lacking")


@pytest.mark.long
@pytest.mark.skipif(not can_loop("ext4"), reason="loop disks need root")
def test_a_full_disk_and_a_disk_that_is_taken_out(tmp_path: Path, deadline_s: float) -> None:
    with loop_disk("ext4", 48) as hot, loop_disk("ext4", 24) as cold:
        roots = {"hot": Root(hot / "root"), "cold": Root(cold / "root")}
        with mounted(tmp_path / "own", roots) as store, store.deadline(deadline_s):
            store.allow_log(TROUBLE)
            file = store.resources / "hot" / "file"
            file.write_bytes(CONTENT)
            ballast = store.resources / "cold" / "ballast"
            ballast.write_bytes(bytes(16 << 20))
            store.wait()
            told = store.cli("replicate", file, "--to", "cold", "--wait", code=1)
            assert "no room" in told.out
            assert copies(store, file)[1][:3] == ("cold", "replica", "wanted")
            ballast.unlink()
            eventually(lambda: copies(store, file)[1][2] == "current", "there is room for the copy", 30)
            unmount(hot, lazy=True)
            eventually(lambda: "hot is offline" in store.json("status")["health"], "the disk is out", 20)
            assert os.listdir(file.parent) == ["file"]
            assert file.read_bytes() == CONTENT
            assert copies(store, file) == [("hot", "home", "current", False), ("cold", "replica", "current", True)]
            assert store.json("drop", file, "--from", "hot")["dropped"] == 1
            with open(file, "ab") as stream:
                stream.write(b"and more")
            assert file.read_bytes() == CONTENT + b"and more"
