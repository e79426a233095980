"""The event feed: the log, who waits for it, named consumers, and what there is at one moment."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Any

import trio

from fusestore.errors import IndexFull
from fusestore.service import consumers, describing
from fusestore.service.presenting import Presence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from fusestore.model import Event
    from fusestore.service.store import Store
    from fusestore.service.verifying import Report

SYNC_POLL_S = 0.005


class Feed:
    """What watchers ask."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._news = trio.Event()
        self._acked = trio.Event()
        self._awaited = False  # somebody waits for news: for most changes nobody does
        store.index.on_events = self._on_events

    @property
    def first_seq(self) -> int:
        return self._store.index.first_seq

    @property
    def last_seq(self) -> int:
        return self._store.index.last_seq

    @property
    def epoch(self) -> int:
        return self._store.index.epoch

    def events(self, since: int, limit: int) -> list[dict[str, Any]]:
        """The events after `since`, in order."""
        return [describing.event(event) for event in self._store.index.events(since, limit)]

    def listening(self) -> AbstractContextManager[None]:
        """While this is held, somebody wants to hear of changes by others, too."""
        return self._store.audience.seat()

    async def changed(self, seq: int) -> None:
        """Return once there is an event after `seq`."""
        while self.last_seq <= seq:
            self._awaited = True
            await self._news.wait()

    def consumers(self) -> list[dict[str, Any]]:
        """How far each named watcher is."""
        found = self._store.index.consumers().items()
        return [describing.consumer(name, each, self._store.index) for name, each in found]

    def consumer(self, name: str) -> dict[str, Any]:
        """One of them.

        Raises:
            NoConsumer
        """
        return describing.consumer(name, consumers.get(self._store, name), self._store.index)

    def register_consumer(self, name: str, seq: int) -> bool:
        """Have the log keep what comes after an event for a watcher of this name; False if there is one.

        Raises:
            InvalidRequest: it is no name.
        """
        known = self._store.index.events(max(0, seq - 1), 1)  # that event, or the next when it is cut off
        return consumers.register(self._store, name, seq, known[0].epoch if known else self.epoch)

    def acknowledge(self, name: str, seq: int, epoch: int) -> dict[str, Any]:
        """A consumer has handled all events up to this one.

        Raises:
            NoConsumer
        """
        consumer = consumers.acknowledge(self._store, name, seq, epoch)
        self._tell_acked()
        return describing.consumer(name, consumer, self._store.index)

    def forget_consumer(self, name: str) -> bool:
        """Keep nothing for a consumer any more; False if there is none of that name."""
        forgotten = consumers.forget(self._store, name)
        self._tell_acked()
        return forgotten

    async def acknowledged(self, name: str, seq: int, report: Report) -> dict[str, Any]:
        """Return once a consumer has handled all events up to this one.

        Raises:
            NoConsumer: it is not, or not any more.
        """
        first = None
        while (consumer := consumers.get(self._store, name)).seq < seq:
            first = consumer.seq if first is None else first
            report(consumer.seq - first, seq - first, "events")
            await self._acked.wait()
        return self.consumer(name)

    def _tell_acked(self) -> None:
        acked, self._acked = self._acked, trio.Event()
        acked.set()

    async def present(self, paths: Sequence[str] | None) -> Presence:
        """What there is, at these paths and below, or everywhere; to be closed.

        Raises:
            IndexFull: there is no room to keep what is shown while it changes. IndexFault: the disk failed.
        """
        index = self._store.index
        while index.is_syncing:  # noqa: ASYNC110  (a thread ends it)
            await trio.sleep(SYNC_POLL_S)
        if index.fault is None:
            index.commit()
        if not index.has_room:  # what is left is for removals, which need pages that a view keeps
            raise IndexFull
        return Presence(self._store, paths)

    def scratch(self) -> IO[bytes]:
        """A file without a name, on the store's disk, for what does not belong into memory."""
        return tempfile.TemporaryFile(dir=self._store.config.store)

    def _on_events(self, events: list[Event]) -> None:
        if self._awaited:
            self._awaited = False
            news, self._news = self._news, trio.Event()
            news.set()
