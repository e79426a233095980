"""Keeps index and roots in order while nobody asks: commits, retention, leftovers, roots that come and go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Never

import structlog
import trio

from fusestore.errors import FusestoreError, IndexFault
from fusestore.model import MOUNT_ROOT, Cause, Operation
from fusestore.roots import health
from fusestore.roots.local import LocalRoot
from fusestore.service import discarding, finalizing, vanished

if TYPE_CHECKING:
    from fusestore.service.store import Store

log = structlog.get_logger()

COMMIT_LOOK_S: Final = 0.1
SYNC_LOG_S: Final = 1.0  # what a power cut may take of the index (decision 0003)
PROBE_S: Final = 3.0
SWEEP_S: Final = 5.0
LEFT_S: Final = 60.0  # between two tries to destroy what a disk refused; by then nobody has it in hand any more
CUT_PAUSE_S: Final = 0.2  # between two cuts of the event log, which hold up the loop


async def commit_batches(store: Store) -> None:
    """Commit when the log has grown long or old enough, and sync the log every second.

    Ends when the index can no longer be written: the mount goes on, read-only.
    """
    try:
        await _commit_batches(store)
    except IndexFault as fault:
        log.error("the store is read-only from here", error=str(fault))


async def _commit_batches(store: Store) -> Never:
    index = store.index
    seen, pause_s = index.changes, COMMIT_LOOK_S
    next_sync = trio.current_time() + SYNC_LOG_S
    while True:
        await trio.sleep(pause_s)
        pause_s = COMMIT_LOOK_S if index.changes != seen else SYNC_LOG_S  # nobody is there: no need to look often
        seen = index.changes
        if index.wants_commit:
            index.commit()
            next_sync = trio.current_time() + SYNC_LOG_S
        elif trio.current_time() >= next_sync:
            await trio.to_thread.run_sync(index.sync_log)
            next_sync = trio.current_time() + SYNC_LOG_S


async def sweep(store: Store) -> None:
    """Cut the event log to its length, and let go of what vanished a day ago."""
    while True:
        await trio.sleep(SWEEP_S)
        try:
            await _cut_events(store)
            vanished.let_go(store, time.time_ns())
        except FusestoreError as error:
            log.warning("sweeping failed", error=str(error))


async def _cut_events(store: Store) -> None:
    batch = store.batch()
    while store.index.forget_events(batch, store.config.events.keep):
        store.index.apply(batch)
        batch = store.batch()
        await trio.sleep(CUT_PAUSE_S)


async def destroy_left(store: Store) -> None:
    """Destroy what a disk refused or trouble left behind: once a minute, and when a root comes back."""
    known: set[int] = set()  # decisions that were not carried out at the last try
    online = set(store.roots.values())
    next_try = 0.0
    while True:
        await trio.sleep(SWEEP_S)
        before, online = online, {root for root in store.roots.values() if root.online}
        if online <= before and trio.current_time() < next_try:
            continue
        try:
            await discarding.carry_out_left(store, known)
        except (OSError, FusestoreError) as error:
            log.warning("what no name needs waits for the bytes that replace it", error=str(error))
        known = store.condemned.keys()
        next_try = trio.current_time() + LEFT_S


async def watch_roots(store: Store) -> None:
    """See whether each root is still the one that was opened (decision 0009)."""
    said: dict[str, str] = {}
    while True:
        await trio.sleep(PROBE_S)
        for driver in store.roots.values():
            if not isinstance(driver, LocalRoot):
                continue
            reason = "its disk does not answer"
            with trio.move_on_after(PROBE_S):
                # In the root's own threads: a disk that hangs keeps each that asks it.
                limiter = store.threads[driver.number]
                reason = await trio.to_thread.run_sync(health.probe, driver, abandon_on_cancel=True, limiter=limiter)
            if driver.online == (not reason):
                continue
            driver.online = not reason
            if not driver.online:
                store.places.forget_root(driver)
            if said.get(driver.name) != reason:
                log.warning("root is offline" if reason else "root is online again", root=driver.name, reason=reason)
            said[driver.name] = reason
            _tell(store, driver.name, reason)
            if driver.online:
                finalizing.resume(store)
            store.on_retry(None)


def _tell(store: Store, root: str, reason: str) -> None:
    batch = store.batch()
    top = store.inode(MOUNT_ROOT)
    kind = "root-offline" if reason else "root-online"
    store.event(batch, top, Operation.UPDATE, kind, path=b"", root=root, cause=Cause.OUTSIDE, detail=reason)
    try:
        store.index.apply(batch)
    except FusestoreError as error:
        log.warning("watchers are not told", root=root, kind=kind, error=str(error))
