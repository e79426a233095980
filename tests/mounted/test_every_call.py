"""Every call on every kind of object, by every kind of user, in every kind of directory, and on every kind of bad path.

Each answers, changes and leaves what it does in a plain directory. One more call is one more line in a table.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from tests.support.cases import Case, assert_same_outcomes, share
from tests.support.tools import EXCHANGE, NOREPLACE, UTIME_NOW, UTIME_OMIT, failing
from tests.support.twins import Call, User

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users"),
]

Line = tuple[str, tuple[Any, ...]]

OWNER, GROUP = 1001, 3000
USERS: Final = {
    "root": User(0, 0),
    "owner": User(OWNER, 1001, (GROUP,)),
    "member": User(1002, GROUP),
    "also-member": User(1003, 1003, (GROUP,)),
    "other": User(1004, 1004),
}


class Situation(NamedTuple):
    """The directory that an object is in, and the object's mode; `mine`: the directory is the owner's, not root's."""

    directory: int
    object: int
    mine: bool = False


SITUATIONS: Final = {
    "open": Situation(0o777, 0o664),
    "sticky": Situation(0o1777, 0o640),
    "sticky-mine": Situation(0o1775, 0o062, mine=True),
    "set-gid": Situation(0o2775, 0o6771, mine=True),
    "closed": Situation(0o755, 0o6617),
    "unsearchable": Situation(0o676, 0o666, mine=True),
}


def _file(path: Path) -> None:
    path.write_bytes(b"content")
    os.setxattr(path, "user.given", b"1")


def _directory(path: Path) -> None:
    path.mkdir()
    os.setxattr(path, "user.given", b"1")


def _full(path: Path) -> None:
    path.mkdir()
    (path / "inner").touch()


KINDS: Final[dict[str, Callable[[Path], None]]] = {
    "file": _file,
    "directory": _directory,
    "full": _full,
    "link": lambda path: path.symlink_to("../other/target"),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "fifo": os.mkfifo,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o666),
    "char": lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(240, 255)),
    "block": lambda path: os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(240, 255)),
}

OPENING: Final = {"open_slot", "write_file"}
X: Final = b"in/object"
NEW: Final = b"in/new"
CREATE: Final = os.O_CREAT | os.O_WRONLY
EXCLUSIVE: Final = CREATE | os.O_EXCL
NS: Final = 1_600_000_000_123_456_789
FAR_S: Final = (2_147_483_648, 4_294_967_296)

