"""Second disks on one machine: an image file, a file system in it, a loop mount; always unmounted and removed again."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.tools import failing

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKE: Final = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-m", "0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
SMALLEST_MB: Final = {"ext4": 8, "xfs": 300}
_TIMEOUT_S: Final = 60
_SHUTDOWN: Final = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
_WITHOUT_LOG: Final = 2


def can_loop(kind: str) -> bool:
    """Whether this machine lets us mount a disk of this kind."""
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and shutil.which(MAKE[kind][0]) is not None


class Removable:
    """A disk that can be pulled out while it is in use, and put back in."""

    def __init__(self, image: Path, mountpoint: Path) -> None:
        self.image = image
        self.mountpoint = mountpoint

    def put_in(self) -> None:
        run("mount", "-o", "loop", str(self.image), str(self.mountpoint))

    def pull(self) -> None:
        """Take it out with all that was written to it, as `umount -l` lets one do."""
        unmount(self.mountpoint, lazy=True)

    def yank(self) -> None:
        """Take it out in the middle of whatever goes on: from now on each access fails, what was not synced is lost."""
        fd = os.open(self.mountpoint, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
        finally:
            os.close(fd)
        unmount(self.mountpoint, lazy=True)

    @property
    def is_in_use(self) -> bool:
        """Whether the kernel still works with it."""
        return bool(run("losetup", "-j", str(self.image)))


@contextmanager
def removable_disk(kind: str, size_mb: int = 0, *options: str) -> Iterator[Removable]:
    """Put a new, empty disk of `kind` ("ext4" or "xfs") in.

    Args:
        size_mb: size in MiB, raised to the smallest that the file system allows; the image is sparse.
        options: further ones of mkfs.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"fusestore-{kind}-"))
    disk = Removable(folder / "image", folder / "disk")
    try:
        disk.mountpoint.mkdir()
        with disk.image.open("wb") as file:
            file.truncate(max(size_mb, SMALLEST_MB[kind]) * 1024 * 1024)
        run(*MAKE[kind], *options, str(disk.image))
        disk.put_in()
        try:
            yield disk
        finally:
            unmount(disk.mountpoint)
    finally:
        shutil.rmtree(folder)


@contextmanager
def loop_disk(kind: str, size_mb: int = 0, *options: str) -> Iterator[Path]:
    """The same for a disk that stays where it is; yields its mountpoint."""
    with removable_disk(kind, size_mb, *options) as disk:
        yield disk.mountpoint


@pytest.fixture(scope="module", params=["temporary", *MAKE])
def disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory on the disk of the temporary files, and at the top of one of each other kind."""
    if request.param == "temporary":
        yield tmp_path_factory.mktemp("disk")
        return
    if not can_loop(request.param):
        pytest.skip("loop disks need root")
    with loop_disk(request.param, 64) as mountpoint:
        yield mountpoint


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount a disk, at once or as soon as nobody uses it any more; the loop device goes with it."""
    if not os.path.ismount(mountpoint):
        return
    plain = ("umount", str(mountpoint))
    if lazy or subprocess.run(plain, capture_output=True, timeout=_TIMEOUT_S, check=False).returncode != 0:
        run("umount", "-l", str(mountpoint))


def fill(disk: Path) -> Path:
    """Leave no free byte on a disk; returns the file that takes them."""
    path = disk / "ballast"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with failing(errno.ENOSPC):
                while file.write(bytes(size)):
                    pass
        os.fsync(file.fileno())
    return path


def bytes_below(directory: Path) -> list[str]:
    """Everything with content that a root's directory holds, its marker and manifest left out."""
    found = [path for path in directory.rglob("*") if not path.is_dir() or path.is_symlink()]
    own = ("root.toml", "manifest", "manifest.new")
    return sorted(str(path.relative_to(directory)) for path in found if path.name not in own)


def run(*command: str) -> str:
    """Run one of the system's commands, which must succeed; returns what it said."""
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip()
