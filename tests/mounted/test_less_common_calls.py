"""What programs use now and then: locks, leases, watches, handles, huge files, running programs, big directories.

What the kernel interface does not pass on says so, and the documented way round works.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.tools import allocate, failing, python, tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

MIB: Final = 1 << 20
TIB: Final = 1 << 40
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

LOCKS: Final = {
    "POSIX": "import fcntl; fcntl.lockf(file, fcntl.LOCK_EX{wait})",
    "flock": "import fcntl; fcntl.flock(file, fcntl.LOCK_EX{wait})",
    "OFD": "import fcntl, struct; fcntl.fcntl(file, {ofd}, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0))",
}
HOLD: Final = "import sys; file = open(sys.argv[1], 'r+b'); {lock}; print('held', flush=True); sys.stdin.read()"


def locker(lock: str, path: Path, *, wait: bool) -> subprocess.Popen[str]:
    """A program that takes a lock, says so, and holds it until its input ends."""
    text = LOCKS[lock].format(
        wait="" if wait else " | fcntl.LOCK_NB", ofd=38 if wait else 37
    )  # F_OFD_SETLKW, F_OFD_SETLK
    command = [sys.executable, "-c", HOLD.format(lock=text), str(path)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_off_other_processes_until_its_holder_ends(area: Path, lock: str) -> None:
    path = area / "locked"
    path.write_bytes(b"x")
    with locker(lock, path, wait=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with locker(lock, path, wait=False) as refused:
            assert refused.wait(20) == 1
        with locker(lock, path, wait=True) as second:
            assert second.stdout is not None
            first.kill()  # a lock ends with its holder, in whatever way that ends
            assert second.stdout.readline() == "held\n"
            second.communicate("")


def test_a_lease_is_granted_and_told_of(area: Path) -> None:
    path = area / "leased"
    path.write_bytes(b"x")
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        os.close(fd)


def test_inotify_tells_the_same_of_changes_made_through_the_mount(area: Path, plain: Path) -> None:
    told = []
    for top in (area, plain):
        watch = _LIBC.inotify_init1(os.O_NONBLOCK)
        assert _LIBC.inotify_add_watch(watch, os.fsencode(top), 0xFFF) > 0
        (top / "one").write_bytes(b"x")
        os.rename(top / "one", top / "two")
        (top / "two").chmod(0o600)
        (top / "two").unlink()
        told.append(os.read(watch, 65_536)[4:])
        os.close(watch)
    shown = [[struct.unpack_from("I", events, at)[0] for at in range(0, len(events), 4)] for events in told]
    assert [masks(each) for each in shown] == [masks(shown[1])] * 2


def masks(words: list[int]) -> list[int]:
    """What kinds of events came, in order; each is followed by a cookie, and a name padded to 16 bytes."""
    found, at = [], 0
    while at < len(words):
        found.append(words[at])
        at += 4 + words[at + 2] // 4
    return found


class FileHandle(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint), ("type", ctypes.c_int), ("bytes", ctypes.c_char * 128))


@pytest.mark.skipif(os.geteuid() != 0, reason="open_by_handle_at needs root")
def test_a_file_is_found_by_its_handle_and_not_once_it_is_gone(area: Path) -> None:
    path = area / "file"
    path.write_bytes(b"content")
    handle, mount = FileHandle(size=128), ctypes.c_int()
    assert _LIBC.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0) == 0
    top = os.open(area, os.O_RDONLY)
    try:
        fd = _LIBC.open_by_handle_at(top, ctypes.byref(handle), os.O_RDONLY)
        assert os.read(fd, 10) == b"content"
        os.close(fd)
        path.unlink()
        assert _LIBC.open_by_handle_at(top, ctypes.byref(handle), os.O_RDONLY) == -1
        assert ctypes.get_errno() == errno.ESTALE
    finally:
        os.close(top)


def test_files_of_terabytes_are_kept_sparse_and_what_is_too_large_is_efbig(area: Path, plain: Path) -> None:
    for top in (area, plain):
        with (top / "huge").open("w+b") as file:
            assert os.pwrite(file.fileno(), b"far", 3 * TIB) == 3
            assert os.pread(file.fileno(), 9, 3 * TIB - 3) == b"\0\0\0far"
            assert os.fstat(file.fileno()).st_size == 3 * TIB + 3
            assert os.fstat(file.fileno()).st_blocks * 512 < MIB
            with failing(errno.EFBIG):
                os.ftruncate(file.fileno(), 1 << 62)
            with failing(errno.EFBIG):
                os.pwrite(file.fileno(), b"x", 1 << 60)
            os.ftruncate(file.fileno(), 0)


def test_a_limit_on_the_size_of_files_counts(area: Path) -> None:
    script = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
print(os.write(fd, bytes(2000)))
for call in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 2000)):
    try:
        call()
    except OSError as error:
        print(error.errno)
"""
    assert python(script, area / "limited").split() == ["1000", str(errno.EFBIG), str(errno.EFBIG)]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
    assert (area / "limited").stat().st_size == 1000


