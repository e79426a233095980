"""What every use case works on: the index, the roots, and what is open, in one object with no logic of its own.

Everything here runs on the trio thread. A use case is plain `def` from its first index read to `apply`, so nothing
can come between; where one must await, it reads again afterwards.
"""

from __future__ import annotations

import stat
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from fusestore.core.placement import Placement
from fusestore.errors import Gone, NotFound, RootOffline, RootReadOnly
from fusestore.index.batch import Batch
from fusestore.model import (
    Absence,
    Cause,
    Event,
    Inode,
    InodeNo,
    JournalEntry,
    Layout,
    MoveNo,
    Operation,
    Owner,
    RootNo,
    Spot,
)
from fusestore.roots.hashing import tagged
from fusestore.service.audience import Audience
from fusestore.service.discarding import Condemned
from fusestore.service.openfiles import InPassing, OpenFiles
from fusestore.service.pace import Pace
from fusestore.service.paths import Paths
from fusestore.service.places import At, Places
from fusestore.service.reservations import Reservations
from fusestore.service.room import Reserved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fusestore.config import Config
    from fusestore.core.intents import Discard
    from fusestore.core.ports import Driver
    from fusestore.index.store import Index
    from fusestore.model import Kind, Move
    from fusestore.roots.aside import Aside
    from fusestore.service.audience import Watch
    from fusestore.service.doubting import Losses
    from fusestore.service.emptying import Progress

log = structlog.get_logger()

THREADS_PER_ROOT: Final = 16
REREAD_AT_ONCE: Final = 2  # whole files of a root
MEMORY: Final = 10_000  # directories whose paths are remembered
NOBODY: Final = Owner(-1, -1)


