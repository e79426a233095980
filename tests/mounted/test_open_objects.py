"""What can be done through an open handle, whatever has become of the name it was opened by: as in a plain directory.

One more call is one more line in `CALLS`, one more fate of the name one more in `FATES`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.cases import TICK_S, Case, assert_same_outcomes, share
from tests.support.compare import assert_same
from tests.support.tools import EXCHANGE
from tests.support.twins import Call, User

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.support.daemon import Mounted

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users"),
]

Line = tuple[str, tuple[Any, ...]]

OWNER: Final = 1001
USERS: Final = {"root": User(0, 0), "owner": User(OWNER, OWNER), "other": User(1004, 1004)}
NS: Final = 1_600_000_000_123_456_789
DATA: Final = b"content" * 1000
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO = 1, 2, 8, 16  # fallocate(2)

CALLS: Final[list[Line]] = [
    ("stat", (0,)),
    ("read_slot", (0, 100)),
    ("write_slot", (0, b"new")),
    ("write_slot", (0, b"")),
    ("pwrite_slot", (0, b"x" * 70_000, 5)),
    ("pwrite_slot", (0, b"far", 1 << 17)),
    ("seek_slot", (0, 5, os.SEEK_END)),
    ("seek_slot", (0, -1, os.SEEK_SET)),
    ("truncate", (0, 3)),
    ("truncate", (0, 20_000)),
    ("truncate", (0, -1)),
    ("chmod", (0, 0o600)),
    ("chmod", (0, 0o2755)),
    ("chown", (0, 1004, 1004)),
    ("chown", (0, -1, OWNER)),
    ("utime", (0, NS, NS + 7)),
    ("touch", (0,)),
    ("setxattr", (0, "user.new", b"1", 0)),
    ("setxattr", (0, "user.given", b"2", os.XATTR_CREATE)),
    ("setxattr", (0, "trusted.new", b"1", 0)),
    ("getxattr", (0, "user.given")),
    ("getxattr", (0, "user.none")),
    ("listxattr", (0,)),
    ("removexattr", (0, "user.given")),
    ("sync_slot", (0,)),
    ("map_slot", (0, 3, b"mapped")),
    ("copy_slot", (0, 0, 100, 0, 10_000)),
    ("reopen_slot", (0, os.O_RDWR)),
    ("reopen_slot", (0, os.O_WRONLY | os.O_TRUNC)),
    ("link_slot", (0, b"in/again")),
    ("list_slot", (0,)),
    ("open_in_slot", (0, b"inner", os.O_RDONLY, 0)),
    ("open_in_slot", (0, b"made", os.O_CREAT | os.O_WRONLY, 0o644)),
]  # fmt: skip

KINDS: Final[dict[str, Callable[[Path], object]]] = {
    "file": lambda path: path.write_bytes(DATA),
    "program": lambda path: path.write_bytes(DATA),
    "directory": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
}
MODES: Final = {"program": 0o6775}

HANDLES: Final = {
    "read": os.O_RDONLY,
    "write": os.O_WRONLY,
    "both": os.O_RDWR,
    "append": os.O_RDWR | os.O_APPEND,
    "path": os.O_PATH,
}

# What happens between the opening and the call.
FATES: Final[dict[str, list[Line]]] = {
    "stays": [],
    "renamed": [("rename", (b"in/object", b"other/elsewhere", 0))],
    "removed": [("unlink", (b"in/object",)), ("rmdir", (b"in/object",))],
    "removed and made anew": [
        ("unlink", (b"in/object",)),
        ("rmdir", (b"in/object",)),
        ("mknod", (b"in/object", 0o100644)),
    ],
    "replaced": [("rename", (b"other/file", b"in/object", 0)), ("rename", (b"other/directory", b"in/object", 0))],
    "swapped": [("rename", (b"in/object", b"other/file", EXCHANGE))],
    "linked and removed": [("link", (b"in/object", b"other/link")), ("unlink", (b"in/object",))],
    "linked and all removed": [
        ("link", (b"in/object", b"other/link")),
        ("unlink", (b"in/object",)),
        ("unlink", (b"other/link",)),
    ],
    "removed with its directory": [
        ("unlink", (b"in/object",)),
        ("rmdir", (b"in/object",)),
        ("rmdir", (b"in",)),
    ],
}  # fmt: skip


LIVING: Final = {"stays", "renamed", "swapped", "linked and removed", "moved"}


def furnisher(kind: str) -> Callable[[Path], None]:
    def furnish(top: Path) -> None:
        for name in ("in", "other", "other/directory"):
            (top / name).mkdir()
        (top / "other" / "file").write_bytes(b"other")
        made = top / "in" / "object"
        KINDS[kind](made)
        if kind != "pipe":
            os.setxattr(made, "user.given", b"1")
        os.chown(made, OWNER, OWNER)
        made.chmod(MODES.get(kind, 0o777))

    return furnish


def through_handles(kinds: Iterable[str], name: str, fate: list[Line], users: Iterable[str]) -> list[Case]:
    """Each call through each handle: opened by root, so that it is there; the call itself by each user."""
    root = USERS["root"]
    return [
        Case(
            f"{kind}-{handle}-{number}-{name.replace(' ', '-')}-{who}",
            furnisher(kind),
            (
                Call("open_slot", (0, b"in/object", flags, 0), root),
                *(Call(*line, root) for line in fate),
                Call(*call, USERS[who]),
                Call("stat", (0,), root),
            ),
        )
        for kind in kinds
        for handle, flags in HANDLES.items()
        for number, call in enumerate(CALLS)
        for who in users
        if applies(kind, handle, call[0]) and not deviates(kind, handle, call[0], name)
    ]


def applies(kind: str, handle: str, call: str) -> bool:
    if kind == "directory":
        return handle in {"read", "path"} and call not in {"pwrite_slot", "copy_slot", "map_slot", "seek_slot"}
    if kind == "pipe":
        return handle in {"both", "path"} and call in {"stat", "chmod", "chown", "utime", "setxattr", "link_slot"}
    return call not in {"list_slot", "open_in_slot"}


def deviates(kind: str, handle: str, call: str, fate: str) -> bool:
    """What cannot be had of an object without a name that the daemon has no descriptor of (`docs/semantics.md`)."""
    if fate in LIVING:
        return False
    return (kind in {"directory", "pipe"} and "xattr" in call) or (handle == "path" and call == "reopen_slot")


def everywhere() -> list[Case]:
    return [case for fate, lines in FATES.items() for case in through_handles(KINDS, fate, lines, USERS)]


def test_calls_through_a_handle(area: Path, plain: Path) -> None:
    assert_same_outcomes(area, plain, share(everywhere(), area, size=2 * len(USERS)))


@pytest.mark.long
@pytest.mark.parametrize("fate", FATES)
def test_every_call_by_everybody_through_a_handle(area: Path, plain: Path, fate: str) -> None:
    assert_same_outcomes(area, plain, through_handles(KINDS, fate, FATES[fate], USERS))


def test_calls_through_a_handle_of_what_moves_to_another_disk(travel: Mounted, plain: Path) -> None:
    tops = travel.resources, plain
    for top in tops:
        (top / "cold").mkdir(exist_ok=True)
        (top / "hot").mkdir(exist_ok=True)
    made = []
    for case in through_handles(["file", "pipe", "directory"], "moved", [], ["root"]):
        away = Call("rename", (b"in/object", b"../../cold/" + case.name.encode(), 0), USERS["root"])
        made.append(case._replace(calls=(case.calls[0], away, *case.calls[1:])))
    assert_same_outcomes(travel.resources / "hot", plain / "hot", made, moving=True)
    travel.wait()
    assert_same(plain / "cold", travel.resources / "cold", ignore=frozenset({"mtime_ns", "disk_bytes", "top"}))


def test_a_rename_to_another_disk_renews_the_times_of_both_directories_at_once(travel: Mounted) -> None:
    parents = [travel.resources / disk / "directory" for disk in ("hot", "cold")]
    for parent in parents:
        parent.mkdir()
    with (parents[0] / "file").open("wb"):  # so that its bytes stay where they are for now
        time.sleep(TICK_S)
        before = [parent.stat() for parent in parents]
        os.rename(parents[0] / "file", parents[1] / "file")
        after = [parent.stat() for parent in parents]
    for then, now in zip(before, after, strict=True):
        assert then.st_mtime_ns < now.st_mtime_ns
        assert then.st_ctime_ns < now.st_ctime_ns
    travel.wait()