def test_programs_run_from_the_mount_and_cannot_be_written_meanwhile(area: Path) -> None:
    shutil.copy("/bin/cat", area / "program")
    with subprocess.Popen([area / "program"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"through\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"through\n"
        for change in (lambda: os.open(area / "program", os.O_WRONLY), lambda: os.truncate(area / "program", 0)):
            with failing(errno.ETXTBSY):
                change()
        (area / "program").unlink()
        running.stdin.write(b"still\n")
        running.stdin.close()
        assert running.stdout.readline() == b"still\n"
    (area / "script").write_text("#!/bin/sh\nexit 3\n")
    with failing(errno.EACCES):
        subprocess.run([area / "script"], check=False)
    (area / "script").chmod(0o755)
    assert subprocess.run([area / "script"], check=False).returncode == 3
    with (area / "script").open("r+b"), failing(errno.ETXTBSY):
        subprocess.run([area / "script"], check=False)


def test_what_a_shrunk_file_no_longer_has_cannot_be_touched_through_a_map(area: Path) -> None:
    script = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.ftruncate(fd, 2 * mmap.PAGESIZE)
view = mmap.mmap(fd, 0)
os.ftruncate(fd, 10)
print(view[5], flush=True)
view[mmap.PAGESIZE]
"""
    tool(sys.executable, "-c", script, area / "mapped", code=-signal.SIGBUS)


def test_direct_reads_and_writes_go_past_the_cache_and_agree_with_it(area: Path) -> None:
    path = area / "direct"
    path.write_bytes(b"a" * 8192)
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as buffer:
            assert os.preadv(fd, [buffer], 4096) == 4096
            assert buffer[:] == b"a" * 4096
            buffer[:] = b"b" * 4096
            assert os.pwritev(fd, [buffer], 0) == 4096
    finally:
        os.close(fd)
    assert path.read_bytes() == b"b" * 4096 + b"a" * 4096


def test_attributes_are_as_long_as_anywhere_and_longer_ones_are_refused(area: Path) -> None:
    (area / "file").touch()
    os.setxattr(area / "file", b"user." + b"n" * 250, b"v" * 1000)
    for name, size, trouble in ((b"user." + b"n" * 251, 1, errno.ERANGE), (b"user.v", 65_537, errno.E2BIG)):
        with failing(trouble):
            os.setxattr(area / "file", name, b"v" * size)
    buffer = ctypes.create_string_buffer(2000)
    path, name = os.fsencode(area / "file"), b"user." + b"n" * 250
    assert _LIBC.getxattr(path, name, buffer, 0) == 1000
    assert _LIBC.getxattr(path, name, buffer, 999) == -1
    assert ctypes.get_errno() == errno.ERANGE
    assert _LIBC.getxattr(path, name, buffer, 1000) == 1000


def test_a_path_of_4095_bytes_leads_to_its_file_and_a_longer_one_is_too_long(area: Path, plain: Path) -> None:
    for top in (area, plain):
        python(
            """
import os, sys
os.chdir(sys.argv[1])
deep = "/".join(["d" * 199] * 20)
os.makedirs(deep)
name = deep + "/" + "f" * (4095 - len(deep) - 1)
open(name, "w").close()
assert os.stat(name).st_size == 0
for call in (os.stat, os.unlink, os.mkdir):
    try:
        call(name + "f")
    except OSError as error:
        assert error.errno == 36, error
    else:
        raise AssertionError(call)
os.unlink(name)
""",
            top,
        )


def test_what_the_kernel_interface_does_not_pass_on_is_refused_and_tools_find_their_way(area: Path) -> None:
    refusals: list[Callable[[int], object]] = [
        lambda fd: allocate(fd, 0, 0, 10_000),
        lambda fd: allocate(fd, 3, 0, 4096),  # punch a hole, keep the size
        lambda _: os.open(area, os.O_TMPFILE | os.O_RDWR, 0o600),
    ]
    with (area / "file").open("w+b") as file:
        file.write(b"data" * 1000)
        file.flush()
        for refused in refusals:
            with failing(errno.EOPNOTSUPP):
                refused(file.fileno())
        os.posix_fallocate(file.fileno(), 0, 50_000)  # the C library writes instead
        assert os.fstat(file.fileno()).st_size == 50_000
        assert os.pread(file.fileno(), 4000, 0) == b"data" * 1000
        os.ftruncate(file.fileno(), MIB)
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0  # all of it counts as data
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == MIB
        with (area / "copy").open("w+b") as copy:
            assert os.copy_file_range(file.fileno(), copy.fileno(), 4000, 0) == 4000
            assert os.pread(copy.fileno(), 5000, 0) == b"data" * 1000
    with tempfile.TemporaryFile(dir=area) as unnamed:
        unnamed.write(b"x")
        assert os.fstat(unnamed.fileno()).st_nlink == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_a_set_gid_bit_without_the_groups_execute_bit_stays_at_a_write_by_others(area: Path) -> None:
    path = area / "file"
    path.touch()
    path.chmod(0o2666)
    tool("sh", "-c", f"echo x > {path}", uid=1001)
    assert path.stat().st_mode & 0o7777 == 0o2666


def seeks(directory: Path) -> list[str]:
    """Read a directory, and again by seekdir(3) to places that telldir(3) gave, backwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.opendir.argtypes = [ctypes.c_char_p]
    libc.readdir.argtypes = libc.telldir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
    libc.telldir.restype = ctypes.c_long
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    stream = libc.opendir(os.fsencode(directory))
    places, names = [], []
    while True:
        place = libc.telldir(stream)
        entry = libc.readdir(stream)
        if not entry:
            break
        places.append(place)
        names.append(ctypes.string_at(entry + 19))
    again = []
    step = max(len(places) // 40, 1)
    for place in places[::-step]:
        libc.seekdir(stream, place)
        again.append(ctypes.string_at(libc.readdir(stream) + 19))
    libc.closedir(stream)
    assert again == names[::-step]
    return sorted(os.fsdecode(name) for name in names if name not in (b".", b".."))


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_a_big_directory_is_listed_whole_and_any_place_in_it_can_be_gone_back_to(area: Path, count: int) -> None:
    names = sorted(f"entry-{number}" for number in range(count))
    for name in names:
        os.mknod(area / name)
    assert sorted(os.listdir(area)) == names
    assert seeks(area) == names
    for name in names[::2]:
        (area / name).unlink()
    assert seeks(area) == names[1::2]
    shutil.rmtree(area)
