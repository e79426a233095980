"""FIFOs, sockets and devices are names with a type; nothing of them ever blocks the daemon."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from pathlib import Path

import pytest

from tests.support.compare import assert_same

pytestmark = pytest.mark.timeout(60)


def test_a_fifo_connects_two_programs(area: Path) -> None:
    os.mkfifo(area / "pipe", 0o620)
    assert stat.S_ISFIFO(os.lstat(area / "pipe").st_mode)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((area / "pipe").read_bytes()))
    reader.start()
    (area / "pipe").write_bytes(b"through the pipe")
    reader.join(10)
    assert got == [b"through the pipe"]


def test_a_socket_can_be_bound_connected_and_removed(area: Path, tmp_path: Path) -> None:
    short = Path("/tmp") / f"fusestore-{os.getpid()}"  # socket paths are limited to 107 bytes
    short.symlink_to(area)
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(str(short / "s"))
            assert stat.S_ISSOCK(os.lstat(area / "s").st_mode)
            server.listen()
            client.connect(str(short / "s"))
            client.sendall(b"hello")
            with server.accept()[0] as peer:
                assert peer.recv(5) == b"hello"
        os.unlink(area / "s")
        assert os.listdir(area) == []
    finally:
        short.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="devices need root")
def test_devices_keep_their_numbers(area: Path, plain: Path) -> None:
    for place in (area, plain):
        os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(place / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    assert_same(plain, area, ignore=frozenset({"mtime_ns"}))


def test_special_files_are_renamed_linked_and_removed_like_others(area: Path) -> None:
    os.mkfifo(area / "a")
    os.rename(area / "a", area / "b")
    os.link(area / "b", area / "c")
    assert os.lstat(area / "b").st_nlink == 2
    os.chmod(area / "b", 0o600)
    assert stat.S_IMODE(os.lstat(area / "c").st_mode) == 0o600
    (area / "d").mkdir()
    os.rename(area / "c", area / "d" / "c")
    os.unlink(area / "b")
    shutil.rmtree(area / "d")
    assert os.listdir(area) == []
