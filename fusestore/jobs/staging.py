"""Staged copies of files: made in the target's incoming area, verified there, thrown away if nobody wants them.

    stage (threads) ─► sync of the target, the caller's ─► verify (threads) ─► put in place, the caller's

What a copy is for, and whether it may be used in the end, is for the caller to say. Small files share a way to a
thread and back, which takes longer than their copies; a few threads wait for the disks side by side, behind everybody
else.
"""

from __future__ import annotations

import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog
import trio

from fusestore.errors import FusestoreError, RootOffline, Stopped
from fusestore.roots import content, copier, copy, syscalls
from fusestore.roots.copier import AT_ONCE, COPY, MANY, VERIFY, Work
from fusestore.roots.copy import CopyResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fusestore.core.ports import Driver
    from fusestore.model import FileStamp, Inode, InodeNo
    from fusestore.service.places import At
    from fusestore.service.store import Store

    Progress = Callable[["Load", int], None]  # a load, and bytes of it that are done; called in threads

log = structlog.get_logger()

Trouble = OSError | FusestoreError

GROUP_FILES: Final = 64  # at most, that share a thread
GROUP_BYTES: Final = 4 << 20
ASIDE_BYTES: Final = 1 << 20  # from here on a group is worth a way to another process and back


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
    made: dict[InodeNo, Load | Trouble] = {}
    for group in _groups(loads):
        works: dict[InodeNo, Work] = {}
        with ExitStack() as held:
            for load in group:
                try:
                    work = _begin(store, load, held)
                except (OSError, FusestoreError) as error:
                    made[load.number] = error
                    continue
                if work is None:
                    made[load.number] = load
                else:
                    works[load.number] = work
            found = await _do_all(store, group, works, progress)
        for load in group:
            if load.number in found:
                result = found[load.number]
                is_made = isinstance(result, CopyResult)
                made[load.number] = load._replace(digest=result.digest, size=result.size) if is_made else result
    return made


def _begin(store: Store, load: Load, held: ExitStack) -> Work | None:
    """Do what takes no time; returns the rest, for which `held` keeps the source open.

    Raises:
        Gone; RootOffline; OSError as the disks say.
    """
    inode = store.inode(load.number)
    incoming = load.target.incoming()
    if load.source is None:
        _make(inode, load.target, incoming, load.staged)
        return None
    driver, directory, name = load.source
    if not inode.is_regular:
        copy.copy_object(directory, name, incoming, load.staged, root=load.target.number)
        return None
    source = driver.open(directory, name, write=False)
    held.callback(content.close, source)
    whose = (inode.id, inode.number, load.target.uuid)
    return Work(COPY, (source, incoming), (load.staged, load.target.number, store.config.hash.algorithm, *whose))


def _paced(store: Store, load: Load, progress: Progress) -> Callable[[int], None]:
    """The same for one load, but blocking for so long that nobody copies faster than the store's rate.

    What it raises: as `progress`; Stopped: the daemon ends; RootOffline: so that a disk that went is not held any more.
    """
    so_far = 0
    roots = [load.target] if load.source is None else [load.target, load.source.driver]

    def paced(size: int) -> None:
        nonlocal so_far
        look(size)
        store.pace.take(size - so_far, partial(look, size))
        so_far = size

    def look(size: int) -> None:
        if store.is_ending:
            raise Stopped
        for root in roots:
            if not root.online:
                raise RootOffline(root.name)
        progress(load, size)

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
    good: dict[InodeNo, bool | Trouble] = {}
    for group in _groups(loads):
        works: dict[InodeNo, Work] = {}
        for load in group:
            try:
                incoming = load.target.incoming()
            except (OSError, FusestoreError) as error:
                good[load.number] = error
                continue
            if load.digest:
                works[load.number] = Work(VERIFY, (incoming,), (load.staged, load.size, load.digest, algorithm))
            else:
                good[load.number] = True
        good |= await _do_all(store, group, works, lambda load, size: look())
    return good


async def _do_all(
    store: Store, group: list[Load], works: dict[InodeNo, Work], progress: Progress
) -> dict[InodeNo, Any]:
    """Do works for loads of one target; trouble with one does not stop the others.

    Much of it is done aside: the loop would wait for the interpreter, now and then, behind what it holds up.
    """
    paces = [_paced(store, load, progress) for load in group if load.number in works]
    is_much = len(works) >= MANY or sum(load.size for load in group) >= ASIDE_BYTES
    do = store.aside.do if store.aside is not None and is_much else _do_here
    if not works:
        return {}
    try:
        done = await trio.to_thread.run_sync(
            do, list(works.values()), paces, limiter=store.threads[group[0].target.number]
        )
    except OSError as error:  # there is nobody aside
        return dict.fromkeys(works, error)
    return dict(zip(works, done, strict=True))


def _do_here(works: Sequence[Work], progress: Sequence[Callable[[int], None]]) -> list[Any]:
    """Do works in a few threads of this process; as `Aside.do`."""
    with ThreadPoolExecutor(AT_ONCE, "copy", initializer=syscalls.stand_back) as pool:
        return list(pool.map(_do, works, progress))


def _do(work: Work, progress: Callable[[int], None]) -> Any:  # what the work returns
    try:
        return copier.do(work, progress)
    except (OSError, FusestoreError) as error:
        return error


def _groups(loads: Iterable[Load]) -> Iterator[list[Load]]:
    """The loads in handfuls for one target each."""
    groups: dict[Driver, list[Load]] = {}
    sizes: Counter[Driver] = Counter()
    for load in loads:
        group = groups.setdefault(load.target, [])
        group.append(load)
        sizes[load.target] += load.size
        if len(group) == GROUP_FILES or sizes[load.target] >= GROUP_BYTES:
            yield groups.pop(load.target)
            del sizes[load.target]
    yield from groups.values()


def throw_away(load: Load) -> None:
    """Remove a copy, or the beginning of one, that nobody will use."""
    try:
        load.target.unlink(load.target.incoming(), load.staged)
    except FileNotFoundError:
        pass  # it had not begun, or it was left at its target by trouble after the switch
    except (OSError, FusestoreError) as error:
        log.debug("a staged copy stays", name=load.staged.decode(), error=str(error))
