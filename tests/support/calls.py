"""The calls of a program, by path, on a store without a kernel; looked up name by name, as the kernel does."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from fusestore.errors import NotFound
from fusestore.model import MOUNT_ROOT, InodeNo, Owner
from fusestore.service import (
    absence,
    attributes,
    creating,
    draining,
    dropping,
    looking,
    refreshing,
    removing,
    renaming,
    replicating,
    writing,
)
from tests.support.byhand import finish

if TYPE_CHECKING:
    from fusestore.model import Inode
    from fusestore.service.dropping import Dropped
    from fusestore.service.store import Store

ME: Final = Owner(os.geteuid(), os.getegid(), os.getpid())


class Calls:
    """What can be asked of an open store.

    Attributes:
        handles: the inode behind each open handle.
    """

    store: Store
    handles: dict[int, InodeNo]

    def go_on(self) -> None:
        """A call waits for what somebody else does."""

    def find(self, path: str) -> InodeNo:
        """Look a path up as the kernel does, name by name."""
        number = MOUNT_ROOT
        for name in path.encode().split(b"/") if path else []:
            number = looking.lookup(self.store, number, name).inode.number
        return number

    def exists(self, path: str) -> bool:
        try:
            self.find(path)
        except (NotFound, FileNotFoundError):
            return False
        return True

    def at(self, path: str) -> tuple[InodeNo, bytes]:
        """Parent and name."""
        parent, _, name = path.rpartition("/")
        return self.find(parent), name.encode()

    def stat(self, path: str) -> Inode:
        return looking.getattr(self.store, self.find(path)).inode

    def names(self, path: str) -> list[str]:
        """List a directory as opendir and readdir do."""
        number = self.find(path)
        finish(refreshing.refresh(self.store, number))
        return [name.decode() for name, _ in self.store.index.dentries(number)]

    def mkdir(self, path: str, mode: int = 0o755) -> InodeNo:
        return creating.make(self.store, *self.at(path), stat.S_IFDIR | mode, ME).seen.inode.number

    def symlink(self, path: str, target: str) -> InodeNo:
        made = creating.make(self.store, *self.at(path), stat.S_IFLNK | 0o777, ME, target=target.encode())
        return made.seen.inode.number

    def readlink(self, path: str) -> str:
        return looking.readlink(self.store, self.find(path)).decode()

    def create(self, path: str, mode: int = 0o644) -> int:
        """Make a file and keep it open; returns the handle."""
        seen, fh = creating.create(self.store, *self.at(path), mode, ME)
        self.handles[fh] = seen.inode.number
        return fh

    def open_file(self, path: str, *, write: bool = False, truncate: bool = False) -> int:
        number = self.find(path)
        fh = writing.open_file(self.store, number, write=write, truncate=truncate)
        self.handles[fh] = number
        return fh

    def write_at(self, fh: int, data: bytes, offset: int = 0) -> None:
        assert finish(writing.write(self.store, fh, data, offset), self.go_on) == len(data)

    def read_at(self, fh: int, size: int = 1 << 20, offset: int = 0) -> bytes:
        return bytes(finish(writing.read(self.store, fh, size, offset)))

    def release(self, fh: int) -> None:
        del self.handles[fh]
        writing.release(self.store, fh)

    def write(self, path: str, data: bytes) -> InodeNo:
        """Write a whole file, new or not."""
        fh = self.open_file(path, write=True, truncate=True) if self.exists(path) else self.create(path)
        number = self.handles[fh]
        try:
            if data:
                self.write_at(fh, data)
        finally:
            self.release(fh)
        return number

    def read(self, path: str) -> bytes:
        fh = self.open_file(path)
        try:
            return self.read_at(fh, os.fstat(self.store.files.handle(fh).file.fd).st_size + 1)
        finally:
            self.release(fh)

    def link(self, old: str, new: str) -> None:
        creating.link(self.store, self.find(old), *self.at(new), ME)

    def unlink(self, path: str) -> None:
        removing.unlink(self.store, *self.at(path), ME)

    def rmdir(self, path: str) -> None:
        finish(removing.rmdir(self.store, *self.at(path), ME))

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        finish(renaming.rename(self.store, *self.at(old), *self.at(new), flags, ME))

    def set(self, path: str, **wanted: int) -> None:
        attributes.setattr(self.store, self.find(path), attributes.Wanted(**wanted), ME)

    def replicate(self, path: str, root: str) -> int:
        return replicating.want(self.store, self.find(path), replicating.target(self.store, root), ME)

    def drop(self, path: str, root: str, *, force_last: bool = False) -> Dropped:
        chosen = replicating.named(self.store, root)
        dropped = dropping.drop(
            self.store, self.find(path), chosen, force_last=force_last, owner=ME, report=lambda count: None
        )
        return finish(dropped)

    def drain(self, root: str, *to: str) -> bool:
        chosen = replicating.named(self.store, root)
        return draining.begin(self.store, chosen, [replicating.named(self.store, each) for each in to], ME)

    def stop_draining(self, root: str) -> bool:
        return draining.stop(self.store, replicating.named(self.store, root), ME)

    def let_go(self, root: str) -> None:
        absence.release(self.store, replicating.named(self.store, root), ME)

    def replicas(self, path: str) -> dict[str, str]:
        """The states of a file's further copies, by root."""
        found = self.store.index.replicas(self.find(path))
        return {self.store.roots[root].name: record.state.name.lower() for root, record in found}

    def root_of(self, path: str) -> str:
        """The root where the bytes are."""
        root = self.store.root_of(self.find(path))
        assert root is not None
        return root.name