ON_OBJECTS: Final[list[Line]] = [
    ("chmod", (X, 0o600)),
    ("chmod", (X, 0o7777)),
    ("chmod", (X, 0o2755)),
    ("chown", (X, -1, -1)),
    ("chown", (X, OWNER, -1)),
    ("chown", (X, -1, GROUP)),
    ("chown", (X, -1, 1001)),
    ("chown", (X, 0, 0)),
    ("chown", (X, 1004, 1004, False)),
    ("chown", (X, -1, GROUP, False)),
    ("utime", (X, NS, NS + 7)),
    ("utime", (X, NS, NS + 7, False)),
    ("touch", (X,)),
    ("touch_parts", (X, UTIME_OMIT, UTIME_OMIT)),
    ("touch_parts", (X, UTIME_NOW, UTIME_OMIT)),
    ("touch_parts", (X, UTIME_OMIT, UTIME_NOW)),
    ("touch_parts", (X, UTIME_OMIT, 5)),
    ("touch_parts", (X, *FAR_S)),
    ("truncate", (X, 0)),
    ("truncate", (X, 3)),
    ("truncate", (X, 7)),
    ("truncate", (X, 5000)),
    ("truncate", (X, -1)),
    ("truncate", (X, 1 << 62)),
    ("access", (X, os.R_OK)),
    ("access", (X, os.W_OK)),
    ("access", (X, os.X_OK)),
    ("stat", (X, True)),
    ("stat", (X, False)),
    ("readlink", (X,)),
    ("listdir", (X,)),
    ("write_file", (X, b"new")),
    ("write_file", (X, b"")),
    ("open_slot", (0, X, os.O_RDONLY, 0)),
    ("open_slot", (0, X, os.O_RDWR, 0)),
    ("open_slot", (0, X, os.O_RDONLY | os.O_TRUNC, 0)),
    ("open_slot", (0, X, os.O_WRONLY | os.O_TRUNC, 0)),
    ("open_slot", (0, X, os.O_WRONLY | os.O_APPEND | os.O_SYNC, 0)),
    ("open_slot", (0, X, os.O_RDONLY | os.O_DIRECTORY, 0)),
    ("open_slot", (0, X, os.O_RDONLY | os.O_NOFOLLOW, 0)),
    ("open_slot", (0, X, os.O_RDONLY | os.O_NOATIME, 0)),
    ("open_slot", (0, X, os.O_RDWR | os.O_DIRECT, 0)),
    ("open_slot", (0, X, os.O_PATH, 0)),
    ("open_slot", (0, X, CREATE, 0o666)),
    ("open_slot", (0, X, EXCLUSIVE, 0o666)),
    ("open_slot", (0, X, os.O_CREAT | os.O_RDONLY, 0o666)),
    ("open_slot", (0, X, os.O_CREAT | os.O_DIRECTORY, 0o666)),
    ("mkdir", (X, 0o777)),
    ("mknod", (X, 0o100666)),
    ("mknod", (X, 0o010666)),
    ("symlink", (b"anywhere", X)),
    ("mkdir", (X + b"/new", 0o777)),
    ("mknod", (X + b"/new", 0o100666)),
    ("symlink", (b"anywhere", X + b"/new")),
    ("link", (b"other/target", X + b"/new")),
    ("open_slot", (0, X + b"/new", CREATE, 0o666)),
    ("unlink", (X,)),
    ("rmdir", (X,)),
    ("unlink", (X + b"/inner",)),
    ("link", (X, b"other/new")),
    ("link", (X, NEW)),
    ("link", (X, b"other/target")),
    ("link", (b"other/target", X)),
    ("rename", (X, NEW, 0)),
    ("rename", (X, b"other/new", 0)),
    ("rename", (X, X, 0)),
    ("rename", (X, b"other/target", 0)),
    ("rename", (X, b"other/empty", 0)),
    ("rename", (X, b"other/full", 0)),
    ("rename", (X, b"other/pipe", 0)),
    ("rename", (X, X + b"/inner", 0)),
    ("rename", (X, b"other/target", NOREPLACE)),
    ("rename", (X, b"other/new", NOREPLACE)),
    ("rename", (X, b"other/target", EXCHANGE)),
    ("rename", (X, b"other/empty", EXCHANGE)),
    ("rename", (X, b"other/new", EXCHANGE)),
    ("rename", (X, b"other/new", NOREPLACE | EXCHANGE)),
    ("rename", (b"other/target", X, 0)),
    ("rename", (b"other/empty", X, 0)),
    ("rename", (b"other/empty", X + b"/new", 0)),
    ("setxattr", (X, "user.new", b"1", 0)),
    ("setxattr", (X, "user.given", b"2", os.XATTR_CREATE)),
    ("setxattr", (X, "user.new", b"2", os.XATTR_REPLACE)),
    ("setxattr", (X, "trusted.new", b"1", 0, False)),
    ("setxattr", (X, "security.new", b"1", 0, False)),
    ("setxattr", (X, "nonsense", b"1", 0)),
    ("setxattr", (X, "user.large", b"x" * 65_537, 0)),
    ("getxattr", (X, "user.given")),
    ("getxattr", (X, "user.none", False)),
    ("getxattr", (X, "trusted.none")),
    ("removexattr", (X, "user.given")),
    ("removexattr", (X, "user.none", False)),
    ("removexattr", (X, "trusted.none")),
    ("listxattr", (X,)),
    ("listxattr", (X, False)),
]  # fmt: skip

