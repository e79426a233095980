"""Watchers with a name: the log keeps for them what they have not acknowledged, up to a limit.

    registered ─► listens from its last acknowledged event on ─► acknowledges what it has handled ─► forgotten

An acknowledgement only goes forward. What goes beyond it, because the log may not grow for ever, is told as an event.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from fusestore.errors import InvalidRequest, NoConsumer
from fusestore.index import schema
from fusestore.model import MOUNT_ROOT, Cause, Consumer, Operation

if TYPE_CHECKING:
    from fusestore.index.batch import Batch
    from fusestore.service.store import Store

log = structlog.get_logger()

DAY_NS: Final = 86_400_000_000_000
LOST: Final = "consumer-lost"  # a kind of event
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def get(store: Store, name: str) -> Consumer:
    """How far a consumer is.

    Raises:
        NoConsumer
    """
    consumer = store.index.consumer(name) if _NAME.fullmatch(name) else None
    if consumer is None:
        raise NoConsumer(name)
    return consumer


def register(store: Store, name: str, seq: int, epoch: int) -> bool:
    """Have the log keep what comes after an event for a watcher; False if there is one of that name, which stays.

    Raises:
        InvalidRequest: it is no name.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest("a consumer's name has 1 to 64 of A-Z a-z 0-9 . _ @ -, and begins with a letter or digit")
    if store.index.consumer(name) is not None:
        return False
    _put(store, name, Consumer(seq, epoch, time.time_ns()))
    return True


def acknowledge(store: Store, name: str, seq: int, epoch: int) -> Consumer:
    """Record that a consumer has handled all events up to one; what it said before is not taken back.

    Raises:
        NoConsumer
    """
    consumer = get(store, name)
    if (epoch, seq) > (consumer.epoch, consumer.seq):
        consumer = replace(consumer, seq=seq, epoch=epoch, acked_ns=time.time_ns())
        _put(store, name, consumer)
    return consumer


def forget(store: Store, name: str) -> bool:
    """Keep nothing for a consumer any more; False if there is none of that name."""
    try:
        get(store, name)
    except NoConsumer:
        return False
    _put(store, name, None)
    return True


def _put(store: Store, name: str, consumer: Consumer | None) -> None:
    batch = store.batch()
    batch.meta(schema.consumer_row(name), schema.CONSUMER.pack(consumer) if consumer is not None else None)
    store.index.apply(batch)


def cut_log(store: Store) -> bool:
    """Let go of some of the oldest events that need not be kept; False if there were none."""
    index, wanted = store.index, store.config.events
    holding = {name: each for name, each in index.consumers().items() if not each.has_lost}
    acked = min((each.seq for each in holding.values()), default=None)
    older_ns = time.time_ns() - int(wanted.keep_days * DAY_NS) if wanted.keep_days else 0
    batch = store.batch()
    # The last one acknowledged stays, too: behind it seqs may jump, and without it nobody knows that none is missing.
    until = acked - 1 if acked is not None else None
    last = index.forget_events(batch, wanted.keep, older_ns=older_ns, until=until)
    if not last and acked is not None:
        last = index.forget_events(batch, max(wanted.keep, wanted.keep_unacked))
        _tell_losers(store, batch, holding, last)
    if last:
        index.apply(batch)
    return last > 0


def _tell_losers(store: Store, batch: Batch, holding: dict[str, Consumer], last: int) -> None:
    """Add to a batch which consumers lose events, as those up to `last` go; nothing is kept for them any more."""
    following = store.index.events(last, 1)
    is_jump = bool(following) and following[0].seq != last + 1  # nobody will know that none is missing between them
    for name, consumer in holding.items():
        if consumer.seq < last + is_jump:
            top = store.inode(MOUNT_ROOT)
            detail = f"{name} had not acknowledged the events after {consumer.seq}, and the log is full"
            store.event(batch, top, Operation.UPDATE, LOST, path=b"", cause=Cause.EXPIRE, detail=detail)
            log.warning("events go that a consumer has not acknowledged", consumer=name, after=consumer.seq)
            batch.meta(schema.consumer_row(name), schema.CONSUMER.pack(replace(consumer, lost_seq=last)))
