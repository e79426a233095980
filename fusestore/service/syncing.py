"""Disks made durable, and what waited for that: recorded effects that a power cut could still take back.

An intent is dropped when its effect is recorded, because the disk and the redo log survive the daemon alike. They do
not survive a power cut alike: each goes back to a moment of its own. Where looking at the disk afterwards could not
tell where an object has got to, the intent is *kept*, marked as done, until the disk is durable too (`keep`), and the
next start brings the object to where the index says it is (`recovery`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusestore.core.intents import Arrive, Discard, Relocate, Rename, Replicate
    from fusestore.core.ports import Driver
    from fusestore.index.batch import Batch
    from fusestore.service.store import Store


def keep(
    store: Store, batch: Batch, key: int, intent: Arrive | Discard | Relocate | Rename | Replicate, root: Driver
) -> None:
    """Add to the batch that records an effect on `root` that its intent stays until the disk is durable."""
    batch.intent(key, replace(intent, done=True))
    batch.then(partial(store.unsynced[root.number].append, key))


def owe(store: Store, root: Driver) -> None:
    """From here on a name depends on this root's disk too, which the name's own directory does not tell."""
    store.owed[root.number] += 1


def owing(store: Store) -> set[Driver]:
    """The roots whose disks have to be durable before any name is, wherever the name lies."""
    return {root for number, root in store.roots.items() if store.unsynced[number] or store.owed[number]}


async def sync(store: Store, root: Driver) -> None:
    """Make a root's disk durable; what others ask for meanwhile is done once for all.

    Raises:
        RootOffline, OSError: it is not.
    """
    settle = _begin(store, root)
    await trio.to_thread.run_sync(root.sync, limiter=store.threads[root.number])
    settle()


def sync_now(store: Store, root: Driver) -> None:
    """The same for whoever cannot wait: holds up the loop."""
    settle = _begin(store, root)
    root.sync()
    settle()


async def sync_all(store: Store, roots: Iterable[Driver]) -> None:
    """Make several disks durable, and then the log that speaks of them."""
    for root in roots:
        await sync(store, root)
    await trio.to_thread.run_sync(store.index.sync_log)


def _begin(store: Store, root: Driver) -> Callable[[], None]:
    """Remember what is owed now; the returned function drops it, and is called once the disk is durable."""
    keys = set(store.unsynced[root.number])
    failures = root.failed_syncs
    owed = store.owed[root.number]

    def settle() -> None:
        if root.failed_syncs != failures:
            return  # it was away meanwhile: nobody knows on which side of that it was synced
        store.owed[root.number] = max(0, store.owed[root.number] - owed)
        store.unsynced[root.number] = [key for key in store.unsynced[root.number] if key not in keys]
        if keys:
            batch = store.batch()
            for key in keys:
                batch.settle(key)
            store.index.apply(batch)

    return settle
