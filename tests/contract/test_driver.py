"""What every storage driver must do, and what nothing that was planted on its disk may make it do."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from fusestore.config import RootConfig
from fusestore.errors import Covered, RootOffline, RootReadOnly
from fusestore.model import CONTROL_NAME, Layout, Outside, RootNo
from fusestore.roots.local import LocalRoot
from tests.support import disks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusestore.core.ports import Driver

pytestmark = pytest.mark.timeout(60)
disk = disks.disk  # the fixture

UID, GID = 65534, 65533
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ATTACH: dict[str, Callable[[Path, Layout], LocalRoot]] = {
    "local": lambda place, layout: LocalRoot.attach(
        RootNo(3), RootConfig("hot", place, Outside.WRITERS), layout, uuid4().bytes, create=True
    ),
}


@dataclass
class Subject:
    """A driver, and the plain directory that an outsider sees of it."""

    driver: Driver
    plain: Path


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture(params=sorted(ATTACH))
def subject(request: pytest.FixtureRequest, disk: Path) -> Iterator[Subject]:
    place = disk / uuid4().hex
    driver = ATTACH[request.param](place, Layout.TREE)
    try:
        yield Subject(driver, place)
    finally:
        driver.close()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Nobody's rights for as long as it lasts, as far as they can be given up."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(GID)
    os.seteuid(UID)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def make(subject: Subject, name: bytes, content: bytes = b"") -> None:
    fd = subject.driver.create(subject.driver.top, name, 0o640, os.geteuid(), os.getegid())
    os.write(fd, content)
    os.close(fd)


def names(driver: Driver, directory: int) -> set[bytes]:
    return set(driver.list(directory))


def code_of(call: Callable[[], object]) -> int | None:
    with pytest.raises(OSError, match=r"^\[Errno") as caught:
        call()
    return caught.value.errno


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def plant_everything(place: Path, outside: Path) -> dict[bytes, int]:
    """What an enemy might leave in a directory, and the errno that opening each as a file answers."""
    (place / "to-file").symlink_to(outside)
    (place / "to-nowhere").symlink_to(place / "nowhere")
    (place / "to-itself").symlink_to("to-itself")
    (place / "to-directory").symlink_to(outside.parent)
    (place / "directory").mkdir()
    os.mkfifo(place / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(place, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    planted = {
        b"to-file": errno.ELOOP,
        b"to-nowhere": errno.ELOOP,
        b"to-itself": errno.ELOOP,
        b"to-directory": errno.ELOOP,
        b"directory": errno.EISDIR,
        b"fifo": errno.ENXIO,
        b"socket": errno.ENXIO,
    }
    if os.geteuid() == 0:
        os.mknod(place / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        planted[b"device"] = errno.ENXIO
    return planted


# making things


def test_a_new_file_has_its_bytes_mode_and_owner(subject: Subject) -> None:
    make(subject, b"file", b"content")
    assert (subject.plain / "file").read_bytes() == b"content"
    now = subject.driver.stat(subject.driver.top, b"file")
    assert (stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid) == (0o640, os.geteuid(), os.getegid())
    assert now == os.lstat(subject.plain / "file")


@pytest.mark.parametrize("mode", [0, 0o600, 0o777, 0o1755, 0o2755, 0o4711, 0o6777])
@AS_ROOT
def test_a_new_file_for_somebody_else_keeps_its_set_id_bits(subject: Subject, mode: int) -> None:
    os.close(subject.driver.create(subject.driver.top, b"file", mode, UID, GID))
    now = os.lstat(subject.plain / "file")
    assert (stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid) == (mode, UID, GID)


def test_creating_never_replaces_nor_follows_what_is_there(subject: Subject, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    for name in plant_everything(subject.plain, outside):
        driver, top = subject.driver, subject.driver.top
        assert code_of(lambda: driver.create(top, name, 0o600, 0, 0)) == errno.EEXIST  # noqa: B023
        assert code_of(lambda: driver.mkdir(top, name, 0o700, 0, 0)) == errno.EEXIST  # noqa: B023
        assert code_of(lambda: driver.mknod(top, name, stat.S_IFIFO, 0, 0, 0)) == errno.EEXIST  # noqa: B023
        assert code_of(lambda: driver.symlink(top, name, b"x", 0, 0)) == errno.EEXIST  # noqa: B023
    assert outside.read_bytes() == b"precious"
    assert not (subject.plain / "nowhere").exists()


def test_what_cannot_be_given_to_its_owner_is_not_made_at_all(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    os.chmod(subject.plain, 0o777)
    with unprivileged():
        other = os.geteuid() + 1 if os.geteuid() == UID else 0
        assert code_of(lambda: driver.create(top, b"a", 0o600, other, GID)) == errno.EPERM
        assert code_of(lambda: driver.mkdir(top, b"b", 0o700, other, GID)) == errno.EPERM
        assert code_of(lambda: driver.mknod(top, b"c", stat.S_IFIFO | 0o600, 0, other, GID)) == errno.EPERM
        assert code_of(lambda: driver.symlink(top, b"d", b"x", other, GID)) == errno.EPERM
    assert names(driver, top) == set()


def test_without_privileges_ones_own_files_are_made_all_the_same(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    os.chmod(subject.plain, 0o777)
    with unprivileged():
        os.close(driver.create(top, b"file", 0o4750, os.geteuid(), os.getegid()))
        driver.mkdir(top, b"directory", 0o750, os.geteuid(), os.getegid())
    assert stat.S_IMODE(os.lstat(subject.plain / "file").st_mode) == 0o4750


@AS_ROOT
def test_directories_special_files_and_symlinks_get_owner_and_mode(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    driver.mkdir(top, b"directory", 0o3750, UID, GID)
    driver.mknod(top, b"fifo", stat.S_IFIFO | 0o620, 0, UID, GID)
    driver.mknod(top, b"socket", stat.S_IFSOCK | 0o755, 0, UID, GID)
    driver.mknod(top, b"device", stat.S_IFCHR | 0o660, os.makedev(1, 3), UID, GID)
    driver.symlink(top, b"link", b"\xff anywhere", UID, GID)
    modes = {name: driver.stat(top, name).st_mode for name in names(driver, top)}
    assert modes == {
        b"directory": stat.S_IFDIR | 0o3750,
        b"fifo": stat.S_IFIFO | 0o620,
        b"socket": stat.S_IFSOCK | 0o755,
        b"device": stat.S_IFCHR | 0o660,
        b"link": stat.S_IFLNK | 0o777,
    }
    assert {(now.st_uid, now.st_gid) for now in (driver.stat(top, name) for name in modes)} == {(UID, GID)}
    assert driver.stat(top, b"device").st_rdev == os.makedev(1, 3)
    assert driver.readlink(top, b"link") == b"\xff anywhere"


@AS_ROOT
def test_a_directory_in_a_set_gid_directory_stays_set_gid(subject: Subject) -> None:
    driver = subject.driver
    driver.mkdir(driver.top, b"team", 0o2775, 0, GID)
    team = driver.open_dir(driver.top, b"team")
    driver.mkdir(team, b"below", 0o755, UID, GID)
    assert stat.S_IMODE(driver.stat(team, b"below").st_mode) == 0o2755
    driver.close_dir(team)


# names


def test_names_of_any_bytes_come_and_go(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    odd = {bytes([value]) for value in range(1, 256)} - {b"/", b"."}
    odd |= {bytes([value]) * 255 for value in (1, 10, 65, 128, 255)} | {b"...", b"..x", "ü".encode() * 127, b" \t\n"}
    for name in odd:
        make(subject, name, name)
    assert names(driver, top) == odd
    for name in odd:
        fd = driver.open(top, name, write=False)
        assert os.read(fd, 300) == name
        os.close(fd)
        driver.rename(top, name, top, b"other", replace=False)
        driver.rename(top, b"other", top, name, replace=False)
        driver.unlink(top, name)
    assert names(driver, top) == set()


def test_a_name_of_256_bytes_is_too_long(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    assert code_of(lambda: driver.create(top, b"n" * 256, 0o600, 0, 0)) == errno.ENAMETOOLONG
    assert code_of(lambda: driver.stat(top, b"n" * 256)) == errno.ENAMETOOLONG
    assert code_of(lambda: driver.backing(top, b"n" * 256)) == errno.ENAMETOOLONG


def test_the_marker_directory_is_listed_below_but_not_at_the_top(subject: Subject) -> None:
    driver = subject.driver
    (subject.plain / "below" / os.fsdecode(CONTROL_NAME)).mkdir(parents=True)
    assert (subject.plain / os.fsdecode(CONTROL_NAME)).is_dir()
    assert names(driver, driver.top) == {b"below"}
    below = driver.open_dir(driver.top, b"below")
    assert names(driver, below) == {CONTROL_NAME}
    driver.close_dir(below)


def test_all_that_lies_on_it_is_counted_but_the_daemons_own(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    subject.driver.incoming()
    before = driver.count(100)
    driver.mkdir(top, b"d", 0o755, UID, GID)
    inner = driver.open_dir(top, b"d")
    for name in (b"a", b"b"):
        os.close(driver.create(inner, name, 0o644, UID, GID))
    driver.symlink(inner, b"s", b"/", UID, GID)
    driver.close_dir(inner)
    assert driver.count(100) == before + 4
    assert driver.count(3) == 3


def test_two_listings_at_once_are_both_whole_and_leave_nothing_open(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    for number in range(50):
        make(subject, b"%d" % number)
    before = open_descriptors()
    first, second = driver.list(top), driver.list(top)
    some, others = zip(*((next(first), next(second)) for _ in range(20)), strict=True)
    assert sorted([*some, *first]) == sorted([*others, *second]) == sorted(driver.list(top))
    abandoned = driver.list(top)
    next(abandoned)
    del abandoned, first, second
    assert open_descriptors() == before


def test_rename_replaces_only_if_told_to(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    make(subject, b"a", b"A")
    make(subject, b"b", b"B")
    driver.symlink(top, b"link", b"a", os.geteuid(), os.getegid())
    for taken in (b"b", b"link"):
        assert code_of(lambda: driver.rename(top, b"a", top, taken, replace=False)) == errno.EEXIST  # noqa: B023
    driver.rename(top, b"a", top, b"link", replace=True)
    assert names(driver, top) == {b"b", b"link"}
    assert (subject.plain / "link").read_bytes() == b"A"
    assert not (subject.plain / "link").is_symlink()


def test_rename_moves_a_directory_with_what_it_holds_but_not_onto_a_full_one(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    (subject.plain / "from" / "inner").mkdir(parents=True)
    (subject.plain / "full" / "inner").mkdir(parents=True)
    assert code_of(lambda: driver.rename(top, b"from", top, b"full", replace=True)) in (errno.ENOTEMPTY, errno.EEXIST)
    full = driver.open_dir(top, b"full")
    driver.rename(top, b"from", full, b"to", replace=False)
    driver.close_dir(full)
    assert (subject.plain / "full" / "to" / "inner").is_dir()
    assert code_of(lambda: driver.rmdir(top, b"full")) in (errno.ENOTEMPTY, errno.EEXIST)


def test_exchange_swaps_and_needs_both(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    make(subject, b"a", b"A")
    driver.mkdir(top, b"b", 0o700, os.geteuid(), os.getegid())
    driver.exchange(top, b"a", top, b"b")
    assert (subject.plain / "a").is_dir()
    assert (subject.plain / "b").read_bytes() == b"A"
    assert code_of(lambda: driver.exchange(top, b"a", top, b"missing")) == errno.ENOENT


def test_links_share_bytes_and_a_symlink_is_linked_itself(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    make(subject, b"a", b"A")
    driver.link(top, b"a", top, b"b")
    assert driver.stat(top, b"b").st_nlink == 2
    assert driver.backing(top, b"a") == driver.backing(top, b"b")
    assert code_of(lambda: driver.link(top, b"a", top, b"b")) == errno.EEXIST
    driver.symlink(top, b"link", b"a", os.geteuid(), os.getegid())
    driver.link(top, b"link", top, b"link too")
    assert driver.readlink(top, b"link too") == b"a"


def test_missing_names_are_missing_for_every_call(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    calls: list[Callable[[], object]] = [
        lambda: driver.open_dir(top, b"no"),
        lambda: driver.stat(top, b"no"),
        lambda: driver.backing(top, b"no"),
        lambda: driver.readlink(top, b"no"),
        lambda: driver.link(top, b"no", top, b"x"),
        lambda: driver.unlink(top, b"no"),
        lambda: driver.rmdir(top, b"no"),
        lambda: driver.rename(top, b"no", top, b"x", replace=True),
        lambda: driver.rename(top, b"no", top, b"x", replace=False),
        lambda: driver.open(top, b"no", write=True),
        lambda: driver.chmod(top, b"no", 0o600),
        lambda: driver.chown(top, b"no", 0, 0),
        lambda: driver.utime(top, b"no", 0, 0),
        lambda: driver.getxattr(top, b"no", b"user.x"),
        lambda: driver.setxattr(top, b"no", b"user.x", b"", 0),
        lambda: driver.listxattr(top, b"no"),
        lambda: driver.removexattr(top, b"no", b"user.x"),
    ]
    assert [code_of(call) for call in calls] == [errno.ENOENT] * len(calls)


# what was planted


@pytest.mark.parametrize("write", [False, True])
def test_only_regular_files_open_and_nothing_planted_blocks_or_leaks(
    subject: Subject, tmp_path: Path, write: bool
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    planted = plant_everything(subject.plain, outside)
    before = open_descriptors()
    answers = {
        name: code_of(lambda: subject.driver.open(subject.driver.top, name, write=write))  # noqa: B023
        for name in planted
    }
    assert answers == planted
    assert open_descriptors() == before


def test_only_directories_open_as_directories(subject: Subject, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    planted = plant_everything(subject.plain, outside)
    answers = {
        name: code_of(lambda: subject.driver.open_dir(subject.driver.top, name))  # noqa: B023
        for name in planted
        if name != b"directory"
    }
    assert set(answers.values()) == {errno.ENOTDIR}


def test_attributes_go_to_a_symlink_and_never_through_it(subject: Subject, tmp_path: Path) -> None:
    driver, top = subject.driver, subject.driver.top
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    outside.chmod(0o600)
    before = os.stat(outside)
    (subject.plain / "link").symlink_to(outside)
    assert code_of(lambda: driver.chmod(top, b"link", 0o777)) == errno.ENOTSUP
    assert code_of(lambda: driver.setxattr(top, b"link", b"user.x", b"1", 0)) == errno.EPERM
    assert code_of(lambda: driver.getxattr(top, b"link", b"user.x")) in (errno.ENODATA, errno.EPERM)
    driver.utime(top, b"link", 1, 2)
    if os.geteuid() == 0:
        driver.chown(top, b"link", UID, GID)
        assert driver.stat(top, b"link").st_uid == UID
    assert driver.stat(top, b"link").st_mtime_ns == 2
    assert os.stat(outside) == before
    assert os.listxattr(outside) == []


@AS_ROOT
def test_another_file_system_mounted_inside_is_not_entered(subject: Subject) -> None:
    inner = subject.plain / "inner"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(inner)], check=True, timeout=30)
    try:
        before = open_descriptors()
        with pytest.raises(Covered):
            subject.driver.open_dir(subject.driver.top, b"inner")
        assert open_descriptors() == before
    finally:
        subprocess.run(["umount", str(inner)], check=True, timeout=30)


def test_a_planted_id_area_or_incoming_area_is_refused(subject: Subject, tmp_path: Path) -> None:
    area = subject.plain / os.fsdecode(CONTROL_NAME)
    (area / "incoming").symlink_to(tmp_path)
    (area / "aside").symlink_to(tmp_path)
    (area / "trash").symlink_to(tmp_path)
    assert code_of(subject.driver.incoming) == errno.ENOTDIR
    assert code_of(subject.driver.trash) == errno.ENOTDIR
    assert code_of(lambda: subject.driver.id_area(bytes(16))) == errno.ENOTDIR
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_read_permission_can_still_be_gone_through(subject: Subject) -> None:
    driver = subject.driver
    (subject.plain / "dark").mkdir(mode=0o755)
    (subject.plain / "dark" / "file").write_bytes(b"")
    os.chmod(subject.plain / "dark", 0o311)
    os.chmod(subject.plain, 0o755)
    with unprivileged():
        dark = driver.open_dir(driver.top, b"dark")
        assert stat.S_ISREG(driver.stat(dark, b"file").st_mode)
        assert code_of(lambda: names(driver, dark)) == errno.EACCES
        driver.close_dir(dark)
    os.chmod(subject.plain / "dark", 0o755)


# attributes


def test_mode_owner_and_times_are_set_to_the_nanosecond(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    make(subject, b"file")
    driver.chmod(top, b"file", 0o4751)
    driver.utime(top, b"file", 1_600_000_000_123_456_789, 1_500_000_000_987_654_321)
    now = driver.stat(top, b"file")
    assert stat.S_IMODE(now.st_mode) == 0o4751
    assert (now.st_atime_ns, now.st_mtime_ns) == (1_600_000_000_123_456_789, 1_500_000_000_987_654_321)
    driver.chown(top, b"file", -1, -1)
    assert driver.stat(top, b"file").st_uid == os.geteuid()


def test_the_mode_of_a_fifo_changes_without_opening_it(subject: Subject) -> None:
    os.mkfifo(subject.plain / "fifo")
    subject.driver.chmod(subject.driver.top, b"fifo", 0o600)
    assert stat.S_IMODE(os.lstat(subject.plain / "fifo").st_mode) == 0o600


def test_xattrs_are_kept_listed_and_removed(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    make(subject, b"file")
    os.chmod(subject.plain / "file", 0o000)
    driver.chmod(top, b"file", 0o600)
    driver.setxattr(top, b"file", b"user.\xff", bytes(range(256)), os.XATTR_CREATE)
    assert code_of(lambda: driver.setxattr(top, b"file", b"user.\xff", b"", os.XATTR_CREATE)) == errno.EEXIST
    assert list(driver.listxattr(top, b"file")) == [b"user.\xff"]
    assert driver.getxattr(top, b"file", b"user.\xff") == bytes(range(256))
    driver.removexattr(top, b"file", b"user.\xff")
    assert code_of(lambda: driver.getxattr(top, b"file", b"user.\xff")) == errno.ENODATA


def test_a_successor_under_the_same_name_is_another_object(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    make(subject, b"file")
    fd = driver.open(top, b"file", write=True)
    first = driver.backing(top, b"file")
    assert driver.backing_fd(fd) == first
    assert (first.root, first.st_ino) == (driver.number, os.fstat(fd).st_ino)
    os.close(fd)
    driver.unlink(top, b"file")
    make(subject, b"file")
    assert driver.backing(top, b"file") != first


# areas, space, states


def test_the_id_area_spreads_by_the_last_byte_and_is_private(subject: Subject, disk: Path) -> None:
    driver = subject.driver
    same = [bytes([number]) * 15 + b"\xab" for number in range(3)]
    places = [driver.id_area(id) for id in same]
    assert len({directory for directory, _ in places}) == 1
    assert [name for _, name in places] == [id.hex().encode() for id in same]
    os.close(driver.create(*places[0], 0o644, os.geteuid(), os.getegid()))
    assert (subject.plain / ".fusestore" / "aside" / "ab" / same[0].hex()).is_file()
    assert stat.S_IMODE(os.lstat(subject.plain / ".fusestore").st_mode) == 0o700

    landing = ATTACH["local"](disk / uuid4().hex, Layout.ID)
    directory, name = landing.id_area(same[1])
    os.close(landing.create(directory, name, 0o644, os.geteuid(), os.getegid()))
    assert (landing.path / "files" / "ab" / same[1].hex()).is_file()
    assert stat.S_IMODE(os.lstat(landing.path / "files").st_mode) == 0o700
    landing.close()


def test_space_and_sync_answer(subject: Subject) -> None:
    space = subject.driver.space()
    assert 0 < space.available <= space.free <= space.total
    subject.driver.sync()


def test_an_offline_root_answers_every_call_so_and_comes_back(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    make(subject, b"file")
    driver.id_area(bytes(16))
    driver.online = False
    calls = {**_reading(driver, top), **_changing(driver, top)}
    for call in calls.values():
        with pytest.raises(RootOffline, match="hot"):
            call()
    driver.online = True
    assert names(driver, top) == {b"file"}


def test_a_read_only_root_reads_and_refuses_every_change(subject: Subject) -> None:
    driver, top = subject.driver, subject.driver.top
    make(subject, b"file")
    driver.read_only = True
    for call in _changing(driver, top).values():
        with pytest.raises(RootReadOnly, match="hot"):
            call()
    os.close(driver.open(top, b"file", write=False))
    assert names(driver, top) == {b"file"}


def _reading(driver: Driver, top: int) -> dict[str, Callable[[], object]]:
    return {
        "open_dir": lambda: driver.open_dir(top, b"x"),
        "list": lambda: list(driver.list(top)),
        "id_area": lambda: driver.id_area(bytes(16)),
        "incoming": driver.incoming,
        "trash": driver.trash,
        "stat": lambda: driver.stat(top, b"file"),
        "stat_dir": lambda: driver.stat_dir(top),
        "backing": lambda: driver.backing(top, b"file"),
        "backing_fd": lambda: driver.backing_fd(top),
        "readlink": lambda: driver.readlink(top, b"file"),
        "space": driver.space,
        "open": lambda: driver.open(top, b"file", write=False),
        "getxattr": lambda: driver.getxattr(top, b"file", b"user.x"),
        "listxattr": lambda: driver.listxattr(top, b"file"),
        "sync": driver.sync,
    }


def _changing(driver: Driver, top: int) -> dict[str, Callable[[], object]]:
    return {
        "create": lambda: driver.create(top, b"x", 0, 0, 0),
        "mkdir": lambda: driver.mkdir(top, b"x", 0, 0, 0),
        "mknod": lambda: driver.mknod(top, b"x", stat.S_IFIFO, 0, 0, 0),
        "symlink": lambda: driver.symlink(top, b"x", b"x", 0, 0),
        "link": lambda: driver.link(top, b"file", top, b"x"),
        "unlink": lambda: driver.unlink(top, b"file"),
        "rmdir": lambda: driver.rmdir(top, b"x"),
        "rename": lambda: driver.rename(top, b"file", top, b"x", replace=True),
        "exchange": lambda: driver.exchange(top, b"file", top, b"x"),
        "open": lambda: driver.open(top, b"file", write=True),
        "chmod": lambda: driver.chmod(top, b"file", 0),
        "chown": lambda: driver.chown(top, b"file", 0, 0),
        "utime": lambda: driver.utime(top, b"file", 0, 0),
        "setxattr": lambda: driver.setxattr(top, b"file", b"user.x", b"", 0),
        "removexattr": lambda: driver.removexattr(top, b"file", b"user.x"),
    }
