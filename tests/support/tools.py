"""Ordinary programs, run as children with a limit, so that nothing here can hang on a mount."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDLIB: Final = Path(sysconfig.get_paths()["stdlib"])
_SUBSET: Final = ("asyncio", "email", "json", "unittest", "encodings", "logging", "xml", "ctypes", "sqlite3", "wsgiref")
_SKIPPED: Final = ("--exclude=site-packages", "--exclude=dist-packages")

NOREPLACE: Final = 1
EXCHANGE: Final = 2
UTIME_NOW: Final = (1 << 30) - 1
UTIME_OMIT: Final = (1 << 30) - 2
_AT_FDCWD: Final = -100
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def tool(
    *command: str | bytes | Path,
    cwd: Path | None = None,
    code: int = 0,
    timeout_s: float = 120,
    uid: int | None = None,
) -> str:
    """Run a program of which the exit status `code` is expected; returns what it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, "LC_ALL": "C", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"},
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )
    said = done.stdout.decode(errors="surrogateescape")
    assert done.returncode == code, f"{command} ended with {done.returncode}\n{said[-2000:]}\n{done.stderr[-2000:]!r}"
    return said


@contextlib.contextmanager
def failing(*numbers: int) -> Iterator[None]:
    """The block must end with an OSError, of one of these errnos if any are given."""
    try:
        yield
    except OSError as trouble:
        if numbers and trouble.errno not in numbers:
            wanted = ", ".join(errno.errorcode[number] for number in numbers)
            raise AssertionError(f"{errno.errorcode.get(trouble.errno or 0)}, not {wanted}: {trouble}") from trouble
        return
    raise AssertionError(f"nothing failed, {', '.join(errno.errorcode[n] for n in numbers) or 'an error'} was expected")


def python(script: str, *arguments: str | Path, timeout_s: float = 120) -> str:
    """Run a few lines of Python in a child of their own."""
    return tool(sys.executable, "-c", script, *arguments, timeout_s=timeout_s)


@contextlib.contextmanager
def scripts(script: str, *arguments: Sequence[str | Path]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run a few lines of Python in several children at once, one a tuple of arguments; none outlives the block."""
    with contextlib.ExitStack() as stack:
        running = []
        for given in arguments:
            command = [sys.executable, "-c", script, *map(str, given)]
            running.append(stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL)))
            stack.callback(running[-1].kill)
        yield running


def library(destination: Path, *, full: bool = False) -> Path:
    """Copy real files to `destination`: the Python standard library, or about 500 files of it."""
    destination.mkdir(parents=True)
    sources: Sequence[Path] = [STDLIB] if full else [STDLIB / name for name in _SUBSET]
    tool("rsync", "-a", *_SKIPPED, *sources, destination, timeout_s=300)
    return destination


def renameat2(old: Path | str | bytes, new: Path | str | bytes, flags: int, *, directory: int = _AT_FDCWD) -> None:
    """rename(2) with flags, which the standard library does not offer; relative paths are below `directory`."""
    if _LIBC.renameat2(directory, os.fsencode(old), directory, os.fsencode(new), ctypes.c_uint(flags)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(old), None, os.fspath(new))


def set_times(path: bytes, atime_s: int, mtime_s: int) -> None:
    """utimensat(2): seconds, `UTIME_NOW` or `UTIME_OMIT` for each time, which the standard library does not offer."""
    special = {UTIME_NOW, UTIME_OMIT}
    parts = [part for time in (atime_s, mtime_s) for part in ((0, time) if time in special else (time, 0))]
    _check(_LIBC.utimensat(_AT_FDCWD, path, (ctypes.c_long * 4)(*parts), 0))


def allocate(fd: int, mode: int, offset: int, size: int) -> None:
    """fallocate(2), without the C library's way round for file systems that cannot."""
    _check(_LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)))


def _check(answer: int) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
