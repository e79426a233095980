"""The event log as a file: offsets stay while somebody reads, and what is lost is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio

from fusestore.config import Control
from fusestore.control import log_file
from fusestore.control.lines import Lines
from fusestore.control.log_file import LogFile
from fusestore.control.roles import Roles
from fusestore.model import Owner
from tests.service.fake_queries import FakeQueries

if TYPE_CHECKING:
    from fusestore.control.log_file import Reader

READ = 128 << 10


async def opened(queries: FakeQueries) -> LogFile:
    log = LogFile(queries, Lines(queries), lambda: Roles(Control()))
    await log.measure()
    return log


async def rest(log: LogFile, reader: Reader, offset: int = 0, size: int = READ) -> bytes:
    """What a reader reads from an offset to the end, `size` bytes at a time."""
    found = b""
    while piece := await log.read(reader, offset + len(found), size):
        found += piece
    return found


def seqs(text: bytes) -> list[int]:
    return [json.loads(line)["seq"] for line in text.splitlines()]


@pytest.mark.parametrize("size", [1 << 20, READ, 4096, 100])
async def test_all_is_read_once_and_in_order_whatever_the_size_of_a_read(size: int) -> None:
    queries = FakeQueries()
    queries.happen(700)
    log = await opened(queries)
    text = await rest(log, log.open(), size=size)
    assert seqs(text) == list(range(1, 701))
    assert len(text) == log.size


async def test_what_is_at_an_offset_stays_there_while_the_file_grows() -> None:
    queries = FakeQueries()
    queries.happen(300)
    log = await opened(queries)
    text = await rest(log, log.open())
    queries.happen(300)
    assert await rest(log, log.open(), len(text)) != b""
    later = await rest(log, log.open())
    assert later.startswith(text)
    for offset in (0, 1, 77, len(text) - 5, len(text), len(later) - 1000, len(later)):
        assert await log.read(log.open(), offset, 5000) == later[offset : offset + 5000]


async def test_a_read_is_short_only_at_the_end() -> None:
    queries = FakeQueries()
    queries.happen(1000)
    log = await opened(queries)
    reader = log.open()
    for offset in range(0, log.size - 9000, 3331):
        assert len(await log.read(reader, offset, 9000)) == 9000


async def test_a_long_log_is_shown_from_its_last_events_on_and_grows_while_it_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_file, "SHOWN", 400)
    queries = FakeQueries()
    queries.happen(1000)
    log = await opened(queries)
    reader = log.open()
    text = await rest(log, reader)
    assert seqs(text) == list(range(601, 1001))
    queries.happen(1000)
    assert seqs(await rest(log, reader, len(text))) == list(range(1001, 2001))
    assert seqs(await rest(log, log.open())) == list(range(601, 2001))


async def test_once_nobody_reads_the_file_begins_anew_where_it_has_become_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "SHOWN", 400)
    queries = FakeQueries()
    queries.happen(100)
    log = await opened(queries)
    queries.happen(600)
    await log.measure()
    reader = log.open()
    assert seqs(await rest(log, reader)) == list(range(1, 701))
    queries.happen(200)
    log.close(reader)
    await log.measure()
    assert seqs(await rest(log, log.open())) == list(range(501, 901))


async def test_a_reader_that_retention_overtakes_is_told_once_and_gets_no_more() -> None:
    queries = FakeQueries()
    queries.happen(2000)
    log = await opened(queries)
    reader = log.open()
    text = await log.read(reader, 0, 1000)
    queries.cut(1901)
    told = await rest(log, reader, len(text))
    *before, last = (text + told).splitlines(keepends=True)
    assert not text.endswith(b"\n")
    assert seqs(b"".join(before)) == list(range(1, len(before) + 1))
    assert json.loads(last)["stopped"]["snapshotSeq"] == 2000
    queries.happen()
    assert await log.read(reader, len(text + told), READ) == b""
    assert not log.has_more(reader)
    assert seqs(await rest(log, reader)) == list(range(1901, 2002))  # it looks again from the beginning


async def test_what_was_cut_off_before_anybody_saw_it_is_told_to_who_waited_for_it() -> None:
    queries = FakeQueries()
    queries.happen(5)
    log = await opened(queries)
    reader = log.open()
    text = await rest(log, reader)
    queries.happen(500)
    queries.cut(400)
    assert "stopped" in json.loads(await rest(log, reader, len(text)))
    assert seqs(await rest(log, log.open())) == list(range(400, 506))


async def test_what_comes_while_retention_cuts_behind_a_reader_is_not_lost() -> None:
    queries = FakeQueries()
    queries.happen(300)
    log = await opened(queries)
    reader = log.open()
    offset, seen = 0, []
    for _ in range(50):
        text = await rest(log, reader, offset)
        offset += len(text)
        seen += seqs(text)
        queries.happen(97)
        queries.cut(queries.last_seq - 150)
    assert seen == list(range(1, seen[-1] + 1))
    assert len(log._marks) < 5


async def test_numbers_may_jump_where_an_epoch_begins() -> None:
    queries = FakeQueries()
    queries.happen(200)
    queries.crash(150, 4096)
    queries.happen(300)
    log = await opened(queries)
    text = await rest(log, log.open(), size=500)
    assert seqs(text) == [*range(1, 151), *range(4097, 4398)]


async def test_who_has_read_all_waits_for_the_next_event(autojump_clock: trio.testing.MockClock) -> None:
    queries = FakeQueries()
    queries.happen(3)
    log = await opened(queries)
    reader = log.open()
    assert log.has_more(reader)
    await rest(log, reader)
    assert not log.has_more(reader)
    with trio.move_on_after(1) as waited:
        await log.changed()
    assert waited.cancelled_caught
    queries.happen()
    assert log.has_more(reader)
    await log.changed()


async def test_an_empty_log_is_an_empty_file() -> None:
    log = await opened(FakeQueries())
    assert log.size == 0
    assert await rest(log, log.open()) == b""


def test_who_may_listen_at_the_socket_may_read_it() -> None:
    queries = FakeQueries()
    alone = LogFile(queries, Lines(queries), lambda: Roles(Control()))
    assert alone.mode == 0o400
    assert alone.may_read(Owner(0, 0, 1), [])
    assert not alone.may_read(Owner(1001, 1001, 1), [1002])
    shared = LogFile(queries, Lines(queries), lambda: Roles(Control(readers=("1001", "@1002"))))
    assert shared.mode == 0o444
    assert shared.may_read(Owner(1001, 5, 1), [])
    assert shared.may_read(Owner(1003, 5, 1), [7, 1002])
    assert not shared.may_read(Owner(1003, 5, 1), [7])
