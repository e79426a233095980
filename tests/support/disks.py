"""Second disks on one machine: an image file, a file system in it, a loop mount; always unmounted and removed again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKE: Final = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-m", "0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
SMALLEST_MB: Final = {"ext4": 8, "xfs": 300}
_TIMEOUT_S: Final = 60


def can_loop(kind: str) -> bool:
    """Whether this machine lets us mount a disk of this kind."""
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and shutil.which(MAKE[kind][0]) is not None


@contextmanager
def loop_disk(kind: str, size_mb: int = 0) -> Iterator[Path]:
    """Mount a new, empty disk of `kind` ("ext4" or "xfs") and yield its mountpoint.

    Args:
        size_mb: size in MiB, raised to the smallest that the file system allows; the image is sparse.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"fusestore-{kind}-"))
    image, mountpoint = folder / "image", folder / "disk"
    try:
        mountpoint.mkdir()
        with image.open("wb") as file:
            file.truncate(max(size_mb, SMALLEST_MB[kind]) * 1024 * 1024)
        run(*MAKE[kind], str(image))
        run("mount", "-o", "loop", str(image), str(mountpoint))
        try:
            yield mountpoint
        finally:
            unmount(mountpoint)
    finally:
        shutil.rmtree(folder)


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


def run(*command: str) -> str:
    """Run one of the system's commands, which must succeed; returns what it said."""
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip()
