"""Reading goes to the copy that is preferred, and on to the next one when a root is away or its disk fails."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from fusestore.errors import RootOffline
from fusestore.roots import content
from fusestore.service import replicating
from tests.support.calls import ME
from tests.support.tools import failing

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.core.ports import Driver
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"
PATH = f"{HOT}/a"


@pytest.fixture
def copied(opened: Opened) -> Opened:
    """hot/a with replicas on cold and warm."""
    opened.write(PATH, b"content")
    opened.settle()
    opened.replicate(PATH, "cold")
    opened.replicate(PATH, "warm")
    opened.rest()
    return opened


class Disks:
    """Which disks fail, and which were read."""

    def __init__(self, opened: Opened) -> None:
        self._disks = opened.disks
        self.failing: set[str] = set()
        self.number = errno.EIO
        self.read: list[str] = []

    def stand_before(self, read: Callable[[int, int, int], bytes]) -> Callable[[int, int, int], bytes]:
        def reading(fd: int, size: int, offset: int) -> bytes:
            path = os.readlink(f"/proc/self/fd/{fd}")
            root = next(name for name, disk in self._disks.items() if path.startswith(f"{disk}/"))
            if root in self.failing:
                raise OSError(self.number, os.strerror(self.number))
            self.read.append(root)
            return read(fd, size, offset)

        return reading


@pytest.fixture
def disks(copied: Opened, monkeypatch: pytest.MonkeyPatch) -> Disks:
    disks = Disks(copied)
    monkeypatch.setattr(content, "read_cached", lambda fd, size, offset: None)
    monkeypatch.setattr(content, "read", disks.stand_before(content.read))
    return disks


def root(opened: Opened, name: str) -> Driver:
    return replicating.named(opened.store, name)


def prefer(opened: Opened, *names: str) -> None:
    opened.store.preference = tuple(root(opened, name).number for name in names)


def test_the_place_is_read_first_and_a_preferred_root_before_it(copied: Opened, disks: Disks) -> None:
    copied.read(PATH)
    prefer(copied, "cold")
    copied.read(PATH)
    prefer(copied, "hot", "cold")
    copied.read(PATH)
    prefer(copied, "uploads", "warm")
    copied.read(PATH)
    assert disks.read == ["hot", "cold", "hot", "warm"]


def test_a_reader_of_a_replica_sees_what_is_written(copied: Opened, disks: Disks) -> None:
    prefer(copied, "cold")
    fh = copied.open_file(PATH)
    assert copied.read_at(fh) == b"content"
    attributes = copied.stat(PATH)
    assert attributes.ctime_ns == (copied.disks["hot"] / "a").stat().st_ctime_ns
    writer = copied.open_file(PATH, write=True)
    copied.write_at(writer, b"new")
    assert copied.read_at(fh) == b"newtent"
    copied.release(writer)
    copied.rest()
    assert copied.read_at(fh) == b"newtent"
    copied.release(fh)
    assert copied.read(PATH) == b"newtent"
    assert disks.read == ["cold", "hot", "hot", "cold"]


def test_what_others_wrote_is_read_at_the_place(shared: Opened) -> None:
    shared.write(PATH, b"ours")
    shared.settle()
    shared.replicate(PATH, "cold")
    shared.rest()
    prefer(shared, "cold")
    fh = shared.open_file(PATH)
    (shared.disks["hot"] / "a").write_bytes(b"theirs")
    shared.stat(PATH)
    assert shared.read_at(fh) == b"theirs"
    shared.release(fh)


def test_a_file_whose_root_is_away_is_read_elsewhere_and_written_nowhere(copied: Opened) -> None:
    root(copied, "hot").online = False
    assert copied.read(PATH) == b"content"
    with pytest.raises(RootOffline):
        copied.open_file(PATH, write=True)
    assert copied.stat(PATH).size == 7
    root(copied, "cold").online = False
    assert copied.read(PATH) == b"content"
    root(copied, "warm").online = False
    with pytest.raises(RootOffline):
        copied.open_file(PATH)
    for name in ("hot", "warm", "cold"):
        root(copied, name).online = True
    assert copied.replicas(PATH) == {"cold": "current", "warm": "current"}


def test_what_was_written_and_not_copied_yet_is_not_read_from_an_old_replica(copied: Opened) -> None:
    copied.write(PATH, b"newer")
    copied.settle()
    root(copied, "hot").online = False
    with pytest.raises(RootOffline):
        copied.open_file(PATH)
    root(copied, "hot").online = True


def test_a_disk_that_fails_in_the_middle_of_reading_is_not_noticed(copied: Opened, disks: Disks) -> None:
    fh = copied.open_file(PATH)
    assert copied.read_at(fh, 3) == b"con"
    disks.failing = {"hot"}
    assert copied.read_at(fh, 2, 3) == b"te"
    disks.failing = {"hot", disks.read[-1]}
    assert copied.read_at(fh, 2, 5) == b"nt"
    assert len(set(disks.read)) == 3
    disks.failing = {"hot", "warm", "cold"}
    with failing(errno.EIO):
        copied.read_at(fh)
    copied.release(fh)
    assert copied.replicas(PATH) == {"cold": "bad", "warm": "bad"}
    disks.failing = set()
    copied.rest()
    assert copied.replicas(PATH) == {"cold": "current", "warm": "current"}


def test_a_replica_that_fails_is_left_for_the_place_and_made_again(copied: Opened, disks: Disks) -> None:
    prefer(copied, "cold", "warm")
    disks.failing = {"cold"}
    assert copied.read(PATH) == b"content"
    assert disks.read == ["hot"]
    assert copied.replicas(PATH) == {"cold": "bad", "warm": "current"}
    assert copied.read(PATH) == b"content"
    assert disks.read == ["hot", "warm"]
    disks.failing = set()
    copied.rest()
    assert copied.replicas(PATH) == {"cold": "current", "warm": "current"}


def test_who_could_write_reads_on_too_and_writes_at_the_place(copied: Opened, disks: Disks) -> None:
    fh = copied.open_file(PATH, write=True)
    disks.failing = {"hot"}
    assert copied.read_at(fh) == b"content"
    copied.write_at(fh, b"C")
    with failing(errno.EIO):
        copied.read_at(fh)
    disks.failing = set()
    assert copied.read_at(fh) == b"Content"
    copied.release(fh)


@pytest.mark.parametrize("trouble", ["missing", "replaced", "shortened"])
def test_a_replica_that_is_not_what_was_verified_is_found_out_when_it_is_opened(copied: Opened, trouble: str) -> None:
    path = copied.path_aside(root(copied, "cold").number, copied.find(PATH))
    if trouble == "shortened":
        os.truncate(path, 3)
    else:
        path.rename(path.with_name("other"))
        if trouble == "replaced":
            path.write_bytes(b"strange")
        path.with_name("other").unlink()
    prefer(copied, "cold")
    assert copied.read(PATH) == b"content"
    assert copied.replicas(PATH)["cold"] == "bad"
    copied.rest()
    assert copied.replicas(PATH)["cold"] == "current"
    assert copied.read(PATH) == b"content"


def test_a_replica_is_made_from_another_when_the_file_itself_is_away(copied: Opened) -> None:
    copied.drop(PATH, "warm")
    root(copied, "hot").online = False
    copied.replicate(PATH, "warm")
    copied.make_replicas()
    assert copied.replicas(PATH) == {"cold": "current", "warm": "current"}
    root(copied, "hot").online = True


def test_a_replica_is_made_from_another_when_the_file_itself_cannot_be_read(
    copied: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.drop(PATH, "warm")
    hot, opening = root(copied, "hot"), root(copied, "hot").open

    def refusing(directory: int, name: bytes, *, write: bool) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hot, "open", refusing)
    copied.replicate(PATH, "warm")
    copied.make_replicas()
    copied.make_replicas()
    assert copied.replicas(PATH) == {"cold": "current", "warm": "current"}
    monkeypatch.setattr(hot, "open", opening)


def test_the_copy_to_be_read_can_be_chosen(copied: Opened) -> None:
    number, store = copied.find(PATH), copied.store
    copied.drop(PATH, "warm")
    target = replicating.target(store, "warm")
    assert replicating.want(store, number, target, ME, source=root(copied, "cold")) == 1
    os.utime(copied.path_aside(root(copied, "cold").number, number), ns=(5, 5))
    copied.rest()
    assert copied.path_aside(target.number, number).stat().st_mtime_ns == 5


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_copy_whose_disk_fails_for_a_moment_serves_again_when_no_other_does(
    copied: Opened, disks: Disks, number: int
) -> None:
    prefer(copied, "cold")
    root(copied, "hot").online = root(copied, "warm").online = False
    disks.failing.add("cold")
    disks.number = number
    with failing(number):
        copied.read(PATH)
    assert copied.replicas(PATH)["cold"] == ("bad" if number == errno.EIO else "current")
    disks.failing.clear()
    copied.make_replicas()
    assert copied.read(PATH) == b"content"
    assert copied.replicas(PATH)["cold"] == "current"
    root(copied, "hot").online = root(copied, "warm").online = True
