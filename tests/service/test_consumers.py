"""Named consumers, and how long the log keeps what they have not acknowledged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from fusestore.control.events import why_lost
from fusestore.errors import InvalidRequest, NoConsumer
from fusestore.index.check import check
from fusestore.service import consumers
from fusestore.service.queries import Queries

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.opened import Opened

pytestmark = pytest.mark.timeout(60)
A_YEAR_NS = 365 * consumers.DAY_NS


def limits(opened: Opened, **settings: float) -> None:
    config = opened.store.config
    opened.store.config = replace(config, events=replace(config.events, **settings))


def cut(opened: Opened) -> range:
    """Let go of what need not be kept; returns what is left."""
    while consumers.cut_log(opened.store):
        pass
    index = opened.store.index
    return range(index.first_seq, index.last_seq + 1)


def happen(opened: Opened, count: int) -> None:
    for _ in range(count):
        opened.mkdir("uploads/d")
        opened.rmdir("uploads/d")


def test_the_log_keeps_what_a_consumer_has_not_acknowledged(opened: Opened) -> None:
    happen(opened, 20)
    index = opened.store.index
    assert consumers.register(opened.store, "slow", 10, index.epoch)
    limits(opened, keep=5)
    assert cut(opened) == range(10, index.last_seq + 1)
    consumers.acknowledge(opened.store, "slow", 15, index.epoch)
    assert cut(opened)[0] == 15
    consumers.acknowledge(opened.store, "slow", 12, index.epoch)  # an acknowledgement is not taken back
    assert index.consumer("slow") == consumers.get(opened.store, "slow")
    assert consumers.get(opened.store, "slow").seq == 15
    assert consumers.forget(opened.store, "slow")
    assert len(cut(opened)) == 5
    assert not consumers.forget(opened.store, "slow")


def test_beyond_the_limit_events_go_all_the_same_and_each_consumer_that_loses_some_is_told_of_once(
    opened: Opened,
) -> None:
    index = opened.store.index
    for name in ("one", "two"):
        consumers.register(opened.store, name, index.last_seq, index.epoch)
    before = index.last_seq
    happen(opened, 20)
    lost: list[str] = []
    index.on_events = lambda events: lost.extend(each.detail for each in events if each.kind == consumers.LOST)
    limits(opened, keep=5, keep_unacked=10)
    for _ in range(3):
        consumers.acknowledge(opened.store, "two", index.last_seq, index.epoch)
        cut(opened)
        happen(opened, 3)
    assert [detail.split()[0] for detail in lost] == ["one"]
    assert consumers.get(opened.store, "one").seq == before
    assert consumers.get(opened.store, "one").lost_seq > before
    assert consumers.get(opened.store, "two").lost_seq == 0
    consumers.acknowledge(opened.store, "two", index.last_seq, index.epoch)
    assert len(cut(opened)) == 5  # nothing is kept for who has to look at the tree anyway


def test_events_go_when_they_are_old_however_few_there_are_but_not_before_they_are_acknowledged(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(opened, 3)
    index = opened.store.index
    last = index.last_seq
    consumers.register(opened.store, "slow", 4, index.epoch)
    limits(opened, keep_days=30)
    assert cut(opened)[0] == 1
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + A_YEAR_NS)
    assert cut(opened) == range(4, last + 1)
    consumers.acknowledge(opened.store, "slow", last, index.epoch)
    assert cut(opened) == range(last, last + 1)  # the last one acknowledged stays


def test_what_a_consumer_has_acknowledged_survives_a_crash(opened: Opened) -> None:
    happen(opened, 5)
    epoch = opened.store.index.epoch
    consumers.register(opened.store, "backup", 0, epoch)
    consumers.register(opened.store, "other", 3, epoch)
    consumers.acknowledge(opened.store, "backup", 7, epoch)
    consumers.forget(opened.store, "other")
    opened.crash()
    opened.open()
    assert {name: each.seq for name, each in opened.store.index.consumers().items()} == {"backup": 7}
    assert not consumers.register(opened.store, "backup", 0, epoch)
    assert consumers.get(opened.store, "backup").seq == 7


def raise_epoch(opened: Opened) -> None:
    index = opened.store.index
    beyond = index.last_seq + 100
    index.go_on_from(replace(index.numbers, epoch=index.epoch + 1, last_seq=beyond, seq_limit=beyond + 1000), "as told")


def queries(opened: Opened, tmp_path: Path) -> Queries:
    async def settled() -> None:
        pass

    scrubber: Any = None
    return Queries(opened.store, tmp_path, {}, settled, scrubber, lambda: None)


def test_who_has_acknowledged_all_of_an_epoch_has_lost_nothing_when_that_is_cut_off(
    opened: Opened, tmp_path: Path
) -> None:
    happen(opened, 5)
    index = opened.store.index
    consumers.register(opened.store, "backup", index.last_seq, index.epoch)
    raise_epoch(opened)
    happen(opened, 5)
    limits(opened, keep=1)
    cut(opened)
    known = consumers.get(opened.store, "backup")
    assert why_lost(queries(opened, tmp_path), known.seq, known.epoch) == ""
    assert [event.kind for event in index.events(known.seq, 1)] == ["epoch"]


def test_who_begins_in_an_earlier_epoch_acknowledges_events_of_that(opened: Opened, tmp_path: Path) -> None:
    happen(opened, 5)
    index = opened.store.index
    epoch, last = index.epoch, index.last_seq
    raise_epoch(opened)
    asked = queries(opened, tmp_path)
    for name, seq in (("first", 0), ("middle", 3), ("last", last)):
        assert asked.register_consumer(name, seq)
        assert consumers.get(opened.store, name).epoch == epoch
        assert why_lost(asked, seq, epoch) == ""
    assert asked.acknowledge("middle", 4, epoch)["seq"] == 4
    assert list(check(index)) == []


@pytest.mark.parametrize("name", ["", "\ud800", "a b", "-x", "x" * 65, "ü", "a/b", "a\n"])
def test_what_is_no_name_is_refused(opened: Opened, name: str) -> None:
    with pytest.raises(InvalidRequest):
        consumers.register(opened.store, name, 0, 1)
    with pytest.raises(NoConsumer):
        consumers.acknowledge(opened.store, name, 1, 1)
    assert not consumers.forget(opened.store, name)


def test_a_consumer_whose_next_event_nobody_can_tell_any_more_is_told(opened: Opened, tmp_path: Path) -> None:
    happen(opened, 5)
    index = opened.store.index
    consumers.register(opened.store, "backup", index.last_seq, index.epoch)
    raise_epoch(opened)
    happen(opened, 5)
    limits(opened, keep=1, keep_unacked=11)  # the last one acknowledged goes, and the next has another epoch
    cut(opened)
    known = consumers.get(opened.store, "backup")
    assert why_lost(queries(opened, tmp_path), known.seq, known.epoch)
    assert known.has_lost
