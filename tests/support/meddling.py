"""What others do on a root's disk: system calls and ordinary tools, on paths drawn from what lies there now."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.tools import EXCHANGE, NOREPLACE, renameat2

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER: Final = ".fusestore"
# What a file system answers to somebody who asks for the impossible; a drawn change may be impossible.
IMPOSSIBLE: Final = {
    errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EINVAL, errno.EPERM, errno.ELOOP,
    errno.ESTALE,  # a path whose directory was replaced
}  # fmt: skip


class Meddler:
    """Somebody who changes a directory behind the daemon's back; the marker of the root is left alone.

    Args:
        away: a directory on the same file system, out of everybody's sight.
    """

    def __init__(self, disk: Path, away: Path) -> None:
        self.disk = disk
        self.away = away
        self._names = 0

    def paths(self, *kinds: int) -> list[Path]:
        """What lies there, of these types (`stat.S_IFREG` and the like; none: all)."""
        found = []
        for directory, names, files in os.walk(self.disk):
            if MARKER in names:
                names.remove(MARKER)
            found += [Path(directory, name) for name in (*names, *files)]
        return sorted(path for path in found if not kinds or _kind(path) in kinds)

    def do(self, what: str, path: Path, other: Path, data: bytes) -> bool:
        """Make one change; False if it was impossible."""
        change: Callable[[Path, Path, bytes], None] = getattr(self, what)
        try:
            change(path, other, data)
        except OSError as error:
            if error.errno not in IMPOSSIBLE:
                raise
            return False
        except shutil.Error:
            return False
        return True

    # -- content ----------------------------------------------------------------------------------------------------

    def write(self, path: Path, other: Path, data: bytes) -> None:
        path.write_bytes(data)

    def append(self, path: Path, other: Path, data: bytes) -> None:
        with open(path, "r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(data)

    def truncate(self, path: Path, other: Path, data: bytes) -> None:
        os.truncate(path, len(data))

    def rewrite_in_secret(self, path: Path, other: Path, data: bytes) -> None:
        """As rsync and tar do: the mtime is put back, and here the size is as it was, too."""
        before = path.stat()
        with open(path, "r+b") as file:
            file.write(bytes(byte ^ 1 for byte in file.read()) if not data else data[: before.st_size])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def map(self, path: Path, other: Path, data: bytes) -> None:
        """Write through a shared mapping, in the middle of a hole."""
        with open(path, "r+b") as file:
            file.truncate(3 * mmap.PAGESIZE)
            with mmap.mmap(file.fileno(), 3 * mmap.PAGESIZE) as memory:
                memory[mmap.PAGESIZE : mmap.PAGESIZE + len(data)] = data
                memory.flush()

    # -- attributes -------------------------------------------------------------------------------------------------

    def chmod(self, path: Path, other: Path, data: bytes) -> None:
        path.chmod(0o700 | len(data) % 8)

    def chown(self, path: Path, other: Path, data: bytes) -> None:
        if os.geteuid() == 0:
            os.chown(path, len(data), len(data), follow_symlinks=False)

    def set_time(self, path: Path, other: Path, data: bytes) -> None:
        os.utime(path, ns=(10**18, 10**18 + len(data)), follow_symlinks=False)

    def label(self, path: Path, other: Path, data: bytes) -> None:
        os.setxattr(path, "user.theirs", data)

    # -- names ------------------------------------------------------------------------------------------------------

    def mkdir(self, path: Path, other: Path, data: bytes) -> None:
        other.mkdir()

    def symlink(self, path: Path, other: Path, data: bytes) -> None:
        other.symlink_to("some/where")

    def link(self, path: Path, other: Path, data: bytes) -> None:
        os.link(path, other, follow_symlinks=False)

    def create(self, path: Path, other: Path, data: bytes) -> None:
        other.write_bytes(data)

    def remove(self, path: Path, other: Path, data: bytes) -> None:
        path.unlink()

    def remove_tree(self, path: Path, other: Path, data: bytes) -> None:
        shutil.rmtree(path)

    def rename(self, path: Path, other: Path, data: bytes) -> None:
        path.rename(other)

    def exchange(self, path: Path, other: Path, data: bytes) -> None:
        renameat2(path, other, EXCHANGE)

    def replace(self, path: Path, other: Path, data: bytes) -> None:
        """As editors and rsync do: a new file is renamed over the old one."""
        self.away.joinpath("new").write_bytes(data)
        self.away.joinpath("new").rename(path)

    def recreate(self, path: Path, other: Path, data: bytes) -> None:
        """The name is free for a moment; ext4 gives the new file the old one's inode number."""
        path.unlink()
        path.write_bytes(data)

    def recreate_directory(self, path: Path, other: Path, data: bytes) -> None:
        shutil.rmtree(path)
        path.mkdir()

    def rotate(self, path: Path, other: Path, data: bytes) -> None:
        """As logrotate does."""
        path.rename(other)
        path.write_bytes(data)

    def take_out(self, path: Path, other: Path, data: bytes) -> None:
        """Out of the root, on the same disk; `bring_back` may bring it back."""
        self._names += 1
        path.rename(self.away / f"taken-{self._names}")

    def bring_back(self, path: Path, other: Path, data: bytes) -> None:
        for taken in sorted(self.away.glob("taken-*")):
            renameat2(taken, other, NOREPLACE)
            return

    # -- tools ------------------------------------------------------------------------------------------------------

    def cp(self, path: Path, other: Path, data: bytes) -> None:
        """With all attributes, the daemon's own labels among them."""
        _run("cp", "-a", "--no-target-directory", path, other)

    def rsync(self, path: Path, other: Path, data: bytes) -> None:
        """A mirror of one directory in another."""
        if path.is_dir() and other.is_dir() and not other.is_relative_to(path) and not path.is_relative_to(other):
            _run("rsync", "-aX", "--delete", f"--exclude=/{MARKER}", f"{path}/", f"{other}/")

    def rsync_in_place(self, path: Path, other: Path, data: bytes) -> None:
        if path.is_file() and not path.is_symlink():
            _run("rsync", "-a", "--inplace", path, other)

    def tar(self, path: Path, other: Path, data: bytes) -> None:
        """Packed, and unpacked over what has become of it meanwhile."""
        archive = self.away / "archive.tar"
        _run("tar", "-C", self.disk, f"--exclude={MARKER}", "-cf", archive, path.relative_to(self.disk))
        with contextlib.suppress(OSError):
            path.write_bytes(data)
        _run("tar", "-C", self.disk, "-xf", archive)


CHANGES: Final = tuple(
    name for name in vars(Meddler) if not name.startswith("_") and name not in ("paths", "do")
)  # fmt: skip


def _kind(path: Path) -> int:
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except OSError as error:
        if error.errno in IMPOSSIBLE:
            return 0  # gone since the listing
        raise


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=False, capture_output=True, timeout=20, env={**os.environ, "LC_ALL": "C"})
