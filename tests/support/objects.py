"""A directory with objects of every kind, and all that can be seen of each in a mount."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

_VIRTUAL: Final = [f"user.fusestore.{name}" for name in ("id", "hash", "version", "state", "root", "name")]


def plant(place: Path) -> None:
    """Fill an existing directory; each thing in it would lose something of its own if it were not carried along."""
    deep = place / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    (place / "top").write_bytes(b"top" * 1000)
    os.link(place / "top", deep / "linked")
    os.link(place / "top", place / "again")
    os.symlink("a/b", place / "symlink")
    os.symlink(b"to \xff nowhere", os.fsencode(deep) + b"/dangling")
    os.mkfifo(place / "fifo", 0o620)
    with open(os.fsencode(place) + b"/not utf-8 \xff\xfe", "wb") as odd:
        odd.write(b"odd")
    (place / "line\nbreak").write_bytes(b"")
    with open(place / "sparse", "wb") as sparse:
        sparse.truncate(1 << 20)
        sparse.seek(1 << 19)
        sparse.write(b"middle")
    os.setxattr(place / "top", "user.colour", b"red")
    os.setxattr(place / "a", "user.colour", b"blue")
    (place / "top").chmod(0o604)
    (place / "a").chmod(0o2751)
    if os.geteuid() == 0:
        os.chown(place / "a" / "b", 1234, 4321)
        os.lchown(place / "symlink", 12, 21)
        os.mknod(place / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (place / "removed").write_bytes(b"removed")
    (place / "removed").unlink()
    for text in (b"one", b"two"):
        (place / "new").write_bytes(text)
        (place / "new").rename(place / "replaced")
    (place / "renamed").mkdir()
    (place / "renamed" / "inside").write_bytes(b"inside")
    (place / "renamed").rename(place / "a" / "moved")
    tool("cp", "-a", place / "a", place / "copy")
    for path in ("top", "a", "a/moved/inside"):
        os.utime(place / path, ns=(10**18, 11 * 10**17 + 5))


class Facts(NamedTuple):
    """What a person or a program can see of one name."""

    inode: int
    mode: int
    nlink: int
    owner: tuple[int, int]
    size: int
    mtime_ns: int
    device: int
    target: str
    xattrs: dict[str, bytes]
    content: bytes


def facts(top: Path) -> dict[str, Facts]:
    """Every name below a directory of a mount, in any root."""
    found = {}
    for directory, names, files in os.walk(os.fsencode(top)):
        for name in names + files:
            path = os.path.join(directory, name)
            found[os.fsdecode(os.path.relpath(path, os.fsencode(top)))] = _facts(path)
    return found


def _facts(path: bytes) -> Facts:
    seen = os.lstat(path)
    is_file, is_dir = stat.S_ISREG(seen.st_mode), stat.S_ISDIR(seen.st_mode)
    xattrs = {}
    for name in [*_VIRTUAL, *os.listxattr(path)] if is_file or is_dir else ():
        try:
            xattrs[name] = os.getxattr(path, name)
        except OSError:
            continue  # a directory has no hash
    content = b""
    if is_file:
        with open(path, "rb") as file:
            content = file.read()
    return Facts(
        inode=seen.st_ino,
        mode=seen.st_mode,
        nlink=seen.st_nlink,
        owner=(seen.st_uid, seen.st_gid),
        size=0 if is_dir else seen.st_size,
        mtime_ns=seen.st_mtime_ns,
        device=seen.st_rdev,
        target=os.fsdecode(os.readlink(path)) if stat.S_ISLNK(seen.st_mode) else "",
        xattrs=xattrs,
        content=content,
    )


def changes(before: dict[str, Facts], after: dict[str, Facts]) -> list[str]:
    """Every difference, named by its path."""
    found = [f"{path!r}: missing" for path in sorted(before.keys() - after.keys())]
    found += [f"{path!r}: not expected" for path in sorted(after.keys() - before.keys())]
    for path in sorted(before.keys() & after.keys()):
        for name, one, two in zip(Facts._fields, before[path], after[path], strict=True):
            if one != two:
                found.append(f"{path!r}: {name} is {two!r}, was {one!r}")
    return found
