"""A reserved file under real tools: `rm` and `mv` onto it are told EBUSY until its connection has ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

from tests.support.daemon import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Mounted


def _says(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, check=False, timeout=30, text=True).stderr


def test_rm_and_mv_are_told_that_it_is_busy_until_the_connection_ends(own: Mounted) -> None:
    reserved, other = own.uploads / "reserved", own.uploads / "other"
    for path in (reserved, other):
        path.write_text(path.name)
    id = os.getxattr(reserved, "user.fusestore.id").decode()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(own.socket))
        request = {"tid": 1, "collectionName": "files", "methodName": "reserve"}
        peer.sendall(json.dumps({**request, "data": {"ids": [id], "owner": "test"}}).encode() + b"\n")
        assert json.loads(peer.makefile().readline())["data"] == {"reserved": [id]}
        assert "busy" in _says("rm", reserved)
        assert "busy" in _says("mv", other, reserved)
        assert reserved.read_text() == "reserved"
        assert other.read_text() == "other"
        assert own.json("explain", reserved)["code"] == "reserved"
    eventually(lambda: not own.json("stat", reserved)["reserved"], "the reservation is gone")
    assert _says("mv", other, reserved) == ""
    assert _says("rm", reserved) == ""
