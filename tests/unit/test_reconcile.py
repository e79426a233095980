"""What an observation of the disk means for an inode that the index knows."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusestore.core.reconcile import Verdict, compare
from fusestore.model import Backing, Inode
from tests.support.indexes import DIRECTORY, FILE, MAIN, inode

BTIME_NS = 5


def known(mode: int = FILE, **fields: Any) -> Inode:
    return inode(300, mode, backing=Backing(MAIN, 77, BTIME_NS), size=10, mtime_ns=20, ctime_ns=30, **fields)


def seen(
    mode: int = FILE,
    *,
    st_ino: int = 77,
    size: int = 10,
    mtime_ns: int = 20,
    ctime_ns: int = 30,
    uid: int = 0,
    nlink: int = 1,
) -> os.stat_result:
    plain = (mode, st_ino, 1, nlink, uid, 0, size, 0, 0, 0)
    return os.stat_result(plain, {"st_atime_ns": 0, "st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns, "st_rdev": 0})


CASES = [
    ("nothing changed", {}, Verdict.SAME),
    ("grown", {"size": 11, "ctime_ns": 31}, Verdict.CONTENT),
    ("rewritten", {"mtime_ns": 21, "ctime_ns": 31}, Verdict.CONTENT),
    ("rewritten and chowned", {"mtime_ns": 21, "uid": 9, "ctime_ns": 31}, Verdict.CONTENT),
    ("chowned", {"uid": 9, "ctime_ns": 31}, Verdict.ATTRIBUTES),
    ("chmodded", {"mode": FILE ^ 0o044, "ctime_ns": 31}, Verdict.ATTRIBUTES),
    ("linked", {"nlink": 2, "ctime_ns": 31}, Verdict.ATTRIBUTES),
    ("rewritten with the mtime put back", {"ctime_ns": 31}, Verdict.SUSPECT),
    ("another object", {"st_ino": 78}, Verdict.REPLACED),
    ("another type", {"mode": stat.S_IFIFO | 0o644}, Verdict.REPLACED),
]


@pytest.mark.parametrize(("fields", "verdict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_file_is_judged_by(fields: dict[str, int], verdict: Verdict) -> None:
    assert compare(known(), seen(**fields), BTIME_NS, links=True) is verdict


def test_the_same_number_with_another_birth_time_is_another_object() -> None:
    """ext4 gives the number of a deleted file to the next one at once."""
    assert compare(known(), seen(), BTIME_NS + 1, links=True) is Verdict.REPLACED


def test_links_do_not_count_while_some_names_have_no_disk_object() -> None:
    assert compare(known(), seen(nlink=2, ctime_ns=31), BTIME_NS, links=False) is Verdict.SUSPECT


def test_a_directory_changes_by_owner_and_mode_only() -> None:
    assert (
        compare(known(DIRECTORY), seen(DIRECTORY, size=4096, mtime_ns=99, ctime_ns=99), BTIME_NS, links=True)
        is Verdict.SAME
    )
    assert compare(known(DIRECTORY), seen(DIRECTORY, uid=9), BTIME_NS, links=True) is Verdict.ATTRIBUTES


@given(st.integers(0, 12), st.integers(18, 22), st.integers(29, 31), st.sampled_from([0, 9]))
def test_no_change_of_content_is_ever_called_harmless(size: int, mtime_ns: int, ctime_ns: int, uid: int) -> None:
    """A disk moves the ctime at every change; whatever else it shows, that is never taken for nothing."""
    verdict = compare(known(), seen(size=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns, uid=uid), BTIME_NS, links=True)
    if ctime_ns != 30:
        assert verdict is not Verdict.SAME
        if (size, mtime_ns) != (10, 20):
            assert verdict is Verdict.CONTENT
