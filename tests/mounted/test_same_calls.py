"""Random system calls, made in the mount and in a plain directory, give the same answers and leave the same trees."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.compare import differences
from tests.support.twins import SLOTS, Call, Side, User

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Mounted

ROOT: Final = User(0, 0)
USERS: Final = [User(1001, 1001, (1001, 3000)), User(1002, 1002), User(1003, 1003, (3000,))]
MODES: Final = [0o644, 0o600, 0o755, 0o700, 0o777, 0o000, 0o1777, 0o2775, 0o4755, 0o6711, 0o444]
DEEP: Final = "up/up"  # symlinks and ".." may lead up from the directory that is played on, but not to other turns
FLAGS: Final = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR]
EXTRA: Final = [0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_CREAT | os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW]
EXTRA_DIR: Final = [os.O_DIRECTORY, os.O_CREAT | os.O_APPEND, os.O_DIRECTORY | os.O_NOFOLLOW]

_names = st.sampled_from([b"a", b"b", b"c", b"d"])
_paths = st.one_of(
    _names,
    st.lists(_names, min_size=1, max_size=3).map(b"/".join),
    st.sampled_from(
        [b"a/", b"a/.", b"a/..", b"b/../c", b".", b"a/b/", b"x" * 255, b"x" * 256, b"", b"a/" + b"y" * 256]
    ),
)
_slots = st.integers(0, SLOTS - 1)
_modes = st.sampled_from(MODES)
_data = st.binary(max_size=64).map(lambda data: data * 200)
_sizes = st.sampled_from([0, 1, 100, 4095, 4096, 4097, 70_000])
_ids = st.sampled_from([-1, 0, 1001, 1002, 3000])
_offsets = st.sampled_from([0, 1, 4095, 4096, 10_000, 200_000])
_xattrs = st.sampled_from(["user.one", "user.two", "user.", "trusted.one", "security.one", "nonsense"])


def _call(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(name), st.tuples(*arguments))


_calls = st.one_of(
    _call("mkdir", _paths, _modes),
    _call("mkdir", _names, st.just(0o777)),
    _call("mknod", _paths, st.sampled_from([0o100644, 0o010666, 0o140777])),
    _call("symlink", st.one_of(_paths, st.just(b"/nowhere")), _paths),
    _call("link", _paths, _paths),
    _call("unlink", _paths),
    _call("rmdir", _paths),
    _call("rename", _paths, _paths, st.sampled_from([0, 0, 0, 1, 2, 3])),
    _call("listdir", _paths),
    _call("readlink", _paths),
    _call("stat", _paths, st.booleans()),
    _call("access", _paths, st.integers(0, 7)),
    _call("chmod", _paths, _modes),
    _call("chown", _paths, _ids, _ids, st.booleans()),
    _call("utime", _paths, st.sampled_from([0, 1, -5_000_000_000, 1_700_000_000_123_456_789]), st.just(7)),
    _call("touch", _paths),
    _call("truncate", _paths, _sizes),
    _call("setxattr", _paths, _xattrs, st.binary(max_size=20), st.sampled_from([0, 1, 2])),
    _call("getxattr", _paths, _xattrs),
    _call("removexattr", _paths, _xattrs),
    _call("listxattr", _paths),
    _call(
        "open_slot",
        _slots,
        _paths,
        st.tuples(st.sampled_from(FLAGS), st.sampled_from(EXTRA + EXTRA_DIR)).map(sum),
        _modes,
    ),
    _call("open_slot", _slots, _names, st.just(os.O_RDWR | os.O_CREAT), st.just(0o666)),
    _call("close_slot", _slots),
    _call("write_slot", _slots, _data),
    _call("pwrite_slot", _slots, _data, _offsets),
    _call("read_slot", _slots, _sizes.map(lambda size: min(size, 70_000))),
    _call("seek_slot", _slots, _offsets, st.sampled_from([0, 1, 2])),
    _call("truncate", _slots, _sizes),
    _call("chmod", _slots, _modes),
    _call("stat", _slots),
    _call("sync_slot", _slots),
)


def calls(users: list[User]) -> st.SearchStrategy[list[Call]]:
    each = st.tuples(_calls, st.sampled_from(users)).map(lambda made: Call(made[0][0], made[0][1], made[1]))
    return st.lists(each, min_size=5, max_size=40)


_turns = itertools.count(1)


@pytest.fixture(scope="module")
def bench() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="fusestore-plain-", dir="/var/tmp"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


def compare(area: Path, bench: Path, made: list[Call]) -> None:
    turn = f"turn-{next(_turns)}"
    tops = area / turn / DEEP, bench / turn / DEEP
    umask = os.umask(0o022)
    sides = []
    try:
        for top in tops:
            top.mkdir(parents=True)
            top.chmod(0o777)
            sides.append(Side(top))
        for number, call in enumerate(made):
            ours, theirs = (side.play(call) for side in sides)
            assert ours == theirs, f"call {number}, {call}: {ours} here, {theirs} on a plain directory"
        for side in sides:
            side.close()
        sides.clear()
        found = differences(tops[1], tops[0], ignore=frozenset({"mtime_ns"}))
        assert not found, "\n".join(found)
    finally:
        os.umask(umask)
        for side in sides:
            side.close()
        for place in (area, bench):
            _remove(place / turn)


def _remove(top: Path) -> None:
    """Remove a tree that may have directories nobody but root may enter."""
    for directory, names, _ in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(top)


RUN = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck), print_blob=True)
LONG_RUN = settings(RUN, max_examples=1500)
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")


@pytest.mark.timeout(300)
@given(made=calls([ROOT if os.geteuid() == 0 else User(os.getuid(), os.getgid())]))
@RUN
def test_one_user(area: Path, bench: Path, made: list[Call]) -> None:
    compare(area, bench, made)


@only_root
@pytest.mark.timeout(300)
@given(made=calls([ROOT, *USERS]))
@RUN
def test_several_users(area: Path, bench: Path, made: list[Call]) -> None:
    compare(area, bench, made)


@only_root
@pytest.mark.long
@pytest.mark.timeout(3000)
@given(made=calls([ROOT, *USERS]))
@LONG_RUN
def test_several_users_for_long(area: Path, bench: Path, made: list[Call], shared: Mounted) -> None:
    compare(area, bench, made)
