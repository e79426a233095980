"""The rules of rights are the kernel's: compared with what it answers real users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fusestore.core.rights import READ, SEARCH, WRITE, Asker, may
from fusestore.model import Inode, InodeNo

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60), pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")]

MODES = (0o000, 0o007, 0o070, 0o700, 0o077, 0o707, 0o421, 0o142, 0o214, 0o750, 0o1777, 0o2770)
OWNERS = ((4701, 4701), (4702, 4701), (4702, 4703), (4702, 4704), (0, 0))
ASKERS = ((4701, 4701, ()), (4701, 4705, (4703, 4704)), (4705, 4703, ()), (0, 0, ()))
ASK = """
import json, os, sys
uid, gid, groups = json.loads(sys.argv[1])
os.chdir(sys.argv[2])
os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
print(json.dumps({name: sum(bit for bit in (4, 2, 1) if os.access(name, bit)) for name in json.loads(sys.argv[3])}))
"""


def directory(mode: int, uid: int, gid: int) -> Inode:
    rest: dict[str, Any] = dict.fromkeys(("rdev", "size", "nlink", "atime_ns", "mtime_ns", "ctime_ns", "created_ns"), 0)
    return Inode(**{"number": InodeNo(300), "id": bytes(16), "mode": mode, "uid": uid, "gid": gid, **rest})


def test_every_right_is_what_the_kernel_says_to_real_users(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    directories: dict[str, Inode] = {}
    for mode in MODES:
        for uid, gid in OWNERS:
            name = f"{mode:o}-{uid}-{gid}"
            (tmp_path / name).mkdir()
            os.chown(tmp_path / name, uid, gid)
            (tmp_path / name).chmod(mode)
            stat = (tmp_path / name).stat()
            directories[name] = directory(stat.st_mode, uid, gid)
    for uid, gid, groups in ASKERS:
        asked = json.dumps([uid, gid, groups]), os.fspath(tmp_path), json.dumps(list(directories))
        done = subprocess.run([sys.executable, "-I", "-c", ASK, *asked], capture_output=True, check=True, timeout=60)
        asker = Asker(uid, (gid, *groups))
        for name, allowed in json.loads(done.stdout).items():
            found = sum(right for right in (READ, WRITE, SEARCH) if may(asker, directories[name], right))
            assert found == allowed, (asker, name)
            assert may(asker, directories[name], allowed)


def test_whoever_is_nobody_in_particular_may_everything() -> None:
    assert may(None, directory(0o40000, 4701, 4701), READ | WRITE | SEARCH)
