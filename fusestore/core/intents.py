"""What is about to be done to a disk, recorded before it is done.

Every change to a disk goes decide -> effect -> settle. The intent is what `decide` leaves in the index: enough to
tell, by looking at the disk after a crash, whether the effect happened, and enough to finish it if so. One struct per
kind of effect; the tag is what the index stores. Plain data: the use cases in `service` carry them out. `done` says
that the effect is recorded, and the intent kept until no power cut can take it from the disk (`service.syncing`).
"""

from __future__ import annotations

from msgspec import Struct

from fusestore.model import Backing, FileStamp, InodeNo, MoveNo, RootNo, Spot, Trashed


class Create(Struct, tag="create", frozen=True):
    """A file, directory, symlink or special file appears at `spot` under the name (`parent`, `name`).

    With `trash` it comes from there.
    """

    inode: InodeNo
    id: bytes
    parent: InodeNo
    name: bytes
    spot: Spot
    mode: int
    uid: int
    gid: int
    rdev: int = 0
    target: bytes = b""
    trash: Trashed | None = None


class Link(Struct, tag="link", frozen=True):
    """A further hard link of `inode` appears at `spot` under the name (`parent`, `name`)."""

    inode: InodeNo
    parent: InodeNo
    name: bytes
    source: Spot
    spot: Spot
    backing: Backing | None


class Remove(Struct, tag="remove", frozen=True):
    """The name (`parent`, `name`) goes, and the disk objects at `spots` (a directory may lie on several roots).

    With `trash` the first of them goes there.
    """

    inode: InodeNo
    parent: InodeNo
    name: bytes
    spots: tuple[Spot, ...]
    backing: Backing | None
    trash: Trashed | None = None


class Rename(Struct, tag="rename", frozen=True):
    """`inode` goes from one name to another, and its disk object from `source` to `spot`, replacing what is there.

    `replaced` is the inode that loses the target name (0: none). With `exchange` the two swap places.
    """

    inode: InodeNo
    old_parent: InodeNo
    old_name: bytes
    parent: InodeNo
    name: bytes
    source: Spot
    spot: Spot
    backing: Backing
    replaced: InodeNo = InodeNo(0)
    exchange: bool = False
    done: bool = False


class Relocate(Struct, tag="relocate", frozen=True):
    """A disk object goes from `source` to `spot` on the same file system, and no name changes.

    A ghost steps aside for something that needs its old place, or an object comes home. With `keep` the source stays:
    a further hard link.
    """

    inode: InodeNo
    source: Spot
    spot: Spot
    backing: Backing
    keep: bool = False
    done: bool = False


class Discard(Struct, tag="discard", frozen=True):
    """Bytes that no name leads to any more, at `spots`; the decision to destroy them is already durable.

    With `trash` they lie there until their time has come.
    """

    inode: InodeNo
    id: bytes
    spots: tuple[Spot, ...]
    backing: Backing | None
    directory: bool = False
    done: bool = False
    trash: Trashed | None = None


class Attributes(Struct, tag="attributes", frozen=True):
    """Owner, mode, times or xattrs of `inode` change on disk."""

    inode: InodeNo


class Writing(Struct, tag="writing", frozen=True):
    """A writing period of `inode` has begun: the content is `version` from now on and not known to be durable."""

    inode: InodeNo
    version: int
    closed: bool = False  # the last writer has closed it; what is left is to make it durable


class Skeleton(Struct, tag="skeleton", frozen=True):
    """A directory on its way gets its place on the target root: mkdir at `spot`."""

    inode: InodeNo
    spot: Spot


class Arrive(Struct, tag="arrive", frozen=True):
    """A verified copy leaves the target root's incoming area for `spots[0]`; the others are hard links to it."""

    inode: InodeNo
    move: MoveNo
    version: int
    root: RootNo
    staged: bytes  # name in the incoming area
    spots: tuple[Spot, ...]
    backing: Backing  # of the staged copy
    algorithm: str = ""
    digest: bytes = b""  # verified on the copy; b"" for what has no content
    stamp: FileStamp | None = None  # of the original, as it was copied; None for what was only in the index
    done: bool = False


class Replicate(Struct, tag="replicate", frozen=True):
    """A verified copy leaves a root's incoming area for its id area, in place of an older one if there is one."""

    inode: InodeNo
    id: bytes
    root: RootNo
    staged: bytes  # name in the incoming area
    version: int
    size: int
    algorithm: str
    digest: bytes
    backing: Backing  # of the staged copy
    done: bool = False


Intent = Create | Link | Remove | Rename | Relocate | Discard | Attributes | Writing | Skeleton | Arrive | Replicate
