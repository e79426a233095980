"""Staged copies of files: made in the target's incoming area, verified there, thrown away if nobody wants them.

    stage (threads) ─► sync of the target, the caller's ─► verify (threads) ─► put in place, the caller's

What a copy is for, and whether it may be used in the end, is for the caller to say. Small files share a way to a
thread and back, which takes longer than their copies; a few threads wait for the disks side by side, behind everybody
else.
"""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import structlog
import trio

from fusestore.errors import FusestoreError, Stopped
from fusestore.roots import content, copy, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusestore.core.ports import Driver
    from fusestore.model import FileStamp, Inode, InodeNo
    from fusestore.service.places import At
    from fusestore.service.store import Store

    T = TypeVar("T")
    Progress = Callable[["Load", int], None]  # a load, and bytes of it that are done; called in threads

log = structlog.get_logger()

Trouble = OSError | FusestoreError

GROUP_FILES: Final = 64  # at most, that share a thread
GROUP_BYTES: Final = 4 << 20
AT_ONCE: Final = 2  # of a group; each turn waits for its disk, or for the interpreter


class Load(NamedTuple):
    """One object to be copied, as it was when that was planned."""

    number: InodeNo
    version: int
    staged: bytes  # name in the target's incoming area
    source: At | None  # None for what is only in the index
    stamp: FileStamp  # of the source, or of the record if that is all there is
    target: Driver
    size: int
    digest: bytes = b""
    needs: int = 0  # bytes on the target's disk; fewer than `size` where the source has holes


async def stage(store: Store, loads: Iterable[Load], progress: Progress) -> dict[InodeNo, Load | Trouble]:
    """Make copies in their targets' incoming areas.

    Args:
        progress: what it raises ends the copy.

    Returns:
        for each its load with the digest, b"" for what has no content; or why there is no copy.
    """
    return await _in_groups(store, loads, lambda load, held: _begin(store, load, progress, held))


def _begin(store: Store, load: Load, progress: Progress, held: ExitStack) -> Callable[[], Load]:
    """Do what needs no thread; returns the rest, for which `held` keeps the source open.

    Raises:
        Gone; RootOffline; OSError as the disks say.
    """
    inode = store.inode(load.number)
    incoming = load.target.incoming()
    if load.source is None:
        _make(inode, load.target, incoming, load.staged)
        return lambda: load
    driver, directory, name = load.source
    if not inode.is_regular:
        copy.copy_object(directory, name, incoming, load.staged, root=load.target.number)
        return lambda: load
    source = driver.open(directory, name, write=False)
    held.callback(content.close, source)
    return partial(_copy, store, load, source, incoming, progress)


def _copy(store: Store, load: Load, source: int, incoming: int, progress: Progress) -> Load:
    made = copy.copy_file(
        source,
        incoming,
        load.staged,
        root=load.target.number,
        algorithm=store.config.hash.algorithm,
        progress=_paced(store, partial(progress, load)),
    )
    return load._replace(digest=made.digest, size=made.size)


def _paced(store: Store, progress: Callable[[int], None]) -> Callable[[int], None]:
    """The same, but blocking for so long that nobody copies faster than the store's rate.

    What it raises: as `progress`; Stopped: the daemon ends.
    """
    so_far = 0

    def paced(size: int) -> None:
        nonlocal so_far
        look(size)
        store.pace.take(size - so_far, partial(look, size))
        so_far = size

    def look(size: int) -> None:
        if store.is_ending:
            raise Stopped
        progress(size)

    return paced


def _make(inode: Inode, target: Driver, incoming: int, staged: bytes) -> None:
    """Make what was only in the index: a symlink or special file of an `id` root."""
    try:
        target.unlink(incoming, staged)
    except FileNotFoundError:
        pass
    if stat.S_ISLNK(inode.mode):
        target.symlink(incoming, staged, inode.target, inode.uid, inode.gid)
    else:
        target.mknod(incoming, staged, inode.mode, inode.rdev, inode.uid, inode.gid)
    target.utime(incoming, staged, inode.atime_ns, inode.mtime_ns)


async def verify(
    store: Store, loads: Iterable[Load], look: Callable[[], None] = lambda: None
) -> dict[InodeNo, bool | Trouble]:
    """Whether staged and synced copies read back from their disks as they were written; what has no content does.

    Args:
        look: called in threads after each block; what it raises ends the reading.
    """
    algorithm = store.config.hash.algorithm

    def begin(load: Load, _: ExitStack) -> Callable[[], bool]:
        if not load.digest:
            return lambda: True
        incoming, progress = load.target.incoming(), _paced(store, lambda _: look())
        return partial(copy.verify_file, incoming, load.staged, load.size, load.digest, algorithm, progress=progress)

    return await _in_groups(store, loads, begin)


async def _in_groups(
    store: Store, loads: Iterable[Load], begin: Callable[[Load, ExitStack], Callable[[], T]]
) -> dict[InodeNo, T | Trouble]:
    """Begin work on the loop, and do what that returns in threads; trouble with one load does not stop the others."""
    found: dict[InodeNo, T | Trouble] = {}
    for group in _groups(loads):
        begun: dict[InodeNo, Callable[[], T]] = {}
        with ExitStack() as held:
            for load in group:
                try:
                    begun[load.number] = begin(load, held)
                except (OSError, FusestoreError) as error:
                    found[load.number] = error
            done = await trio.to_thread.run_sync(_do_all, begun, limiter=store.threads[group[0].target.number])
        found |= done
    return found


def _do_all(works: dict[InodeNo, Callable[[], T]]) -> dict[InodeNo, T | Trouble]:
    """Do these works in a few threads of their own."""
    with ThreadPoolExecutor(AT_ONCE, "copy", initializer=syscalls.stand_back) as pool:
        return dict(zip(works, pool.map(_do, works.values()), strict=True))


def _do(work: Callable[[], T]) -> T | Trouble:
    try:
        return work()
    except (OSError, FusestoreError) as error:
        return error


def _groups(loads: Iterable[Load]) -> Iterator[list[Load]]:
    """The loads in handfuls for one target each."""
    groups: dict[Driver, list[Load]] = {}
    for load in loads:
        group = groups.setdefault(load.target, [])
        group.append(load)
        if len(group) == GROUP_FILES or sum(each.size for each in group) >= GROUP_BYTES:
            yield groups.pop(load.target)
    yield from groups.values()


def throw_away(load: Load) -> None:
    """Remove a copy, or the beginning of one, that nobody will use."""
    try:
        load.target.unlink(load.target.incoming(), load.staged)
    except FileNotFoundError:
        pass  # it had not begun, or it was left at its target by trouble after the switch
    except (OSError, FusestoreError) as error:
        log.debug("a staged copy stays", name=load.staged.decode(), error=str(error))
