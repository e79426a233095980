"""Reading bytes again and comparing them with the recorded hashes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import trio

from fusestore.errors import FusestoreError
from fusestore.roots import content
from fusestore.roots.hashing import hash_fd, tagged
from fusestore.service import adopting, describing, walking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fusestore.model import Inode, InodeNo
    from fusestore.service.store import Store

    Report = Callable[[int, int, str], None]


async def verify(store: Store, top: InodeNo, root: str | None, report: Report) -> dict[str, Any]:
    """Compare every file below `top`, or of one root, with its recorded hash.

    Returns:
        counts of files: `checked`, `ok`, `unknown` (no hash is recorded for the present content), and `bad`: a line
        for each that differs or cannot be read.
    """
    checked = ok = unknown = read_bytes = 0
    bad: list[dict[str, Any]] = []
    total = 0
    async for _, inode in _files_below(store, top, root):
        total += inode.size
    async for path, inode in _files_below(store, top, root):
        checked += 1
        expected = inode.current_hash
        if not expected or store.files.has_writer(inode.number):
            unknown += 1
            continue
        line = {"path": describing.text(path), "id": describing.id_text(inode.id)}
        line["expected"] = tagged(inode.hash_algorithm, expected)
        try:
            found = await _digest(store, inode)
        except (OSError, FusestoreError) as error:
            bad.append({**line, "error": str(error)})
        else:
            now = store.index.inode(inode.number)
            if found == expected or now is None or now.version != inode.version:
                ok += 1
            else:
                bad.append({**line, "found": tagged(inode.hash_algorithm, found)})
        read_bytes += inode.size
        report(read_bytes, total, "bytes")
    return {"checked": checked, "ok": ok, "unknown": unknown, "bad": bad}


async def _digest(store: Store, inode: Inode) -> bytes:
    at = store.place(inode.number)
    limiter = store.threads[at.driver.number]
    fd = at.driver.open(at.directory, at.name, write=False)
    try:
        content.forget_cached(fd)
        return await trio.to_thread.run_sync(hash_fd, fd, inode.hash_algorithm, limiter=limiter)
    finally:
        content.close(fd)


async def _files_below(store: Store, top: InodeNo, root: str | None) -> AsyncIterator[tuple[bytes, Inode]]:
    """Every regular file below `top`, each once however many names it has, as (path, record)."""
    seen: set[InodeNo] = set()
    for inode in walking.below(store, top):
        await trio.lowlevel.checkpoint()
        number = inode.number
        if inode.is_dir:
            await adopting.refresh(store, number)
        elif inode.is_regular and number not in seen:
            if inode.nlink > 1:
                seen.add(number)
            driver = store.root_of(number)
            if root is None or (driver is not None and driver.name == root):
                yield store.path(number) or os.fsencode(str(number)), inode
