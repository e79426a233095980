"""The `local` driver: a root on a POSIX file system of this machine.

Every access is one component below an open directory and never through a symlink (`opening`). The daemon's umask is 0,
so modes come out as given.

    attach ──► online ◄──► offline, still open: a disk that does not answer; descriptors may be in use by threads
                  ▲ │
           reopen │ ▼ detach
                offline, closed: the disk is gone, or may be taken out; absent at the start

While it is offline every call says RootOffline.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
from typing import TYPE_CHECKING, Final, Self

from fusestore.core.ports import Space
from fusestore.errors import Covered, RootOffline, RootReadOnly, RootUnavailable
from fusestore.model import CONTROL_NAME, Backing, Layout
from fusestore.roots import freeing, marker
from fusestore.roots.manifest import Manifest
from fusestore.roots.opening import connect, disconnect, object_path, open_directory, open_regular
from fusestore.roots.renaming import rename_new
from fusestore.roots.syscalls import birth, birth_fd, rename_exchange, syncfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fusestore.config import RootConfig
    from fusestore.model import Outside, RootNo

ASIDE_NAME: Final = b"aside"
FILES_NAME: Final = b"files"
INCOMING_NAME: Final = b"incoming"
TRASH_NAME: Final = b"trash"

_SET_ID: Final = 0o6000
_FAN_NAMES: Final = tuple(b"%02x" % number for number in range(256))
_NO_CLAIM: Final = marker.Claim(b"", -1, -1)


def id_area_path(layout: Layout, id: bytes) -> bytes:
    """Where `id` lies in the id area, below the root's directory; for people to read."""
    area = (CONTROL_NAME + b"/" + ASIDE_NAME) if layout is Layout.TREE else FILES_NAME
    return b"/".join((area, _FAN_NAMES[id[-1]], id.hex().encode()))


