"""The first step of every change to a disk: the intent is recorded before the disk is touched.

    with Decided(store, intent) as key:      decide: the intent is in the redo log when the body begins
        driver.unlink(...)                   effect
    batch.settle(key)                        settle: with the change itself, in one batch

When the disk refuses (`OSError`, `ReplicaError`), the intent is dropped before the error goes on: a single call that
fails has done nothing. One of several that fails in the middle keeps what was done, and the next look shows it.
Any other way out, a crash among them, leaves it for `service.recovery`, which looks at the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.errors import ReplicaError

if TYPE_CHECKING:
    from types import TracebackType

    from fusestore.core.intents import Intent
    from fusestore.service.store import Store


class Decided:
    """Records `intent`; `grows` marks changes that a full index may refuse."""

    __slots__ = ("_grows", "_intent", "_key", "_store")

    def __init__(self, store: Store, intent: Intent, *, grows: bool = False) -> None:
        self._store = store
        self._intent = intent
        self._grows = grows
        self._key = 0

    def __enter__(self) -> int:
        self._key = self._store.index.begin(self._intent, grows=self._grows)
        return self._key

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError | ReplicaError):
            batch = self._store.batch()
            batch.settle(self._key)
            self._store.index.apply(batch)
