"""Listing directories and looking for files, page by page, with the rights of whoever asks.

The order is that of names, byte by byte, and what is in a directory comes right behind it. So the path of the last
entry says where the next page begins, whatever has come or gone meanwhile, and nothing is kept between two pages.
"""

from __future__ import annotations

import fnmatch
import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Struct

from fusestore.core.rights import READ, SEARCH, may
from fusestore.errors import Forbidden, FusestoreError, InvalidRequest, NotADirectory, NotFound
from fusestore.service import describing, looking, refreshing, walking
from fusestore.service.breath import Breath

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from fusestore.core.rights import Asker
    from fusestore.model import Inode, InodeNo
    from fusestore.service.store import Store

NAMES: Final = 200  # read at once


class Wanted(Struct, frozen=True):
    """What is looked for; None does not ask.

    Attributes:
        name: what the last component is like (`pattern`).
        hash: algorithm and digest of the present content.
        type, state, root: as records say them.
    """

    name: re.Pattern[str] | None = None
    hash: tuple[str, bytes] | None = None
    type: str | None = None
    state: str | None = None
    root: str | None = None

    def fits(self, store: Store, name: bytes, inode: Inode) -> bool:
        """Whether an object of this name is looked for."""
        if self.name is not None and self.name.match(describing.text(name)) is None:
            return False
        if self.hash is not None and (inode.hash_algorithm, inode.current_hash) != self.hash:
            return False
        if self.type is not None and describing.type_of(inode) != self.type:
            return False
        if self.state is not None and describing.state_of(inode) != self.state:
            return False
        driver = store.root_of(inode.number) if self.root is not None else None
        return self.root is None or (driver is not None and driver.name == self.root)


def pattern(name: str) -> re.Pattern[str]:
    """A pattern as of the shell; not by `fnmatch.fnmatch`, which keeps thousands of them."""
    return re.compile(fnmatch.translate(name))


class Page(NamedTuple):
    """Some entries, and directories that could not be looked into and why; `after` begins the next page, if any."""

    entries: list[dict[str, Any]]
    problems: list[dict[str, str]]
    after: str | None


class Entry(NamedTuple):
    """A name that was come by; with a `problem` what is in it stays unknown."""

    path: bytes
    inode: Inode
    problem: str = ""


def check_reach(store: Store, number: InodeNo, asker: Asker | None) -> None:
    """Refuse what an asker gets to by none of its names.

    Raises:
        Forbidden
    """
    if asker is None:
        return
    names = store.index.parents(number)
    if names and not any(_reaches(store, parent, asker) for parent, _ in names):
        raise Forbidden(b"")


def path_for(store: Store, number: InodeNo, asker: Asker | None) -> bytes | None:
    """A path by which an asker gets to an object, if it does."""
    if asker is None:
        return store.path(number)
    reached = (name for name in store.index.parents(number) if _reaches(store, name[0], asker))
    return next((store.join(*name) for name in reached), None)


def _reaches(store: Store, directory: InodeNo, asker: Asker) -> bool:
    """Whether an asker gets to what is in a directory."""
    while may(asker, looking.getattr(store, directory).inode, SEARCH):
        names = store.index.parents(directory)
        if not names:
            return True
        directory = names[0][0]
    return False


async def page(
    store: Store,
    top: InodeNo,
    asker: Asker | None,
    wanted: Wanted,
    report: Callable[[int], None],
    *,
    recursive: bool,
    after: bytes | None,
    limit: int,
) -> Page:
    """The next of what is wanted in the directory `top`, or of all that is below it.

    Args:
        asker: sees what `ls` and `find` would show it; None sees everything.
        report: called with how many names were looked at.
        after: the path of the entry behind which the page begins.
        limit: of entries and problems together.

    Raises:
        NotADirectory; Forbidden: the asker may not list it; InvalidRequest: `after` is not below it; RootOffline: it
        was never listed, so that nobody knows.
    """
    inode, path = looking.getattr(store, top).inode, store.path(top) or b""
    if not inode.is_dir:
        raise NotADirectory(path)
    if not may(asker, inode, READ | SEARCH):
        raise Forbidden(path)
    await refreshing.refresh(store, top)
    start = _parts_below(path, after) if after is not None else []
    breath, count = Breath(asker.uid if asker is not None else None), 0
    found = Page([], [], None)
    last = b""
    if wanted.hash is None:
        source = _below(store, top, path, asker, recursive=recursive, start=start)
    else:
        source = _holding(store, top, path, asker, wanted.hash, start, breath)
    async with aclosing(source) as entries:
        async for entry in entries:
            await breath.take()
            count += 1
            report(count)
            fits = wanted.fits(store, entry.path.rpartition(b"/")[2], entry.inode)
            if not fits and not entry.problem:
                continue
            if len(found.entries) + len(found.problems) >= limit:
                return found._replace(after=describing.text(last))
            if fits:
                found.entries.append(described(store, entry.path, entry.inode, asker))
            if entry.problem:
                found.problems.append({"path": describing.text(entry.path), "reason": entry.problem})
            last = entry.path
    return found