class LocalRoot:
    """See `core.ports.Driver` for what each method promises."""

    def __init__(
        self, number: RootNo, spec: RootConfig, layout: Layout, store_uuid: bytes, *, uuid: bytes = b""
    ) -> None:
        """A root that is closed.

        Args:
            uuid: which root it is, where that is known; no other will do.
        """
        self.number = number
        self.name = spec.name
        self.path = spec.path
        self.uuid = uuid
        self.layout = layout
        self.outside: Outside = spec.outside
        self.online = False
        self.is_open = False
        self.failed_syncs = 0
        self.read_only = spec.read_only
        self.device = -1
        self.top = -1
        self._spec = spec
        self._store_uuid = store_uuid
        self._claim = _NO_CLAIM
        self._incoming = -1
        self._has_incoming = False
        self._trash = -1
        self._id_area = -1
        self._fans = [-1] * 256
        self._making = threading.Lock()
        self._syncing = threading.Lock()
        self._syncs = self._synced = 0  # begun, and the last of them that succeeded

    @classmethod
    def attach(
        cls,
        number: RootNo,
        spec: RootConfig,
        layout: Layout,
        store_uuid: bytes,
        *,
        uuid: bytes = b"",
        create: bool,
        take: bool = False,
    ) -> Self:
        """Open the root, and lock it for this process until `close`.

        Args:
            uuid: which root it is, where that is known.
            create: make the directory if it is missing, and its marker if it has none.
            take: take the root over from another store.

        Raises:
            RootUnavailable: the directory or its disk is missing, or the root is not ours; see `marker.claim`.
        """
        root = cls(number, spec, layout, store_uuid, uuid=uuid)
        root._open(create=create, take=take)
        return root

    def reopen(self) -> None:
        """Open a closed root again, whatever device its disk has by now, and lock it.

        What was written shortly before it went may be lost, so it counts as a failed sync.

        Raises:
            RootUnavailable: as for `attach`; it stays closed.
        """
        self._open(create=False, take=False)
        self.failed_syncs += 1

    def twin(self) -> LocalRoot:
        """The same root, closed, for a look at it that nobody else shares."""
        return LocalRoot(self.number, self._spec, self.layout, self._store_uuid, uuid=self.uuid)

    def detach(self) -> None:
        """Give the disk back, so that it can be taken out.

        Threads may be in the middle of work with `top` and `incoming`: these numbers stay, and lead nowhere until the
        root is open again. All others are for the loop alone.
        """
        self.online = self.is_open = False
        self.device = -1
        for fd in (self.top, self._incoming):
            if fd >= 0:
                disconnect(fd)
        self._close_inner()

    def _open(self, *, create: bool, take: bool) -> None:
        spec = self._spec
        try:
            if create:
                spec.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            top = os.open(spec.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise RootUnavailable(f"root {spec.name}: {spec.path} does not exist; is its disk mounted?") from error
        except (FileExistsError, NotADirectoryError) as error:
            raise RootUnavailable(f"root {spec.name}: {spec.path} is not a directory") from error
        except OSError as error:
            raise RootUnavailable(f"root {spec.name}: {spec.path} cannot be opened: {error.strerror}") from error
        try:
            claim = marker.claim(top, spec, self.layout, self._store_uuid, create=create, take=take)
            if self.uuid not in (b"", claim.uuid):
                claim.release()
                raise RootUnavailable(f"root {spec.name}: {spec.path} carries the marker of another root")
        except BaseException:
            os.close(top)
            raise
        self.uuid = claim.uuid
        self.read_only = spec.read_only or bool(os.fstatvfs(top).f_flag & os.ST_RDONLY)
        self.device = os.fstat(top).st_dev
        self.top = connect(self.top, top)
        self._claim = claim
        self.online = self.is_open = True

    def manifest(self) -> Manifest:
        """Its manifest, with a descriptor of its own, so that a thread may have it; the caller's to close."""
        self._reach()
        return Manifest(os.dup(self._claim.area))

    def close(self) -> None:
        """Give the root up for good: every descriptor of its own is closed."""
        self.online = self.is_open = False
        for fd in (self._incoming, self.top):
            if fd >= 0:
                os.close(fd)
        self.top = self._incoming = -1
        self._close_inner()

    def _close_inner(self) -> None:
        """Close what is for the loop alone, the lock last."""
        for fd in (*self._fans, self._id_area, self._trash):
            if fd >= 0:
                os.close(fd)
        self._fans = [-1] * 256
        self._id_area = self._trash = -1
        self._has_incoming = False
        self._claim.release()
        self._claim = _NO_CLAIM

    # directories

    def open_dir(self, parent: int, name: bytes) -> int:
        self._reach()
        try:
            return open_directory(parent, name, self.device)
        except OSError as error:
            raise self._judged(error, name) from None

    def close_dir(self, directory: int) -> None:
        os.close(directory)

    def list(self, directory: int) -> Iterator[bytes]:
        self._reach()
        hidden = CONTROL_NAME if os.path.sameopenfile(directory, self.top) else None
        # By path, so that the listing has an offset of its own and names stay bytes.
        with os.scandir(b"/proc/self/fd/%d" % directory) as entries:
            for entry in entries:
                if entry.name != hidden:
                    yield entry.name

    def count(self, limit: int) -> int:
        return sum(1 for _ in itertools.islice(self._below(self.top), limit))

    def _below(self, directory: int) -> Iterator[None]:
        """Goes through all that lies below a directory, but what is the daemon's own."""
        self._reach()
        inner = []
        hidden = CONTROL_NAME if os.path.sameopenfile(directory, self.top) else None
        with os.scandir(b"/proc/self/fd/%d" % directory) as entries:
            for entry in entries:
                if entry.name != hidden:
                    yield
                    if entry.is_dir(follow_symlinks=False):
                        inner.append(entry.name)
        for name in inner:
            try:
                child = self.open_dir(directory, name)
            except (OSError, Covered):
                continue
            try:
                yield from self._below(child)
            finally:
                os.close(child)

    def id_area_path(self, id: bytes) -> bytes:
        return id_area_path(self.layout, id)

    def id_area(self, id: bytes) -> tuple[int, bytes]:
        fan = self._fans[id[-1]]
        if fan < 0 or not self.online:
            fan = self._open_fan(id[-1])
        return fan, id.hex().encode()

    def ids(self) -> Iterator[bytes]:
        """The ids under which something lies in the id area."""
        self._reach()
        for fan in self._fans_there():
            for name in self.list(fan):
                with contextlib.suppress(ValueError):
                    id = bytes.fromhex(name.decode("ascii"))
                    if self.id_area(id) == (fan, name):
                        yield id

    def _fans_there(self) -> Iterator[int]:
        """The directories of the id area, where none is made that is not there."""
        parent, name = (self._claim.area, ASIDE_NAME) if self.layout is Layout.TREE else (self.top, FILES_NAME)
        with contextlib.suppress(FileNotFoundError):
            area = open_directory(parent, name, self.device)
            try:
                there = set(self.list(area))
            finally:
                os.close(area)
            for last, fan in enumerate(_FAN_NAMES):
                if fan in there:
                    yield self._open_fan(last)

    def incoming(self) -> int:
        self._reach()
        with self._making:
            if not self._has_incoming:
                self._incoming = connect(self._incoming, self._own_directory(self._claim.area, INCOMING_NAME))
                self._has_incoming = True
        return self._incoming

    def trash(self) -> int:
        self._reach()
        with self._making:
            if self._trash < 0:
                self._trash = self._own_directory(self._claim.area, TRASH_NAME)
        return self._trash

    def _open_fan(self, last: int) -> int:
        self._reach()
        with self._making:
            if self._id_area < 0:
                parent, name = (self._claim.area, ASIDE_NAME) if self.layout is Layout.TREE else (self.top, FILES_NAME)
                self._id_area = self._own_directory(parent, name)
            if self._fans[last] < 0:
                self._fans[last] = self._own_directory(self._id_area, _FAN_NAMES[last])
            return self._fans[last]

    def _own_directory(self, parent: int, name: bytes) -> int:
        """Open a directory of the daemon's own, made if it is missing. Nobody else may pass through it.

        The rights on what lies in it are those of the mount's directories, which are not on this disk.
        """
        if not self.read_only:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
        return open_directory(parent, name, self.device)

    # looking

    def stat(self, directory: int, name: bytes) -> os.stat_result:
        if not self.online:
            raise RootOffline(self.name)
        return os.stat(name, dir_fd=directory, follow_symlinks=False)

    def stat_dir(self, directory: int) -> os.stat_result:
        if not self.online:
            raise RootOffline(self.name)
        return os.fstat(directory)

    def backing(self, directory: int, name: bytes) -> Backing:
        self._reach()
        return Backing(self.number, *birth(directory, name))

    def backing_fd(self, fd: int) -> Backing:
        self._reach()
        return Backing(self.number, *birth_fd(fd))

    def readlink(self, directory: int, name: bytes) -> bytes:
        self._reach()
        return os.readlink(name, dir_fd=directory)

    def space(self) -> Space:
        self._reach()
        now = os.fstatvfs(self.top)
        unit = now.f_frsize
        return Space(now.f_blocks * unit, now.f_bfree * unit, now.f_bavail * unit, now.f_files, now.f_ffree)

    # changing names

    def create(self, directory: int, name: bytes, mode: int, uid: int, gid: int) -> int:
        """Returns: a descriptor open for reading and writing; on failure no file stays behind."""
        self._change()
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, mode & ~_SET_ID & 0o7777, dir_fd=directory)
        try:
            now = os.fstat(fd)
            if (now.st_uid, now.st_gid) != (uid, gid):
                os.fchown(fd, uid, gid)
            if mode & _SET_ID:  # last: a change of owner clears them
                os.fchmod(fd, mode & 0o7777)
        except BaseException:
            os.close(fd)
            os.unlink(name, dir_fd=directory)
            raise
        return fd

    def mkdir(self, directory: int, name: bytes, mode: int, uid: int, gid: int) -> None:
        self._change()
        os.mkdir(name, mode & ~_SET_ID & 0o7777, dir_fd=directory)
        self._own(directory, name, mode, uid, gid, os.rmdir)

    def mknod(self, directory: int, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> None:
        self._change()
        os.mknod(name, mode & ~_SET_ID, rdev, dir_fd=directory)
        self._own(directory, name, mode, uid, gid, os.unlink)

    def symlink(self, directory: int, name: bytes, target: bytes, uid: int, gid: int) -> None:
        self._change()
        os.symlink(target, name, dir_fd=directory)
        self._own(directory, name, 0, uid, gid, os.unlink)

    def _own(self, directory: int, name: bytes, mode: int, uid: int, gid: int, undo: Callable[..., None]) -> None:
        """Give a new object its owner and set-id bits; what the disk itself inherited (set-gid, ACLs) stays."""
        try:
            now = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if (now.st_uid, now.st_gid) != (uid, gid):
                os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
            if mode & _SET_ID:
                self.chmod(directory, name, now.st_mode & 0o7777 | mode & _SET_ID)
        except BaseException:
            undo(name, dir_fd=directory)
            raise

    def link(self, directory: int, name: bytes, to_directory: int, to_name: bytes) -> None:
        self._change()
        os.link(name, to_name, src_dir_fd=directory, dst_dir_fd=to_directory, follow_symlinks=False)

    def unlink(self, directory: int, name: bytes) -> None:
        self._change()
        with freeing.removing(directory, name):
            os.unlink(name, dir_fd=directory)

    def rmdir(self, directory: int, name: bytes) -> None:
        self._change()
        os.rmdir(name, dir_fd=directory)

    def rename(self, directory: int, name: bytes, to_directory: int, to_name: bytes, *, replace: bool) -> None:
        self._change()
        if replace:
            with freeing.removing(to_directory, to_name):
                os.rename(name, to_name, src_dir_fd=directory, dst_dir_fd=to_directory)
        else:
            rename_new(directory, name, to_directory, to_name)

    def exchange(self, directory: int, name: bytes, to_directory: int, to_name: bytes) -> None:
        self._change()
        rename_exchange(directory, name, to_directory, to_name)

    # bytes and attributes

    def open(self, directory: int, name: bytes, *, write: bool) -> int:
        if write:
            self._change()
        else:
            self._reach()
        try:
            return open_regular(directory, name, os.O_RDWR if write else os.O_RDONLY, self.device)
        except OSError as error:
            raise self._judged(error, name) from None

    def chmod(self, directory: int, name: bytes, mode: int) -> None:
        self._change()
        with self._object(directory, name) as path:  # fchmodat(2) cannot refuse to follow before Linux 6.6
            os.chmod(path, mode & 0o7777)

    def chown(self, directory: int, name: bytes, uid: int, gid: int) -> None:
        self._change()
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)

    def utime(self, directory: int, name: bytes, atime_ns: int, mtime_ns: int) -> None:
        self._change()
        os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=directory, follow_symlinks=False)

    def getxattr(self, directory: int, name: bytes, attribute: bytes) -> bytes:
        self._reach()
        with self._object(directory, name) as path:
            return os.getxattr(path, attribute)

    def setxattr(self, directory: int, name: bytes, attribute: bytes, value: bytes, flags: int) -> None:
        self._change()
        with self._object(directory, name) as path:
            os.setxattr(path, attribute, value, flags)

    def listxattr(self, directory: int, name: bytes) -> Sequence[bytes]:
        self._reach()
        with self._object(directory, name) as path:
            return [os.fsencode(attribute) for attribute in os.listxattr(path)]

    def removexattr(self, directory: int, name: bytes, attribute: bytes) -> None:
        self._change()
        with self._object(directory, name) as path:
            os.removexattr(path, attribute)

    @contextlib.contextmanager
    def _object(self, directory: int, name: bytes) -> Iterator[str]:
        """A path to the object itself, if it is on this root's file system."""
        with object_path(directory, name) as path:
            if os.stat(path).st_dev != self.device:
                raise Covered(self.name, name)
            yield path

    def _judged(self, error: OSError, name: bytes) -> Exception:
        return Covered(self.name, name) if error.errno == errno.EXDEV else error

    # durability

    def sync(self) -> None:
        self._reach()
        wanted = self._syncs + 1
        with self._syncing:  # who comes second must not see a success before the failure is counted
            if self._synced >= wanted:
                return  # one that began since has made it durable too
            self._syncs += 1
            try:
                syncfs(self.top)
            except OSError:
                self.failed_syncs += 1
                raise
            self._synced = self._syncs

    def _reach(self) -> None:
        if not self.online:
            raise RootOffline(self.name)

    def _change(self) -> None:
        if not self.online:
            raise RootOffline(self.name)
        if self.read_only:
            raise RootReadOnly(self.name)