NEW_NAMES: Final[list[Line]] = [
    ("mkdir", (NEW, 0o777)),
    ("mkdir", (NEW, 0o7000)),
    ("mknod", (NEW, 0o106777)),
    ("mknod", (NEW, 0o012777)),
    ("mknod", (NEW, 0o140666)),
    ("mknod", (NEW, 0o020666)),
    ("mknod", (NEW, 0o060666)),
    ("mknod", (NEW, 0o040777)),
    ("mknod", (NEW, 0o000644)),
    ("symlink", (b"anywhere", NEW)),
    ("symlink", (b"", NEW)),
    ("symlink", (b"x" * 4095, NEW)),
    ("link", (b"other/target", NEW)),
    ("open_slot", (0, NEW, CREATE, 0o6777)),
    ("open_slot", (0, NEW, EXCLUSIVE, 0o000)),
    ("open_slot", (0, NEW, os.O_CREAT | os.O_RDONLY, 0o1151)),
    ("open_slot", (0, NEW, CREATE | os.O_NOFOLLOW, 0o666)),
    ("open_slot", (0, NEW, os.O_RDONLY, 0)),
    ("open_slot", (0, NEW, os.O_WRONLY | os.O_TRUNC, 0)),
    ("rename", (b"other/target", NEW, 0)),
    ("rename", (b"other/empty", NEW, 0)),
    ("rename", (b"other/full", NEW, 0)),
    ("rename", (b"other/pipe", NEW, NOREPLACE)),
    ("rename", (b"other/twin", NEW, 0)),
]  # fmt: skip

LONG: Final = b"x" * 255
DEEP: Final = b"/".join([b"in"] + [b"."] * 2045)  # one byte below PATH_MAX, its NUL counted
PATHS: Final = [
    b"",
    b".",
    b"..",
    b"none",
    b"none/",
    b"none/object",
    b"in/file/object",
    b"in/file/",
    b"in/file/.",
    b"in/file/..",
    b"in/pipe/",
    b"in/pipe/object",
    b"in/link",
    b"in/link/",
    b"in/link/object",
    b"in/dangling",
    b"in/dangling/",
    b"in/around",
    b"in/around/object",
    b"in/to-directory",
    b"in/to-directory/",
    b"in/to-directory/new",
    b"in/directory/",
    b"in/directory/.",
    b"in/directory/..",
    b"in/full/",
    b"in/shut/object",
    b"in/./../in/file",
    LONG,
    LONG + b"x",
    LONG + b"/object",
    LONG + b"x/object",
    DEEP + b"/n",
    DEEP + b"//n",
]

ON_PATHS: Final[list[tuple[str, Callable[[bytes], tuple[Any, ...]]]]] = [
    ("mkdir", lambda path: (path, 0o755)),
    ("mknod", lambda path: (path, 0o100644)),
    ("mknod", lambda path: (path, 0o010644)),
    ("symlink", lambda path: (b"anywhere", path)),
    ("symlink", lambda path: (path, b"in/new")),
    ("link", lambda path: (path, b"in/new")),
    ("link", lambda path: (b"in/file", path)),
    ("unlink", lambda path: (path,)),
    ("rmdir", lambda path: (path,)),
    ("rename", lambda path: (path, b"in/new", 0)),
    ("rename", lambda path: (b"in/file", path, 0)),
    ("rename", lambda path: (b"in/directory", path, 0)),
    ("rename", lambda path: (b"in/file", path, EXCHANGE)),
    ("rename", lambda path: (b"in/file", path, NOREPLACE)),
    ("listdir", lambda path: (path,)),
    ("readlink", lambda path: (path,)),
    ("stat", lambda path: (path, True)),
    ("stat", lambda path: (path, False)),
    ("access", lambda path: (path, os.W_OK)),
    ("utime", lambda path: (path, NS, NS, False)),
    ("truncate", lambda path: (path, 3)),
    ("open_slot", lambda path: (0, path, os.O_RDONLY, 0)),
    ("open_slot", lambda path: (0, path, os.O_RDONLY | os.O_NOFOLLOW, 0)),
    ("open_slot", lambda path: (0, path, CREATE, 0o644)),
    ("open_slot", lambda path: (0, path, EXCLUSIVE, 0o644)),
    ("open_slot", lambda path: (0, path, os.O_WRONLY | os.O_TRUNC, 0)),
    ("getxattr", lambda path: (path, "user.none")),
    ("listxattr", lambda path: (path, False)),
]  # fmt: skip
CHANGING_ATTRIBUTES: Final[list[tuple[str, Callable[[bytes], tuple[Any, ...]]]]] = [
    ("chmod", lambda path: (path, 0o700)),
    ("chown", lambda path: (path, 1004, 1004)),
    ("setxattr", lambda path: (path, "user.new", b"1", 0)),
]
ABOVE: Final = b".."  # its attributes are not a case's own


