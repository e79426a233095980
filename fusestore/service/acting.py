"""What is done with files for a peer of the socket: by the kernel, in the mount, with the peer's own rights.

So a peer can do here what it could do in the mount and no more, and the kernel, which remembers names for long and
cannot be told to forget them (decision 0007), knows of all of it. Which names there are is looked up before, and no
symlink followed on the way to them.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Final

from fusestore.core.namespace import check_name
from fusestore.errors import (
    AlreadyExists,
    Forbidden,
    FusestoreError,
    InvalidRequest,
    IsADirectory,
    NameTooLong,
    NoRoom,
    NotADirectory,
    NotFound,
    NotSupported,
    ReplicaError,
    Reserved,
    RootReadOnly,
)
from fusestore.service import writing, xattrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusestore.core.rights import Asker
    from fusestore.model import InodeNo, Owner
    from fusestore.service.store import Store

# What the mount refuses, as we refuse it.
REFUSALS: Final[Mapping[int, type[FusestoreError]]] = {
    errno.EACCES: Forbidden,
    errno.EPERM: Forbidden,
    errno.ENOENT: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EISDIR: IsADirectory,
    errno.ENOTDIR: NotADirectory,
    errno.ENAMETOOLONG: NameTooLong,
    errno.EINVAL: InvalidRequest,
    errno.EBUSY: Reserved,
    errno.ENOSPC: NoRoom,
    errno.EDQUOT: NoRoom,
    errno.EROFS: RootReadOnly,
}


async def register(
    store: Store, area: InodeNo, name: bytes, body: bytes, content_type: str, mode: int, owner: Owner, asker: Asker
) -> tuple[str, bytes]:
    """Make a new file in the directory `area`, durable; its id and its path.

    If the name is taken the file is shown under another, with the end of its id in it. Its attribute
    `user.fusestore.name` says the name that it was to have.

    Raises:
        BadName, NameTooLong, Forbidden, NoRoom, RootReadOnly, ReplicaError.
    """
    check_name(name)
    attributes = {xattrs.NAME: os.fsdecode(name)} | ({xattrs.CONTENT_TYPE: content_type} if content_type else {})
    made = await _do(
        store,
        "register",
        owner,
        asker,
        body,
        directory=store.path(area) or b"",
        name=os.fsdecode(name),
        mode=mode,
        attributes={os.fsdecode(key): value for key, value in attributes.items()},
    )
    return made["id"], store.join(area, os.fsencode(made["name"])) or b""


async def write(store: Store, number: InodeNo, path: bytes, body: bytes, owner: Owner, asker: Asker) -> str:
    """Give a name a file of another content, all or nothing: the old one stays until the new one is durable.

    Owner, mode and the user's attributes stay; the file is a new one. Returns its id.

    Raises:
        IsADirectory, InvalidRequest: it is no regular file; Forbidden, Reserved, NoRoom, RootReadOnly, ReplicaError.
    """
    writing.check_regular(store, store.inode(number))
    id: str = await _do(store, "write", owner, asker, body, path=path)
    return id


async def unlink(store: Store, paths: list[bytes], owner: Owner, asker: Asker) -> bool:
    """Remove names; whether there was one of them.

    Raises:
        IsADirectory, Forbidden, Reserved, RootReadOnly, ReplicaError.
    """
    return bool(await _do(store, "unlink", owner, asker, paths=paths))


async def _do(store: Store, deed: str, owner: Owner, asker: Asker, body: bytes | None = None, **arguments: Any) -> Any:
    if store.errand is None:
        raise NotSupported("the store is not mounted")
    try:
        return await store.errand(deed, owner, asker, body, **arguments)
    except OSError as error:
        kind = REFUSALS.get(error.errno or 0, ReplicaError)
        what = error.filename if isinstance(error.filename, str) else deed
        raise kind(what if kind is not ReplicaError else error.strerror) from None