class Store:
    """One opened store.

    Args:
        index: opened; the store applies every change to it.
        roots: by number; all roots that the config names.
        tops: the directory in the mount that shows each root.
        absent: the roots that are offline.

    Attributes:
        copies: how many copies of each of its files a root asks for, its own among them, where it is more than one.
        preference: the roots whose copies are read rather than others, the first before the next.
    """

    def __init__(
        self,
        config: Config,
        index: Index,
        roots: Mapping[RootNo, Driver],
        tops: Mapping[InodeNo, RootNo],
        absent: dict[RootNo, Absence],
    ) -> None:
        self.socket_path = config.socket
        self.index = index
        self.roots = roots
        self.tops = tops
        self.absent = absent
        self.losses: dict[RootNo, Losses] = {}
        self.accepting: set[RootNo] = set()  # roots of which an operator has said that what is missing is gone
        self.layouts = {number: root.layout for number, root in roots.items()}
        self.placement = Placement(index, tops, self.layouts)
        self.places = Places(index, self.placement, roots, tops)
        self.files = OpenFiles()
        self.orphans: dict[InodeNo, Inode] = {}  # without a name, but known to the kernel or open
        self.lookups: Counter[InodeNo] = Counter()  # the kernel's lookup counts
        self.digests: dict[InodeNo, InPassing] = {}  # of closed files that are not settled
        self.cut_off: set[InodeNo] = set()  # not settled when the last run ended: nobody knows if their writer was done
        self.condemned = Condemned()
        self.unsynced: dict[RootNo, list[int]] = {number: [] for number in roots}  # kept intents (`service.syncing`)
        self.trashed: Counter[RootNo] = Counter()  # bytes held by the trash (`service.trash`)
        self.owed: Counter[RootNo] = Counter()  # effects on a root that names elsewhere depend on
        self.suspects: set[InodeNo] = set()  # files whose ctime moved outside: their bytes have to be compared
        self.forgetting: set[InodeNo] = set()  # damaged: opening one has the kernel forget its pages
        self.holding: dict[MoveNo, InodeNo] = {}  # what of a directory holds its move up
        self.running: dict[MoveNo, Move] = {}  # moves in somebody's hands, with counts ahead of those in the index
        self.is_ending = False  # copies on their way stop where they can
        self.pace = Pace(config.moves.rate)  # of all copies together
        self.configure(config)
        self.aside: Aside | None = None  # the process that copies, where a daemon serves
        self.reservations = Reservations()
        self.tries: Counter[MoveNo] = Counter()  # of moves that have not got through yet
        # A hung disk holds up its own threads and nobody else's; reading whole files holds up no request, nor the look
        # whether the disk is there.
        self.threads = {number: trio.CapacityLimiter(THREADS_PER_ROOT) for number in roots}
        self.rereading = {number: trio.CapacityLimiter(REREAD_AT_ONCE) for number in roots}
        self.probing = {number: trio.CapacityLimiter(1) for number in roots}
        self.digesting: set[InodeNo] = set()  # files that are read for their hash, which others wait for
        self.reserved = {number: Reserved() for number in roots}
        self.on_stale: Callable[[InodeNo], None] = lambda number: None  # attributes changed without a kernel request
        # Content waits to be made durable and hashed.
        self.on_unsettled: Callable[[InodeNo], None] = lambda number: None
        self.on_move: Callable[[], None] = lambda: None  # there is a new move
        # Bytes that were replaced, to be destroyed when nothing can bring their name back.
        self.on_replaced: Callable[[list[tuple[int, Discard]]], None] = lambda discards: None
        # A copy of a file, or of the files below a directory, is due on a root.
        self.on_due: Callable[[RootNo, InodeNo], None] = lambda root, number: None
        # What held a move up has passed, or it shall go on; None: it may concern any that waits.
        self.on_retry: Callable[[MoveNo | None], None] = lambda move: None
        self.copied: dict[tuple[InodeNo, RootNo], int] = {}  # bytes done of the replicas that are being made
        self.troubles: dict[tuple[InodeNo, RootNo], str] = {}  # why replicas are not made yet, as far as it is known
        # Has something done in the mount, so that the kernel knows of it; None: no kernel has the store mounted.
        self.errand: Callable[..., Awaitable[Any]] | None = None
        self.drains = index.drains()  # the roots that are to be empty
        self.emptying: dict[RootNo, Progress] = {}  # how far they are
        self.on_drain: Callable[[], None] = lambda: None  # there is something to do for one of them
        self.audience = Audience()
        self.watches: dict[RootNo, Watch] = {}  # of the roots that others may change
        self.paths = Paths(index)

    def configure(self, config: Config) -> None:
        """Go by these settings from now on; of a mounted store only some may change (`service.reloading`)."""
        self.config = config
        self.specs = {spec.name: spec for spec in config.roots}
        self.preference = tuple(
            number for name in config.mount.prefer for number, root in self.roots.items() if root.name == name
        )
        asked = {root.name: root.copies for root in config.roots if root.copies > 1}
        self.copies = {number: asked[root.name] for number, root in self.roots.items() if root.name in asked}
        self.pace.change(config.moves.rate)
        self.index.commit_s = config.index.commit_s

    # -- looking up -------------------------------------------------------------------------------------------------

    def inode(self, number: InodeNo) -> Inode:
        """The record of an inode, named or not.

        Raises:
            Gone
        """
        inode = self.index.inode(number) or self.orphans.get(number)
        if inode is None:
            raise Gone(number)
        return inode

    def path(self, number: InodeNo) -> bytes | None:
        """A present path, relative to the mountpoint; None when no name leads there any more."""
        return self.paths.of(number)

    def join(self, parent: InodeNo, name: bytes) -> bytes | None:
        """The path of a name, existing or not."""
        return self.paths.join(parent, name)

    def directory_changed(self, number: InodeNo | None = None) -> None:
        """Drop what was worked out from directories' names and places; `number`: and the descriptors of this one.

        For whoever renames, removes or carries a directory, after `apply`.
        """
        self.paths.forget()
        self.placement.forget()
        if number is not None:
            self.places.forget(number)

    def root_of(self, number: InodeNo) -> Driver | None:
        """The root where an inode's bytes are, or would be; None above the roots."""
        spots = self.placement.spots(number)
        root = spots[0].root if spots else self.placement.home(number)
        return self.roots[root] if root is not None else None

    def place(self, number: InodeNo) -> At:
        """Where an inode's bytes are read and written.

        Raises:
            Gone: it has no name any more; RootOffline.
        """
        spots = self.placement.spots(number)
        if not spots:
            raise Gone(number)
        return self.places.at(spots[0], number)

    def home_root(self, directory: InodeNo) -> Driver:
        """The root that new names in `directory` belong to.

        Raises:
            NotFound: there is none: the directory has been removed.
        """
        home = self.placement.directory_home(directory)
        if home is None:
            raise NotFound(directory)
        return self.roots[home]

    def writable(self, root: Driver) -> Driver:
        """Refuse what a root cannot take: nothing below one that is away can be made, changed, renamed or removed.

        Raises:
            RootOffline, RootReadOnly
        """
        if not root.online:
            raise RootOffline(root.name)
        if root.read_only:
            raise RootReadOnly(root.name)
        return root

    def on_disk(self, inode: Inode, root: RootNo) -> bool:
        """Whether an inode placed on `root` has an object on its disk; in an `id` root only regular files have."""
        return inode.is_regular or self.layouts[root] is Layout.TREE

    def disk_spots(self, inode: Inode, spots: tuple[Spot, ...]) -> tuple[Spot, ...]:
        """Those of `spots` at which there is an object on a disk."""
        if inode.is_regular:
            return spots
        return tuple(spot for spot in spots if self.on_disk(inode, spot.root))

    def keeps_ctime(self, spots: tuple[Spot, ...]) -> bool:
        """Whether a disk that others may look at has the object, and its ctime, which our changes of names leave alone.

        In an `id` root the names are in the index only, and with them the ctime of their changes.
        """
        return any(self.layouts[spot.root] is Layout.TREE for spot in spots)

    # -- changing ---------------------------------------------------------------------------------------------------

    def batch(self, *, grows: bool = False) -> Batch:
        return Batch(grows=grows)

    def event(
        self,
        batch: Batch,
        inode: Inode,
        operation: Operation,
        kind: Kind,
        *,
        path: bytes | None,
        root: str = "",
        cause: Cause | None = None,
        owner: Owner | None = None,
        old_path: bytes = b"",
        old_root: str = "",
        move: int = 0,
        detail: str = "",
    ) -> None:
        """Add the event of a change to its batch; its cause, if none is given, is the owner's."""
        owner = owner or NOBODY
        batch.event(
            Event(
                operation=operation,
                kind=kind,
                inode=inode.number,
                id=inode.id,
                type=stat.S_IFMT(inode.mode),
                path=path or b"",
                root=root,
                version=inode.version,
                size=inode.size,
                mtime_ns=inode.mtime_ns,
                cause=cause or owner.cause,
                old_path=old_path,
                old_root=old_root,
                hash=tagged(inode.hash_algorithm, inode.current_hash),
                uid=owner.uid,
                pid=owner.pid,
                move=move,
                detail=detail,
                tid=owner.tid,
                other_paths=self._other_paths(inode, path),
            )
        )

    def _other_paths(self, inode: Inode, path: bytes | None) -> tuple[bytes, ...]:
        if inode.nlink <= 1 or stat.S_ISDIR(inode.mode):
            return ()
        paths = (self.join(*name) for name in self.index.parents(inode.number))
        return tuple(each for each in paths if each is not None and each != path)

    def journal(
        self,
        batch: Batch,
        inode: Inode,
        command: str,
        outcome: str = "done",
        *,
        old: bytes = b"",
        new: bytes = b"",
        old_root: str = "",
        new_root: str = "",
        owner: Owner | None = None,
        move: int = 0,
    ) -> None:
        """Add a line of history to a batch."""
        owner = owner or NOBODY
        batch.journal(
            inode.id,
            JournalEntry(
                time_ns=time.time_ns(),
                command=command,
                outcome=outcome,
                old=old,
                new=new,
                old_root=old_root,
                new_root=new_root,
                uid=owner.uid,
                pid=owner.pid,
                move=move,
                version=inode.version,
                hash=tagged(inode.hash_algorithm, inode.current_hash),
            ),
        )

    def let_go(self, number: InodeNo) -> None:
        """Forget what was kept for the kernel of an inode without a name, once nothing refers to it."""
        if number not in self.lookups:
            self.files.unpin(number)
            if number not in self.files:
                self.orphans.pop(number, None)

    def held(self, number: InodeNo) -> bool:
        """Whether the kernel or a handle still refers to an inode that has no name."""
        return number in self.lookups or number in self.files

    def close(self, *, clean: bool) -> None:
        """Close what is open: directories, roots, the index. `clean`: the run ended in order."""
        self.places.close()
        for root in self.roots.values():
            root.close()
        self.index.close(clean=clean)
