"""Owners, modes and times: kept exactly, and obeyed."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.tools import python, tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="other owners need root")
OTHER, GROUP = 54321, 54322


def mode(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.mark.parametrize("wanted", [0o000, 0o400, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o6711])
def test_every_mode_is_kept(area: Path, wanted: int) -> None:
    (area / "f").touch()
    (area / "d").mkdir()
    for name in ("f", "d"):
        os.chmod(area / name, wanted)
        assert mode(area / name) == wanted


def test_the_umask_of_the_caller_counts(area: Path) -> None:
    script = """
import os, sys
os.umask(0o027)
os.chdir(sys.argv[1])
os.close(os.open("f", os.O_CREAT | os.O_WRONLY, 0o666))
os.mkdir("d", 0o777)
os.mkfifo("p", 0o666)
os.umask(0)
os.close(os.open("open", os.O_CREAT | os.O_WRONLY, 0o666))
"""
    python(script, area)
    assert {name: mode(area / name) for name in ("f", "d", "p", "open")} == {
        "f": 0o640,
        "d": 0o750,
        "p": 0o640,
        "open": 0o666,
    }


def test_times_are_kept_to_the_nanosecond(area: Path) -> None:
    (area / "f").write_bytes(b"x")
    (area / "d").mkdir()
    os.symlink("f", area / "l")
    for name in ("f", "d", "l"):
        os.utime(area / name, ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321), follow_symlinks=False)
        status = os.lstat(area / name)
        assert (status.st_atime_ns, status.st_mtime_ns) == (1_234_567_890_123_456_789, 987_654_321_987_654_321), name


@pytest.mark.parametrize("stamp_ns", [0, -1_000_000_001, 4_102_444_800_000_000_001])
def test_times_before_1970_and_after_2038_are_kept(area: Path, stamp_ns: int) -> None:
    (area / "f").write_bytes(b"x")
    os.utime(area / "f", ns=(stamp_ns, stamp_ns))
    assert os.stat(area / "f").st_mtime_ns == stamp_ns


def test_one_time_can_be_set_alone_and_now_means_now(area: Path) -> None:
    (area / "f").write_bytes(b"x")
    os.utime(area / "f", ns=(10**18, 10**18))
    tool("touch", "-a", area / "f")
    status = os.stat(area / "f")
    assert status.st_mtime_ns == 10**18
    assert abs(status.st_atime - time.time()) < 10


def test_writing_renews_mtime_and_changing_attributes_renews_ctime(area: Path) -> None:
    (area / "f").write_bytes(b"x")
    os.utime(area / "f", ns=(10**18, 10**18))
    before = os.stat(area / "f")
    with open(area / "f", "ab") as file:
        file.write(b"y")
    assert os.stat(area / "f").st_mtime_ns > 10**18
    os.chmod(area / "f", 0o600)
    assert os.stat(area / "f").st_ctime_ns > before.st_ctime_ns


def test_adding_and_removing_names_renews_the_directory_mtime(area: Path) -> None:
    (area / "d").mkdir()
    changes: list[Callable[[], object]] = [
        (area / "d" / "f").touch,
        lambda: os.rename(area / "d" / "f", area / "d" / "g"),
        lambda: os.unlink(area / "d" / "g"),
    ]
    for change in changes:
        os.utime(area / "d", ns=(10**18, 10**18))
        change()
        assert os.stat(area / "d").st_mtime_ns > 10**18


@root_only
def test_owner_and_group_are_kept_and_a_change_drops_set_id_bits(area: Path) -> None:
    (area / "f").write_bytes(b"x")
    os.chmod(area / "f", 0o6755)
    os.chown(area / "f", OTHER, GROUP)
    status = os.stat(area / "f")
    assert (status.st_uid, status.st_gid) == (OTHER, GROUP)
    assert mode(area / "f") == 0o755
    os.symlink("f", area / "l")
    os.chown(area / "l", OTHER, GROUP, follow_symlinks=False)
    assert os.lstat(area / "l").st_uid == OTHER
    os.chown(area / "f", -1, 0)
    assert (os.stat(area / "f").st_uid, os.stat(area / "f").st_gid) == (OTHER, 0)


@root_only
def test_a_file_belongs_to_who_made_it(area: Path) -> None:
    os.chmod(area, 0o777)
    tool("sh", "-c", f"umask 022; cd '{area}' && echo x > f && mkdir d && ln -s f l && mkfifo p", uid=OTHER)
    for name in ("f", "d", "l", "p"):
        assert (os.lstat(area / name).st_uid, os.lstat(area / name).st_gid) == (OTHER, OTHER), name


@root_only
def test_a_set_gid_directory_gives_its_group_to_what_is_made_in_it(area: Path) -> None:
    (area / "team").mkdir()
    os.chown(area / "team", -1, GROUP)
    os.chmod(area / "team", 0o2777)
    tool("sh", "-c", f"cd '{area / 'team'}' && touch f && mkdir d && mkdir d/e", uid=OTHER)
    for name in ("f", "d", "d/e"):
        assert os.stat(area / "team" / name).st_gid == GROUP
    assert mode(area / "team" / "d") & stat.S_ISGID
    assert mode(area / "team" / "d" / "e") & stat.S_ISGID
    assert not mode(area / "team" / "f") & stat.S_ISGID


@root_only
def test_the_sticky_bit_protects_the_files_of_others(area: Path) -> None:
    (area / "sticky").mkdir()
    os.chmod(area / "sticky", 0o1777)
    (area / "sticky" / "mine").write_bytes(b"x")
    os.chmod(area / "sticky" / "mine", 0o666)
    tool("touch", area / "sticky" / "theirs", uid=OTHER)
    for command in ("rm -f mine", "mv mine away", "touch new && mv new mine"):
        done = subprocess.run(
            ["sh", "-c", f"cd '{area / 'sticky'}' && {command}"],
            user=OTHER, group=OTHER, extra_groups=[], capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode != 0, command
    assert (area / "sticky" / "mine").read_bytes() == b"x"


@root_only
@pytest.mark.parametrize(
    ("bits", "command"),
    [
        (0o600, "cat f"),
        (0o644, "echo y >> f"),
        (0o644, "truncate -s 0 f"),
        (0o644, "chmod 777 f"),
        (0o644, "chown 54321 f"),
        (0o644, "touch -d 2001-01-01 f"),
        (0o644, "setfattr -n user.x -v y f"),
    ],
)
def test_who_has_no_permission_is_refused_and_changes_nothing(area: Path, bits: int, command: str) -> None:
    (area / "f").write_bytes(b"x")
    tool("stat", area / "f", uid=OTHER)  # the way there is open: it is the file that refuses
    os.chmod(area / "f", bits)
    before = os.stat(area / "f")
    done = subprocess.run(
        ["sh", "-c", f"cd '{area}' && {command}"],
        user=OTHER, group=OTHER, extra_groups=[], capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    after = os.stat(area / "f")
    assert (after.st_size, after.st_mode, after.st_uid, after.st_mtime_ns) == (1, before.st_mode, 0, before.st_mtime_ns)


@root_only
def test_writing_by_an_ordinary_user_drops_set_id_bits(area: Path) -> None:
    (area / "f").write_bytes(b"x")
    os.chown(area / "f", OTHER, OTHER)
    os.chmod(area / "f", 0o6777)
    tool("sh", "-c", f"echo y >> '{area / 'f'}'", uid=OTHER)
    assert mode(area / "f") == 0o777


def test_df_and_statvfs_say_something_sensible(area: Path) -> None:
    told = os.statvfs(area)
    assert 0 < told.f_bavail <= told.f_bfree <= told.f_blocks
    assert told.f_namemax == 255
    assert tool("df", "--output=avail", area).split()[0] == "Avail"
