"""Two trees compared byte for byte, with everything a disk knows about a file; each difference is named by its path.

Pure looking: nothing is changed. Contents are compared in blocks, so that trees larger than memory can be compared.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path

BLOCK: Final = 1 << 20
SPARSE_SLACK_BYTES: Final = 1 << 20  # file systems round holes to their own clusters


class Facts(Struct, frozen=True):
    """What is known of one name; `twins` are all names in the tree that lead to the same object."""

    kind: str
    mode: str
    owner: tuple[int, int]
    mtime_ns: int
    size: int
    disk_bytes: int
    target: str
    device: int
    xattrs: dict[str, bytes]
    twins: tuple[str, ...]


def survey(top: Path | str) -> dict[str, Facts]:
    """Every name below `top`, itself as ".", with its facts; a store's own marker directory is left out."""
    root = os.fspath(top)
    found: dict[str, os.stat_result] = {".": os.lstat(root)}
    for directory, names, files in os.walk(root):
        if directory == root and ".fusestore" in names:
            names.remove(".fusestore")
        for name in names + files:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root)] = os.lstat(path)
    twins: dict[tuple[int, int], list[str]] = {}
    for path, status in found.items():
        twins.setdefault((status.st_dev, status.st_ino), []).append(path)
    return {
        path: _facts(os.path.join(root, path), status, tuple(sorted(twins[status.st_dev, status.st_ino])))
        for path, status in found.items()
    }


def _facts(path: str, status: os.stat_result, twins: tuple[str, ...]) -> Facts:
    regular = stat.S_ISREG(status.st_mode)
    link = stat.S_ISLNK(status.st_mode)
    return Facts(
        kind=stat.filemode(status.st_mode)[0],
        mode=oct(stat.S_IMODE(status.st_mode)),
        owner=(status.st_uid, status.st_gid),
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if regular or link else 0,
        disk_bytes=status.st_blocks * 512 if regular else 0,
        target=os.readlink(path) if link else "",
        device=status.st_rdev,
        xattrs=_xattrs(path),
        twins=twins,
    )


def _xattrs(path: str) -> dict[str, bytes]:
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith("user.")]
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names if name != "user.fusestore"}


def differences(expected: Path | str, actual: Path | str, *, ignore: frozenset[str] = frozenset()) -> list[str]:
    """Name every difference between two trees; `ignore` holds names of `Facts` fields; "top" stands for the tops."""
    want, have = survey(expected), survey(actual)
    if "top" in ignore:
        del want["."], have["."]
    found = [f"{path!r}: missing" for path in sorted(want.keys() - have.keys())]
    found += [f"{path!r}: not expected" for path in sorted(have.keys() - want.keys())]
    compared = [name for name in Facts.__struct_fields__ if name != "disk_bytes" and name not in ignore]
    for path in sorted(want.keys() & have.keys()):
        one, two = want[path], have[path]
        for name in compared:
            if (left := getattr(one, name)) != (right := getattr(two, name)):
                found.append(f"{path!r}: {name} is {right!r}, expected {left!r}")
        if two.disk_bytes > one.disk_bytes + SPARSE_SLACK_BYTES and "disk_bytes" not in ignore:
            found.append(f"{path!r}: takes {two.disk_bytes} bytes on disk, expected {one.disk_bytes}")
        if one.kind == two.kind == "-" and one.size == two.size:
            found += _content(os.path.join(expected, path), os.path.join(actual, path), path)
    return found


def _content(expected: str, actual: str, path: str) -> list[str]:
    with open(expected, "rb") as one, open(actual, "rb") as two:
        position = 0
        while True:
            left, right = one.read(BLOCK), two.read(BLOCK)
            if left != right:
                first = next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), len(right))
                return [f"{path!r}: content differs from byte {position + first}"]
            if not left:
                return []
            position += len(left)


def assert_same(expected: Path | str, actual: Path | str, *, ignore: frozenset[str] = frozenset()) -> None:
    found = differences(expected, actual, ignore=ignore)
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:30])
