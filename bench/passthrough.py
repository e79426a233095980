"""The measuring stick: the leanest pyfuse3 pass-through, without an index, without ids, without anything.

Inodes map to paths and descriptors in dictionaries; what fusestore takes longer than this is the price of what it does.
`python -m bench.passthrough [--look] SOURCE MOUNTPOINT` serves until it is unmounted; with `--look` it waits for
requests as fusestore does (decision 0016).
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FUSEError, InodeT, ModeT, ReaddirToken, RequestContext

from fusestore.fuse.waiting import look_before_sleeping

if TYPE_CHECKING:
    from collections.abc import Sequence


class PassThrough(pyfuse3.Operations):
    """One backing directory, seen through the kernel and back."""

    def __init__(self, source: bytes) -> None:
        super().__init__()
        self.paths: dict[int, bytes] = {pyfuse3.ROOT_INODE: source}
        self.numbers: dict[bytes, int] = {source: pyfuse3.ROOT_INODE}
        self.lookups: defaultdict[int, int] = defaultdict(int)
        self.next = pyfuse3.ROOT_INODE + 1
        self.listings: dict[int, list[bytes]] = {}

    def path(self, parent: int, name: bytes) -> bytes:
        return self.paths[parent] + b"/" + name

    def attributes(self, path: bytes | int, inode: int) -> EntryAttributes:
        try:
            status = os.lstat(path) if isinstance(path, bytes) else os.fstat(path)
        except OSError as trouble:
            raise FUSEError(trouble.errno or errno.EIO) from None
        entry = EntryAttributes()
        entry.st_ino = InodeT(inode)
        entry.st_mode = ModeT(status.st_mode)
        entry.st_nlink, entry.st_uid, entry.st_gid = status.st_nlink, status.st_uid, status.st_gid
        entry.st_rdev, entry.st_size, entry.st_blocks = status.st_rdev, status.st_size, status.st_blocks
        entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = (
            status.st_atime_ns,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
        entry.st_blksize = 4096
        entry.entry_timeout = entry.attr_timeout = 60
        return entry

    def introduce(self, path: bytes) -> EntryAttributes:
        """+1 lookup"""
        inode = self.numbers.get(path, self.next)
        entry = self.attributes(path, inode)
        if inode == self.next:
            self.next += 1
            self.numbers[path], self.paths[inode] = inode, path
        self.lookups[inode] += 1
        return entry

    def drop(self, path: bytes) -> None:
        self.numbers.pop(path, None)

    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        return self.introduce(self.path(parent_inode, name))

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for inode, count in inode_list:
            self.lookups[inode] -= count
            if self.lookups[inode] <= 0:
                del self.lookups[inode]
                path = self.paths.pop(inode, None)
                if path is not None and self.numbers.get(path) == inode:
                    del self.numbers[path]

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self.attributes(self.paths[inode], inode)

    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        path = self.paths[inode]
        try:
            if fields.update_size:
                os.truncate(path, attr.st_size)
            if fields.update_uid or fields.update_gid:
                os.lchown(path, attr.st_uid if fields.update_uid else -1, attr.st_gid if fields.update_gid else -1)
            if fields.update_mode:
                os.chmod(path, stat.S_IMODE(attr.st_mode))
            if fields.update_atime or fields.update_mtime:
                times = attr if fields.update_atime and fields.update_mtime else os.lstat(path)
                accessed = attr.st_atime_ns if fields.update_atime else times.st_atime_ns
                modified = attr.st_mtime_ns if fields.update_mtime else times.st_mtime_ns
                os.utime(path, ns=(accessed, modified), follow_symlinks=False)
        except OSError as trouble:
            raise FUSEError(trouble.errno or errno.EIO) from None
        return self.attributes(path, inode)

    async def create(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        path = self.path(parent_inode, name)
        try:
            handle = os.open(path, flags | os.O_CREAT, mode)
        except OSError as trouble:
            raise FUSEError(trouble.errno or errno.EIO) from None
        return FileInfo(fh=FileHandleT(handle)), self.introduce(path)

    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        try:
            return FileInfo(fh=FileHandleT(os.open(self.paths[inode], flags)), keep_cache=True)
        except OSError as trouble:
            raise FUSEError(trouble.errno or errno.EIO) from None

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return os.pwrite(fh, buf, off)

    async def flush(self, fh: FileHandleT) -> None:
        raise FUSEError(errno.ENOSYS)

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        (os.fdatasync if datasync else os.fsync)(fh)

    async def release(self, fh: FileHandleT) -> None:
        os.close(fh)

    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        raise FUSEError(errno.ENODATA)

    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        path = self.path(parent_inode, name)
        try:
            os.unlink(path)
        except OSError as trouble:
            raise FUSEError(trouble.errno or errno.EIO) from None
        self.drop(path)

    async def symlink(self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        path = self.path(parent_inode, name)
        os.symlink(target, path)
        return self.introduce(path)

    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        return os.readlink(self.paths[inode])

    async def mkdir(self, parent_inode: InodeT, name: bytes, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        path = self.path(parent_inode, name)
        try:
            os.mkdir(path, mode)
        except OSError as trouble:
            raise FUSEError(trouble.errno or errno.EIO) from None
        return self.introduce(path)

    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        path = self.path(parent_inode, name)
        try:
            os.rmdir(path)
        except OSError as trouble:
            raise FUSEError(trouble.errno or errno.EIO) from None
        self.drop(path)

    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        old, new = self.path(parent_inode_old, name_old), self.path(parent_inode_new, name_new)
        try:
            os.rename(old, new)
        except OSError as trouble:
            raise FUSEError(trouble.errno or errno.EIO) from None
        self.drop(new)
        if (inode := self.numbers.pop(old, None)) is not None:
            self.numbers[new], self.paths[inode] = inode, new

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        self.listings[inode] = sorted(os.listdir(self.paths[inode]))
        return FileHandleT(inode)

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        names, directory = self.listings[fh], self.paths[fh]
        for position in range(start_id, len(names)):
            path = directory + b"/" + names[position]
            try:
                entry = self.introduce(path)
            except FUSEError:
                continue  # gone since the listing
            if not pyfuse3.readdir_reply(token, names[position], entry, position + 1):
                self.lookups[entry.st_ino] -= 1
                break

    async def releasedir(self, fh: FileHandleT) -> None:
        self.listings.pop(fh, None)

    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        told, answer = os.statvfs(self.paths[pyfuse3.ROOT_INODE]), pyfuse3.StatvfsData()
        for name in (
            "f_bsize",
            "f_frsize",
            "f_blocks",
            "f_bfree",
            "f_bavail",
            "f_files",
            "f_ffree",
            "f_favail",
            "f_namemax",
        ):
            setattr(answer, name, getattr(told, name))
        return answer


def main() -> None:
    *switches, source, mountpoint = sys.argv[1:]
    os.umask(0)
    options = {*pyfuse3.default_options, "fsname=passthrough", "default_permissions"}
    pyfuse3.init(PassThrough(os.fsencode(source)), mountpoint, options)
    if switches == ["--look"]:
        look_before_sleeping()
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
