"""Which times a call changes, of the object and of the directories around it: the same as in a plain directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.cases import Case, assert_same_outcomes
from tests.support.twins import Call, User

if TYPE_CHECKING:
    from pathlib import Path

ME: Final = User(os.geteuid(), os.getegid())
NS: Final = 1_600_000_000_000_000_000

CALLS: Final = [
    ("mkdir", (b"dir/new", 0o755)),
    ("mknod", (b"dir/new", 0o100644)),
    ("mknod", (b"dir/new", 0o010644)),
    ("symlink", (b"nowhere", b"dir/new")),
    ("link", (b"dir/file", b"other/new")),
    ("unlink", (b"dir/file",)),
    ("unlink", (b"dir/twin",)),
    ("unlink", (b"dir/link",)),
    ("rmdir", (b"dir/empty",)),
    ("rename", (b"dir/file", b"dir/new", 0)),
    ("rename", (b"dir/file", b"other/new", 0)),
    ("rename", (b"dir/file", b"other/target", 0)),
    ("rename", (b"dir/empty", b"other/new", 0)),
    ("rename", (b"dir/full", b"dir/new", 0)),
    ("rename", (b"dir/full", b"other/new", 0)),
    ("rename", (b"dir/twin", b"dir/new", 0)),
    ("rename", (b"dir/link", b"dir/new", 0)),
    ("rename", (b"dir/file", b"other/target", 2)),
    ("rename", (b"dir/file", b"dir/file", 0)),
    ("chmod", (b"dir/file", 0o600)),
    ("chmod", (b"dir/empty", 0o700)),
    ("chown", (b"dir/file", -1, -1, True)),
    ("chown", (b"dir/link", 0, 0, False)),
    ("utime", (b"dir/file", NS, NS + 5)),
    ("touch", (b"dir/file",)),
    ("touch", (b"dir",)),
    ("truncate", (b"dir/file", 3)),
    ("truncate", (b"dir/file", 4)),
    ("truncate", (b"dir/file", 0)),
    ("truncate", (b"dir/file", 9000)),
    ("setxattr", (b"dir/file", "user.one", b"1", 0)),
    ("removexattr", (b"dir/file", "user.given")),
    ("setxattr", (b"dir", "user.one", b"1", 0)),
    ("open_slot", (0, b"dir/new", os.O_CREAT | os.O_WRONLY, 0o644)),
    ("open_slot", (0, b"dir/file", os.O_CREAT | os.O_WRONLY, 0o644)),
    ("open_slot", (0, b"dir/file", os.O_TRUNC | os.O_WRONLY, 0o644)),
    ("open_slot", (0, b"dir/none", os.O_TRUNC | os.O_WRONLY, 0o644)),
    ("open_slot", (0, b"dir/file", os.O_RDONLY, 0)),
    ("write_file", (b"dir/file", b"abcd")),
    ("write_file", (b"dir/file", b"")),
    ("write_file", (b"dir/none", b"abcd")),
    ("stat", (b"dir/file", True)),
    ("readlink", (b"dir/link",)),
]  # fmt: skip


def furnish(top: Path) -> None:
    for name in ("dir", "dir/empty", "dir/full", "other"):
        (top / name).mkdir()
    for name in ("dir/file", "dir/full/file", "other/target"):
        (top / name).write_bytes(b"data")
    (top / "dir" / "none").touch()
    os.link(top / "dir" / "file", top / "dir" / "twin")
    os.symlink("file", top / "dir" / "link")
    os.setxattr(top / "dir" / "file", "user.given", b"1")


@pytest.mark.timeout(120)
def test_each_call_changes_the_same_times(area: Path, plain: Path) -> None:
    cases = [
        Case(f"{number}-{name}", furnish, (Call(name, arguments, ME),))
        for number, (name, arguments) in enumerate(CALLS)
    ]
    assert_same_outcomes(area, plain, cases)
