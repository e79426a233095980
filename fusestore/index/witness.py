"""A witness outside the disk: what had been written when the last run ended.

A small file on a tmpfs, mapped into memory, holds the run and the number of the last log record. It dies with the
machine's memory and survives the process, which is exactly the difference that `index.numbers` needs to know.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY: Final = Path("/dev/shm")  # POSIX shared memory; the name in it is random and opened with care

_RUN: Final = struct.Struct("=16s")
_LAST: Final = struct.Struct("=QQ")  # native: each number is one store, so a kill leaves it old or new
_SIZE: Final = mmap.PAGESIZE


class Testimony(NamedTuple):
    """What a witness says of the run that kept it."""

    run: bytes
    record: int
    seq: int


class Witness:
    """The witness of one run; without a tmpfs it is kept nowhere, and any unclean start counts as a loss."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory: mmap.mmap | bytearray = bytearray(_SIZE)

    def read(self) -> Testimony | None:
        """What the last run left here; None when there is nothing, or nothing that can be ours."""
        with contextlib.suppress(OSError), _opened(self._path, os.O_RDONLY) as fd:
            found = os.fstat(fd)
            ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_size == _SIZE
            if ours and _is_memory(found.st_dev):
                raw = os.pread(fd, _SIZE, 0)
                return Testimony(*_RUN.unpack_from(raw), *_LAST.unpack_from(raw, _RUN.size))
        return None

    def begin(self, run: bytes, record: int, seq: int) -> None:
        """Keep the witness of a run from here on; what was there stays until this one is complete."""
        fresh = self._path.with_name(self._path.name + ".new")
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
            with _opened(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
                os.posix_fallocate(fd, 0, _SIZE)  # a full tmpfs must fail here, not with SIGBUS later
                self._memory = mmap.mmap(fd, _SIZE)
        _RUN.pack_into(self._memory, 0, run)
        self.note(record, seq)
        with contextlib.suppress(OSError):
            fresh.rename(self._path)

    def note(self, record: int, seq: int) -> None:
        """The log has taken `record`, and with it every seq up to `seq`."""
        _LAST.pack_into(self._memory, _RUN.size, record, seq)

    def remove(self) -> None:
        """Nothing is open any more that could be lost."""
        self.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def close(self) -> None:
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()
        self._memory = bytearray(_SIZE)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_memory(device: int) -> bool:
    """Whether a device is a tmpfs: a file that survives a power cut would be a false witness."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, kind = line.partition(" - ")
        if fields.split(" ")[2] == wanted:
            return kind.split(" ")[0] == "tmpfs"
    return False