def furnisher(situation: Situation, make: Callable[[Path], None] | None) -> Callable[[Path], None]:
    """What is in a case: `in`, a directory in that situation with the object in it, and `other`, open to everybody."""

    def furnish(top: Path) -> None:
        for name in ("in", "other", "other/empty", "other/full"):
            (top / name).mkdir()
        (top / "other" / "target").write_bytes(b"target")
        (top / "other" / "full" / "inner").touch()
        os.link(top / "other" / "target", top / "other" / "twin")
        os.mkfifo(top / "other" / "pipe")
        for name in ("empty", "full", "target", "pipe"):
            os.chown(top / "other" / name, OWNER, GROUP)
            (top / "other" / name).chmod(0o775)
        if make is not None:
            made = top / "in" / "object"
            make(made)
            os.chown(made, OWNER, GROUP, follow_symlinks=False)
            if not made.is_symlink():
                made.chmod(situation.object)
        if situation.mine:
            os.chown(top / "in", OWNER, GROUP)
        (top / "in").chmod(situation.directory)
        (top / "other").chmod(0o777)

    return furnish


def on_objects(number: int, call: Line) -> list[Case]:
    """A call on every kind of object by every user in every situation."""
    # A device is not opened: the mount is nodev.
    kinds = {kind: make for kind, make in KINDS.items() if call[0] not in OPENING or kind not in {"char", "block"}}
    return [
        Case(f"{number}-{kind}-{user}-{place}", furnisher(situation, make), (Call(*call, USERS[user]),))
        for kind, make in kinds.items()
        for user in USERS
        for place, situation in SITUATIONS.items()
    ]


def furnish_paths(top: Path) -> None:
    for name in ("in", "in/directory", "in/full", "in/shut"):
        (top / name).mkdir()
        (top / name).chmod(0o777)
    for name in ("in/file", "in/full/inner", "in/shut/object"):
        (top / name).write_bytes(b"content")
        (top / name).chmod(0o666)
    os.mkfifo(top / "in" / "pipe")
    for name, target in (
        ("link", "file"),
        ("dangling", "nowhere"),
        ("around", "about"),
        ("about", "around"),
        ("to-directory", "directory"),
    ):
        (top / "in" / name).symlink_to(target)
    (top / "in" / "shut").chmod(0o600)
    top.chmod(0o777)


def new_names() -> list[Case]:
    return [
        Case(f"{number}-{place}-{user}", furnisher(situation, None), (Call(*call, USERS[user]),))
        for number, call in enumerate(NEW_NAMES)
        for place, situation in SITUATIONS.items()
        for user in USERS
    ]


def odd_paths() -> list[Case]:
    return [
        Case(f"{number}-{place}-{user}", furnish_paths, (Call(name, arguments(path), USERS[user]),))
        for number, (name, arguments) in enumerate(ON_PATHS + CHANGING_ATTRIBUTES)
        for place, path in enumerate(PATHS)
        for user in ("root", "other")
        if path != ABOVE or number < len(ON_PATHS)
    ]


def test_calls_on_objects(area: Path, plain: Path) -> None:
    made = [case for number, call in enumerate(ON_OBJECTS) for case in on_objects(number, call)]
    assert_same_outcomes(area, plain, share(made, area, size=len(SITUATIONS)))


def test_a_device_cannot_be_opened_through_the_mount(area: Path) -> None:
    os.mknod(area / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with failing(errno.EACCES):
        os.open(area / "null", os.O_RDONLY)


def test_calls_that_make_names(area: Path, plain: Path) -> None:
    assert_same_outcomes(area, plain, share(new_names(), area))


def test_calls_with_odd_and_bad_paths(area: Path, plain: Path) -> None:
    assert_same_outcomes(area, plain, share(odd_paths(), area))


@pytest.mark.long
@pytest.mark.parametrize("number", range(len(ON_OBJECTS)))
def test_a_call_on_every_object_in_every_situation(area: Path, plain: Path, number: int) -> None:
    assert_same_outcomes(area, plain, on_objects(number, ON_OBJECTS[number]))


@pytest.mark.long
def test_every_call_that_makes_names_and_every_odd_path_everywhere(area: Path, plain: Path) -> None:
    assert_same_outcomes(area, plain, new_names() + [case._replace(name=f"odd-{case.name}") for case in odd_paths()])
