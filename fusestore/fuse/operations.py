"""The kernel's requests: parse, call the service, convert. No rule and no disk here.

Lookup counts: every handler that introduces an inode to the kernel adds one ("+1 lookup"), `forget` takes them back.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pyfuse3
from pyfuse3 import EntryAttributes, FileHandleT, FileInfo, FUSEError, InodeT, RequestContext, SetattrFields

from fusestore.errors import AlreadyExists, Gone, NameTooLong, NotADirectory, NotFound, ReplicaError
from fusestore.fuse.asking import asker
from fusestore.fuse.attributes import Answers
from fusestore.fuse.boundary import Complaints, handler
from fusestore.fuse.listings import Listing
from fusestore.fuse.virtual import Virtual, is_virtual, is_volatile
from fusestore.model import MOUNT_ROOT, NAME_MAX, InodeNo, Owner
from fusestore.service import attributes, creating, looking, refreshing, removing, renaming, writing, xattrs
from fusestore.service.looking import Seen
from fusestore.service.space import space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyfuse3 import PollHandle

    from fusestore.fuse.events_file import EventsFile
    from fusestore.service.store import Store


class Operations(pyfuse3.Operations):
    """Every request that pyfuse3 offers, one method each.

    Args:
        owners: in whose name processes act that do not act in their own.
    """

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, store: Store, owners: Mapping[int, Owner]) -> None:
        super().__init__()
        self.complaints = Complaints()
        self._store = store
        self._owners = owners
        self._virtual = Virtual(store)
        self._listings: dict[int, Listing] = {}
        self._next_listing = 1
        self._answers = Answers(store.roots.values())
        self.enable_writeback_cache = store.config.mount.writeback

    def show(self, events: EventsFile) -> None:
        """What the log's file shows; before requests are served."""
        self._virtual.events = events

    def _owner(self, ctx: RequestContext) -> Owner:
        return self._owners.get(ctx.pid) or Owner(ctx.uid, ctx.gid, ctx.pid)

    # -- names and attributes ---------------------------------------------------------------------------------------

    @handler
    async def lookup(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """+1 lookup"""
        parent = InodeNo(parent_inode)
        if name in (b".", b".."):
            return self._introduce(self._dot(parent, name))
        if is_virtual(parent) or parent == MOUNT_ROOT:
            seen = self._virtual.lookup(parent, name, asker(ctx) if is_virtual(parent) else None)
            if seen is not None:
                return await self._virtual_entry(seen.inode.number)
        if len(name) > NAME_MAX:
            raise NameTooLong(name[:32])
        try:
            return self._introduce(looking.lookup(self._store, parent, name))
        except NotFound:
            if looking.is_complete(self._store, parent):
                return self._answers.no_such_name
            raise

    def _entry(self, seen: Seen) -> EntryAttributes:
        entry = self._answers.entry(seen)
        if is_volatile(seen.inode.number):
            entry.entry_timeout = entry.attr_timeout = 0.0
        return entry

    async def _virtual_entry(self, number: InodeNo) -> EntryAttributes:
        await self._virtual.up_to_date(number)
        return self._entry(self._virtual.see(number))

    def _dot(self, number: InodeNo, name: bytes) -> Seen:
        if name == b".." and number != MOUNT_ROOT:
            number = self._parent(number)
        return self._virtual.see(number) if is_virtual(number) else looking.getattr(self._store, number)

    def _parent(self, number: InodeNo) -> InodeNo:
        if is_virtual(number):
            return MOUNT_ROOT
        names = self._store.index.parents(number)
        return names[0][0] if names else MOUNT_ROOT

    def _introduce(self, seen: Seen) -> EntryAttributes:
        if not is_virtual(seen.inode.number):
            self._store.lookups[seen.inode.number] += 1
        return self._answers.entry(seen)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        lookups = self._store.lookups
        for node, count in inode_list:
            number = InodeNo(node)
            left = lookups.get(number, 0) - count
            if left > 0:
                lookups[number] = left
                continue
            lookups.pop(number, None)
            self._store.let_go(number)

    @handler
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        number = InodeNo(inode)
        if is_virtual(number):
            return await self._virtual_entry(number)
        try:
            return self._answers.entry(looking.getattr(self._store, number))
        except Gone:
            if all(listing.number != number for listing in self._listings.values()):
                raise
            # For whoever has it open it stays what it was; only a path can be walked again.
            return self._answers.entry(Seen(self._store.inode(number), None, None))

    @handler
    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: FileHandleT | None, ctx: RequestContext
    ) -> EntryAttributes:
        number = InodeNo(inode)
        self._virtual.refuse(number)
        wanted = attributes.Wanted(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        if wanted.size is None:
            return self._answers.entry(attributes.setattr(self._store, number, wanted, self._owner(ctx)))
        async with writing.cut_before(self._store, number, wanted.size):
            return self._answers.entry(attributes.setattr(self._store, number, wanted, self._owner(ctx)))

    @handler
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        number = InodeNo(inode)
        if is_virtual(number):
            return self._virtual.readlink(number, asker(ctx))
        return looking.readlink(self._store, number)

    # -- making and removing names ----------------------------------------------------------------------------------

    @handler
    async def mknod(
        self, parent_inode: InodeT, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """+1 lookup"""
        self._virtual.refuse(InodeNo(parent_inode))
        made = creating.mknod(self._store, InodeNo(parent_inode), name, mode & ~ctx.umask, rdev, self._owner(ctx))
        return self._introduce(made)

    @handler
    async def mkdir(self, parent_inode: InodeT, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        """+1 lookup"""
        self._virtual.refuse(InodeNo(parent_inode))
        mode = stat.S_IFDIR | stat.S_IMODE(mode & ~ctx.umask)
        return self._introduce(creating.make(self._store, InodeNo(parent_inode), name, mode, self._owner(ctx)).seen)

    @handler
    async def symlink(self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        """+1 lookup"""
        self._virtual.refuse(InodeNo(parent_inode))
        mode = stat.S_IFLNK | 0o777
        made = creating.make(self._store, InodeNo(parent_inode), name, mode, self._owner(ctx), target=target)
        return self._introduce(made.seen)

    @handler
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """+1 lookup"""
        self._virtual.refuse(InodeNo(inode), InodeNo(new_parent_inode))
        linked = creating.link(self._store, InodeNo(inode), InodeNo(new_parent_inode), new_name, self._owner(ctx))
        return self._introduce(looking.see(self._store, linked))

    @handler
    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        self._refuse_name(InodeNo(parent_inode), name)
        removing.unlink(self._store, InodeNo(parent_inode), name, self._owner(ctx))

    @handler
    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        self._refuse_name(InodeNo(parent_inode), name)
        await removing.rmdir(self._store, InodeNo(parent_inode), name, self._owner(ctx))

    @handler
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        old_parent, parent = InodeNo(parent_inode_old), InodeNo(parent_inode_new)
        self._refuse_name(old_parent, name_old)
        self._refuse_name(parent, name_new)
        await renaming.rename(self._store, old_parent, name_old, parent, name_new, flags, self._owner(ctx))

    def _refuse_name(self, parent: InodeNo, name: bytes) -> None:
        self._virtual.refuse(parent)
        if self._virtual.lookup(parent, name) is not None:
            raise FUSEError(errno.EPERM)

    # -- content ----------------------------------------------------------------------------------------------------

    @handler
    async def create(
        self, parent_inode: InodeT, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """+1 lookup"""
        parent = InodeNo(parent_inode)
        self._virtual.refuse(parent)
        try:
            made, fh = creating.create(self._store, parent, name, mode & ~ctx.umask, self._owner(ctx))
        except AlreadyExists:
            if flags & os.O_EXCL:
                raise
            seen = looking.lookup(self._store, parent, name)
            return self._open(seen.inode.number, flags, self._owner(ctx)), self._introduce(seen)
        return _file_info(fh, keep_cache=True), self._introduce(made)

    @handler
    async def open(self, inode: InodeT, flags: int, ctx: RequestContext) -> FileInfo:
        number = InodeNo(inode)
        if is_virtual(number):
            if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
                self._virtual.refuse(number)
            return FileInfo(
                fh=FileHandleT(self._virtual.open(number, self._owner(ctx), ctx)), direct_io=True
            )  # whatever size was told
        if not flags & os.O_TRUNC:
            return self._open(number, flags, self._owner(ctx))
        async with writing.cut_before(self._store, number, 0):
            return self._open(number, flags, self._owner(ctx))

    def _open(self, number: InodeNo, flags: int, owner: Owner) -> FileInfo:
        truncate = bool(flags & os.O_TRUNC)
        write = truncate or flags & os.O_ACCMODE != os.O_RDONLY
        fresh = writing.is_unchanged(self._store, number)
        fh = writing.open_file(self._store, number, write=write, truncate=truncate)
        if truncate:
            attributes.drop_set_id(self._store, number, owner)
        self._store.forgetting.discard(number)
        return _file_info(fh, keep_cache=fresh)

    @handler
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        if self._virtual.has(fh):
            return await self._virtual.read(fh, off, size)
        return await writing.read(self._store, fh, size, off)  # type: ignore[return-value]  # any buffer will do

    @handler
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return await writing.write(self._store, fh, buf, off)

    @handler
    async def flush(self, fh: FileHandleT) -> None:
        # Nothing to do at close(2), and the kernel does not ask again after this answer.
        raise FUSEError(errno.ENOSYS)

    @handler
    async def release(self, fh: FileHandleT) -> None:
        if self._virtual.has(fh):
            self._virtual.release(fh)
        else:
            writing.release(self._store, fh)

    @handler
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        if not self._virtual.has(fh):
            await writing.sync(self._store, fh, data_only=datasync)

    @handler
    async def poll(self, inode: InodeT, fh: FileHandleT, poll_handle: PollHandle | None, ctx: RequestContext) -> int:
        return self._virtual.poll(fh, poll_handle)

    # -- directories ------------------------------------------------------------------------------------------------

    @handler
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        number = InodeNo(inode)
        fixed = None
        if is_virtual(number):
            fixed = self._virtual.listing(number)
        else:
            if not looking.getattr(self._store, number).inode.is_dir:
                raise NotADirectory(number)
            await refreshing.refresh(self._store, number)
        fh = self._next_listing
        self._next_listing += 1
        self._listings[fh] = Listing(self._store, number, self._parent(number), fixed)
        return FileHandleT(fh)

    @handler
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """+1 lookup for every entry but "." and "..", as far as the kernel takes them"""
        listing = self._listings[fh]
        store, directory = self._store, listing.number
        virtual = is_virtual(directory)
        disk = None if virtual else looking.disk_of(store, directory)
        for offset, name, listed in listing.entries(start_id):
            counts = not virtual and name not in (b".", b"..")
            number = store.index.dentry(directory, name) if counts else listed  # it may be another's by now, or gone
            if number is None:
                continue
            try:
                if counts:
                    seen = looking.see_name(store, directory, name, number, disk)
                elif is_virtual(number):
                    await self._virtual.up_to_date(number)
                    seen = self._virtual.see(number)
                else:
                    seen = looking.getattr(store, number)
            except (NotFound, FileNotFoundError):
                continue
            except (ReplicaError, OSError):  # one that cannot be looked at is there all the same
                seen = looking.last_seen(store, number)
            if not pyfuse3.readdir_reply(token, name, self._entry(seen), offset):
                break
            if counts:
                store.lookups[seen.inode.number] += 1

    @handler
    async def releasedir(self, fh: FileHandleT) -> None:
        del self._listings[fh]

    @handler
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        listing = self._listings[fh]
        if not is_virtual(listing.number):
            await writing.sync_directory(self._store, listing.number)

    # -- extended attributes and the rest ---------------------------------------------------------------------------

    @handler
    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        if is_virtual(inode):
            raise FUSEError(errno.ENODATA)
        return xattrs.get(self._store, InodeNo(inode), name)

    @handler
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        return [] if is_virtual(inode) else xattrs.names(self._store, InodeNo(inode))

    @handler
    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._virtual.refuse(InodeNo(inode))
        xattrs.put(self._store, InodeNo(inode), name, value, self._owner(ctx))

    @handler
    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        self._virtual.refuse(InodeNo(inode))
        xattrs.remove(self._store, InodeNo(inode), name, self._owner(ctx))

    @handler
    async def access(self, inode: InodeT, mode: int, ctx: RequestContext) -> bool:
        return True  # the kernel has checked (default_permissions)

    @handler
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        total = space(self._store)
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = 4096
        answer.f_blocks = total.total // 4096
        answer.f_bfree = total.free // 4096
        answer.f_bavail = total.available // 4096
        answer.f_files = total.files
        answer.f_ffree = answer.f_favail = total.files_free
        answer.f_namemax = NAME_MAX
        return answer


def _file_info(fh: int, *, keep_cache: bool) -> FileInfo:
    return FileInfo(fh=FileHandleT(fh), keep_cache=keep_cache)