def _parts_below(top: bytes, path: bytes) -> list[bytes]:
    below = path.removeprefix(top + b"/") if top else path
    if not below or (top and below == path):
        raise InvalidRequest(f"{describing.text(path)!r} is not below {describing.text(top)!r}")
    return below.split(b"/")


def described(store: Store, path: bytes, inode: Inode, asker: Asker | None) -> dict[str, Any]:
    """The record of an object under the name by which an asker has come to it."""
    record = {**describing.known(store, inode), "path": describing.text(path)}
    if asker is not None:
        record["paths"] = [record["path"]]  # others may lie where it does not get
        if not may(asker, inode, READ):  # then its hash could not be read as an attribute either
            record["hash"] = ""
    return record


class _Open:
    """A directory that is being gone through, and its names that are still to come."""

    def __init__(self, number: InodeNo, path: bytes, last: bytes = b"") -> None:
        self.number = number
        self.path = path
        self._last = last
        self._names: list[tuple[bytes, InodeNo]] = []  # the next one last

    def next(self, store: Store) -> tuple[bytes, InodeNo] | None:
        if not self._names:
            self._names = store.index.dentries(self.number, self._last, NAMES)[::-1]
        if not self._names:
            return None
        self._last = self._names[-1][0]
        return self._names.pop()

    def join(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


async def _holding(
    store: Store,
    top: InodeNo,
    path: bytes,
    asker: Asker | None,
    hash: tuple[str, bytes],
    start: list[bytes],
    breath: Breath,
) -> AsyncGenerator[Entry]:
    """The files with this content below `top` behind the path `start`, found without going through it all."""
    found: list[tuple[list[bytes], InodeNo, bytes, InodeNo]] = []
    for number in store.index.by_hash(*hash):
        await breath.take()
        for parent, name in store.index.parents(number):
            here = store.join(parent, name)
            if here is not None and top in (parent, *walking.above(store, parent)):
                parts = _parts_below(path, here)
                if parts > start:
                    found.append((parts, parent, name, number))
    for parts, parent, name, number in sorted(found):
        child = _seen(store, parent, name, number) if _is_listed(store, parent, top, asker) else None
        # Nobody may learn what is in a file by guessing its hash.
        if child is not None and may(asker, child, READ):
            yield Entry(b"/".join([path, *parts] if path else parts), child)


def _is_listed(store: Store, directory: InodeNo, top: InodeNo, asker: Asker | None) -> bool:
    """Whether a directory is `top` or below it, and an asker who lists `top` comes by what is in it."""
    for number in (directory, *walking.above(store, directory)):
        if number == top:
            return True
        if not may(asker, looking.getattr(store, number).inode, READ | SEARCH):
            return False
    return False


async def _below(
    store: Store, top: InodeNo, path: bytes, asker: Asker | None, *, recursive: bool, start: list[bytes]
) -> AsyncGenerator[Entry]:
    """What is below `top` behind the path `start`, a directory before what is in it."""
    way = [_Open(top, path, start[0] if start else b"")]
    for depth, part in enumerate(start if recursive else (), 1):
        number = store.index.dentry(way[-1].number, part)
        inode = store.index.inode(number) if number is not None else None
        if inode is None or not inode.is_dir or await _problem(store, inode, asker):
            break
        way.append(_Open(inode.number, way[-1].join(part), start[depth] if depth < len(start) else b""))
    while way:
        name = way[-1].next(store)
        if name is None:
            way.pop()
            continue
        directory = way[-1]
        child = _seen(store, directory.number, *name)
        if child is None:
            continue
        here = directory.join(name[0])
        problem = await _problem(store, child, asker) if recursive and child.is_dir else ""
        yield Entry(here, child, problem)
        if recursive and child.is_dir and not problem:
            way.append(_Open(child.number, here))


def _seen(store: Store, directory: InodeNo, name: bytes, number: InodeNo) -> Inode | None:
    """An inode as it is now, or as it was last seen where its disk does not show it; None: the name is gone."""
    if store.index.dentry(directory, name) != number:
        return None
    try:
        return looking.see_name(store, directory, name, number, looking.disk_of(store, directory)).inode
    except NotFound:
        return None
    except OSError:
        return store.inode(number)


async def _problem(store: Store, directory: Inode, asker: Asker | None) -> str:
    """Why an asker cannot look into a directory; "" once it is known what is in it."""
    if not may(asker, directory, READ | SEARCH):
        return str(Forbidden())
    try:
        await refreshing.refresh(store, directory.number)
    except (OSError, FusestoreError) as error:
        return str(error)
    return ""
