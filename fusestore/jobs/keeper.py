"""Keeps index and roots in order while nobody asks: commits, retention, leftovers, roots that come and go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Never

import structlog
import trio

from fusestore.errors import FusestoreError, IndexFault
from fusestore.roots import health
from fusestore.service import absence, consumers, discarding, draining, syncing, trash, vanished

if TYPE_CHECKING:
    from fusestore.core.intents import Discard
    from fusestore.core.ports import Driver
    from fusestore.service.store import Store

log = structlog.get_logger()

COMMIT_LOOK_S: Final = 0.1
SYNC_LOG_S: Final = 1.0  # what a power cut may take of the index (decision 0003)
PROBE_S: Final = 1.0
ANSWER_S: Final = 3.0  # a disk that takes longer to show its root counts as hanging
LATE_S: Final = 0.2  # who learns of that so much later was held up itself
SWEEP_S: Final = 5.0
LEFT_S: Final = 60.0  # between two tries to destroy what a disk refused; by then nobody has it in hand any more
CUT_PAUSE_S: Final = 0.05  # between two cuts of the event log, which hold up the loop


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
    """Cut the event log to its length, let go of what vanished a day ago, and end what was in the trash long enough."""
    while True:
        await trio.sleep(SWEEP_S)
        try:
            await _cut_events(store)
            vanished.let_go(store, time.time_ns())
            await trash.empty_due(store, time.time_ns())
        except FusestoreError as error:
            log.warning("sweeping failed", error=str(error))


async def _cut_events(store: Store) -> None:
    while consumers.cut_log(store):  # noqa: ASYNC110  (each look is a part of the work)
        await trio.sleep(CUT_PAUSE_S)


async def destroy_replaced(store: Store) -> None:
    """Destroy what was replaced once the log says so durably: until then a power cut can bring its name back."""
    waiting: list[tuple[int, Discard]] = []
    wake = trio.Event()

    def add(discards: list[tuple[int, Discard]]) -> None:
        waiting.extend(discards)
        wake.set()

    store.on_replaced = add
    while True:
        await wake.wait()
        wake = trio.Event()
        discards, waiting[:] = waiting[:], []
        try:
            await trio.to_thread.run_sync(store.index.sync_log)
        except IndexFault as fault:
            log.debug("what was replaced stays", error=str(fault))
            continue
        for each in discards:
            discarding.carry_out(store, [each])
            await trio.lowlevel.checkpoint()


async def sync_owing(store: Store) -> None:
    """Make those disks durable on which effects wait for that, so that their number stays small."""
    while True:
        await trio.sleep(SWEEP_S)
        for root in syncing.owing(store):
            try:
                await syncing.sync(store, root)
            except (OSError, FusestoreError) as error:
                log.debug("a disk is not durable", root=root.name, error=str(error))


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
    """See which roots are there (decision 0009)."""
    for number, gone in store.absent.items():
        if not gone.is_doubted:
            absence.tell(store, store.roots[number], gone.reason)
    while True:
        await trio.sleep(PROBE_S)
        for root in store.roots.values():
            await _watch(store, root)


DUTIES: Final = (commit_batches, sweep, destroy_replaced, sync_owing, destroy_left, watch_roots)


async def _watch(store: Store, root: Driver) -> None:
    if _is_let_go(store, root):
        absence.let_go(store, root)
        return
    reason, answers = "its disk does not answer", False
    began = trio.current_time()
    with trio.move_on_after(ANSWER_S):
        # A disk that hangs keeps the thread that asks it.
        limiter = store.probing[root.number]
        reason = await trio.to_thread.run_sync(health.probe, root, abandon_on_cancel=True, limiter=limiter)
        answers = True
    if _is_let_go(store, root) or (not answers and trio.current_time() > began + ANSWER_S + LATE_S):
        return  # in the latter case it was us who were late
    if reason:
        absence.leave(store, root, reason, answers=answers)
    elif not root.online:
        await absence.come_back(store, root)


def _is_let_go(store: Store, root: Driver) -> bool:
    """Whether somebody has to put a root's disk right first, or may take it out."""
    return absence.is_doubted(store, root) or draining.is_released(store, root.number)
