"""What the daemon has done in its own mount, by another process and with the rights of whoever it is for.

Run as a script, with one line of JSON and then a body on standard input; says on standard output what came of it. The
kernel checks the rights, and knows the names that come and go as it knows those of any program (decision 0007). Not in
the daemon: one that waits in its own mount for itself could not be killed. `errands` is its other end.

Starting is most of the cost, so little is imported; and that before it becomes another user, who may not be allowed to
read Python's own files.

Whatever fails takes back what it has begun. A name is either given up whole or not touched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

UMASK = 0o022
RENAME_NOREPLACE = 1
AT_FDCWD = -100
ID = "user.fusestore.id"
SHORT_DIGITS = 8  # of an id, from its end: those at its beginning are the time
NAME_MAX = 255


def rename(old: str, new: str) -> None:
    """Rename to a name that is free."""
    import ctypes  # noqa: PLC0415  (it takes its time, and only this, done as ourselves, needs it)

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), new)


def unlink(paths: list[str]) -> int:
    """Remove names; those that are gone already do not count."""
    removed = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            removed += 1
    return removed


def register(directory: str, name: str, mode: int, attributes: dict[str, str], body: bytes) -> dict[str, str]:
    """Make a new file of this content; under another name that says its id, if this one is taken."""
    try:
        path = os.path.join(directory, name)
        fd = _create(path, mode)
    except FileExistsError:
        path = _unused(directory)
        fd = _create(path, mode)
    with _taken_back(fd, path):
        _write(fd, body)
        for attribute, value in attributes.items():
            with _where_supported():
                os.setxattr(fd, attribute, os.fsencode(value))
        id = os.fsdecode(os.getxattr(fd, ID))
        os.fsync(fd)
        if os.path.basename(path) != name:
            digits = id.replace("-", "")
            shown = os.path.join(directory, _with_id(name, digits[-SHORT_DIGITS:]))
            if os.path.lexists(shown):
                shown = os.path.join(directory, _with_id(name, digits))
            os.rename(path, shown)
            path = shown
            os.fsync(fd)  # also the name
    return {"id": id, "name": os.path.basename(path)}


@contextlib.contextmanager
def _where_supported() -> Iterator[None]:
    """A disk may have no place for attributes; the content is what counts."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def _with_id(name: str, digits: str) -> str:
    """A name with these digits before its suffixes, cut where it would be too long."""
    stem, dot, suffix = (os.fsencode(part) for part in name.partition("."))
    if not stem:
        stem, dot, suffix = os.fsencode(name), b"", b""
    ending = b"-" + digits.encode() + (dot + suffix)[: NAME_MAX // 2]
    return os.fsdecode(stem[: NAME_MAX - len(ending)] + ending)


def _unused(directory: str) -> str:
    return os.path.join(directory, f".{os.urandom(8).hex()}")


def write(path: str, body: bytes) -> str:
    """Put another file of this content in the place of one, with its owner, mode and attributes; returns its id."""
    before = os.lstat(path)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    beside = _unused(os.path.dirname(path))
    fd = _create(beside, 0o600)
    with _taken_back(fd, beside):
        _write(fd, body)
        if (before.st_uid, before.st_gid) != (os.fstat(fd).st_uid, os.fstat(fd).st_gid):
            os.chown(fd, before.st_uid, before.st_gid)
        for attribute in os.listxattr(path):
            if attribute.startswith("user."):
                os.setxattr(fd, attribute, os.getxattr(path, attribute))
        os.chmod(fd, before.st_mode & 0o7777)
        os.fsync(fd)
        id = os.fsdecode(os.getxattr(fd, ID))
        os.rename(beside, path)
        os.fsync(fd)
    return id


def _create(path: str, mode: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


@contextlib.contextmanager
def _taken_back(fd: int, path: str) -> Iterator[None]:
    """Close a new file in the end, and remove it if something fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def _write(fd: int, body: bytes) -> None:
    left = memoryview(body)
    while left:
        left = left[os.write(fd, left) :]


DEEDS: dict[str, Callable[..., Any]] = {"rename": rename, "unlink": unlink, "register": register, "write": write}


def main() -> None:
    """Become who is asked for, do what is asked for, and say what came of it."""
    line, body = sys.stdin.buffer.readline(), sys.stdin.buffer.read()
    asked = json.loads(line) if line.endswith(b"\n") else None
    if asked is None or len(body) != asked["size"]:
        return  # whoever asked is gone
    arguments = {**asked["arguments"], **({"body": body} if asked["has_body"] else {})}
    os.umask(UMASK)
    try:
        if asked["user"] is not None:
            uid, gids = asked["user"]
            os.setgroups(gids)
            os.setresgid(gids[0], gids[0], gids[0])
            os.setresuid(uid, uid, uid)
        told = {"done": DEEDS[asked["deed"]](**arguments)}
    except OSError as error:
        told = {"errno": error.errno or errno.EIO, "path": error.filename}
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(told).encode())


if __name__ == "__main__":
    main()
