"""The event stream under real clients: every event seen once, its end said, nobody held up."""

from __future__ import annotations

import contextlib
import errno
import json
import tracemalloc
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import trio

from fusestore.control.events import BATCH, PROGRESS_S
from fusestore.control.known import ENTRIES_MAX
from fusestore.control.lines import PAUSE_S
from fusestore.control.snapshots import BLOCK
from fusestore.service import breath
from tests.service.fake_queries import ID
from tests.service.served import Peer, World, until
from tests.support.turns import Turns

if TYPE_CHECKING:
    from trio.testing import MockClock

pytestmark = pytest.mark.timeout(60)


async def test_a_consumer_goes_on_behind_what_it_has_acknowledged(world: World) -> None:
    world.queries.happen(10)
    async with world.peer() as peer:
        assert (await peer.ask("events.register", consumer="backup", since=2))["data"]["seq"] == 2
        await peer.ask("events.ack", consumer="backup", seq=6, epoch=1)
        await peer.ask("events.listen", consumer="backup")
        assert await peer.seqs(4) == [7, 8, 9, 10]
    async with world.peer() as peer:
        both = await peer.ask("events.listen", consumer="backup", since=1)
        assert both["error"]["code"] == "bad_data"
        assert (await peer.ask("events.listen", consumer="who"))["error"]["code"] == "not_found"
        for data in ({"seq": 11, "epoch": 1}, {"seq": 8, "epoch": 2}):
            assert (await peer.ask("events.ack", consumer="backup", **data))["error"]["code"] == "lost"
        world.queries.cut(9)
        assert (await peer.ask("events.register", consumer="late", since=2))["error"]["code"] == "lost"


async def test_whoever_waits_for_a_consumer_is_answered_when_it_has_acknowledged(world: World) -> None:
    world.queries.happen(3)
    async with world.peer() as waiting, world.peer() as peer:
        await peer.ask("events.register", consumer="backup", since=0)
        await waiting.send(
            {"tid": 1, "collectionName": "events", "methodName": "acknowledged", "data": {"consumer": "backup"}}
        )
        for seq in (1, 2, 3):
            await peer.ask("events.ack", consumer="backup", seq=seq, epoch=1)
        answer = await waiting.receive()
        while answer is not None and "progress" in answer:
            answer = await waiting.receive()
        assert answer is not None
        assert answer["data"]["seq"] == 3


async def test_a_listener_gets_the_log_and_then_what_happens_each_once(world: World) -> None:
    world.queries.happen(1000)
    async with world.peer() as peer:
        reply = await peer.ask("events.listen", since=0)
        assert reply["data"] == {"first_seq": 1, "last_seq": 1000, "epoch": 1}
        world.queries.happen(5)
        seen = await peer.seqs(1005)
        world.queries.happen(5)
        assert seen + await peer.seqs(5) == list(range(1, 1011))


async def test_a_listener_without_since_gets_only_what_comes(world: World) -> None:
    world.queries.happen(10)
    async with world.peer() as peer:
        await peer.ask("events.listen")
        world.queries.happen(2)
        assert await peer.seqs(2) == [11, 12]


async def test_a_listener_gets_what_it_asks_for_and_others_get_all(world: World) -> None:
    async with world.peer() as some, world.peer() as everything, world.peer() as none:
        await some.ask("events.listen", since=0, paths=["/uploads/3", "uploads/700/"], kinds=["created"])
        await none.ask("events.listen", since=0, kinds=[])
        await everything.ask("events.listen", since=0)
        world.queries.happen(1000)
        assert await some.seqs(2) == [3, 700]
        assert await everything.seqs(1000) == list(range(1, 1001))
        assert (await none.ask("events.fence"))["data"] == {"seq": 1000, "epoch": 1}
        reply = await some.ask("events.list", since=0, limit=500, paths=["uploads/3"])
        assert ([each["seq"] for each in reply["data"]["events"]], reply["data"]["position"]) == ([3], 500)
        await some.ask("events.unlisten")
        error = (await some.ask("events.listen", roots=["nowhere"]))["error"]
        assert (error["code"], error["errno"]) == ("not_found", errno.ENOENT)
        assert (await some.ask("events.listen", paths=["\ud800"]))["error"]["code"] == "bad_data"


async def test_a_fence_comes_after_the_events_that_it_covers(world: World) -> None:
    async with world.peer() as peer:
        assert (await peer.ask("events.fence"))["data"] == {"seq": 0, "epoch": 1}
        world.queries.happen(2000)
        await peer.ask("events.listen", since=0)
        await peer.send({"tid": 7, "collectionName": "events", "methodName": "fence"})
        world.queries.happen(1)
        assert await peer.seqs(2000) == list(range(1, 2001))
        message, last = await peer.receive(), 2000
        if message is not None and "seq" in message:
            message, last = await peer.receive(), 2001
        assert message in [
            {"tid": 7, "success": True, "data": {"seq": covered, "epoch": 1}} for covered in range(2000, last + 1)
        ]


async def test_a_fence_does_not_wait_for_a_stream_that_has_ended(world: World) -> None:
    world.queries.happen(10)
    world.queries.cut(5)
    async with world.peer() as peer:
        await peer.ask("events.listen", since=1)
        stopped = await peer.receive()
        assert stopped is not None
        assert stopped["stopped"]["lost"]
        assert (await peer.ask("events.fence"))["data"]["seq"] == 10


async def test_each_event_is_read_once_for_all_who_listen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    events = world.queries.events

    def count(since: int, limit: int) -> list[dict[str, Any]]:
        asked.append(since)
        return events(since, limit)

    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(world.peer()) for _ in range(20)]
        for peer in peers:
            await peer.ask("events.listen")
        monkeypatch.setattr(world.queries, "events", count)
        for number in range(1, 6):
            world.queries.happen()
            for peer in peers:
                assert await peer.seqs(1) == [number]
        assert sum(since < 5 for since in asked) <= 5


async def test_many_watchers_hear_of_several_events_at_a_time_and_a_fence_does_not_wait_for_that(
    world: World, autojump_clock: MockClock
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(world.peer()) for _ in range(20)]

        async def take() -> float:
            """One event more, for those who listen by now; returns when all of them have heard of it."""
            began = trio.current_time()
            world.queries.happen()
            for peer in listening:
                assert await peer.seqs(1) == [world.queries.last_seq]
            return trio.current_time() - began

        listening = peers[:1]
        await listening[0].ask("events.listen")
        assert [await take() for _ in range(3)] == [0, 0, 0]
        listening = peers
        for peer in listening[1:]:
            await peer.ask("events.listen")
        assert await take() == 0
        assert await take() == pytest.approx(19 * PAUSE_S)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        world.queries.happen()
        await peers[3].send({"tid": 9, "collectionName": "events", "methodName": "fence"})
        assert await peers[3].seqs(1) == [world.queries.last_seq]
        assert await peers[3].receive() == {"tid": 9, "success": True, "data": {"seq": 6, "epoch": 1}}
        assert trio.current_time() == began


def present(number: int, root: str = "main", home: str = "main") -> dict[str, Any]:
    return {"kind": "present", "id": ID, "path": f"resources/{number}", "root": root, "home": home, "size": number}


async def test_a_snapshot_comes_first_then_that_it_is_whole_then_every_event_after_it(world: World) -> None:
    world.queries.happen(3)
    world.queries.there = [present(number) for number in range(3 * BLOCK // 2)]
    async with world.peer() as peer:
        assert (await peer.ask("events.listen", snapshot=True))["data"] == {"first_seq": 1, "last_seq": 3, "epoch": 1}
        await until(lambda: world.queries.presences)
        world.queries.happen(2)
        for each in world.queries.there:
            assert await peer.receive() == {
                "operation": "insert", "collectionName": "files", "snapshot": True, "data": each, "seq": 3, "epoch": 1,
            }  # fmt: skip
        assert await peer.receive() == {
            "operation": "update",
            "collectionName": "events",
            "snapshot": True,
            "data": {"kind": "whole", "total": len(world.queries.there), "partial": ["main"]},
            "seq": 3,
            "epoch": 1,
        }
        assert await peer.seqs(2) == [4, 5]
        world.queries.happen()
        assert await peer.seqs(1) == [6]
        assert world.queries.spools[0].closed


async def test_a_snapshot_shows_what_is_on_a_root_or_belongs_there_whatever_kinds_are_asked_for(world: World) -> None:
    world.queries.there = [present(1), present(2, "uploads"), present(3, "uploads", "uploads"), present(4, "", "")]
    async with world.peer() as peer:
        await peer.ask("events.listen", snapshot=True, roots=["main"], kinds=["removed"])
        told = [await peer.receive() or {} for _ in range(3)]
    assert [message["data"].get("size") for message in told] == [1, 2, None]
    assert told[-1]["data"]["total"] == 2


async def test_a_snapshot_that_nobody_reads_holds_no_view_of_the_index_and_no_memory(world: World) -> None:
    world.queries.there = [present(number) for number in range(20_000)]
    async with world.peer() as deaf, world.peer() as peer:
        await deaf.ask("events.listen", snapshot=True)
        await until(lambda: world.queries.presences and not world.queries.presences[0].is_open)
        await peer.ask("events.listen", snapshot=True)
        assert [(await peer.receive() or {})["data"]["size"] for _ in range(20_000)] == list(range(20_000))
        assert not world.queries.spools[0].closed
    await until(lambda: world.queries.spools[0].closed)


async def test_a_fence_waits_for_the_snapshot_and_retention_that_overtakes_it_is_told(world: World) -> None:
    world.queries.happen(3)
    world.queries.there = [present(number) for number in range(20_000)]
    async with world.peer() as peer:
        await peer.ask("events.listen", snapshot=True)
        await peer.send({"tid": "fence", "collectionName": "events", "methodName": "fence"})
        await until(lambda: world.queries.presences and not world.queries.presences[0].is_open)
        world.queries.happen(3)
        world.queries.cut(6)
        told = [await peer.receive() or {} for _ in range(20_003)]
    assert told[20_000]["data"]["kind"] == "whole"
    rest = {str(message.get("tid", "stream")): message for message in told[20_001:]}
    assert rest["fence"]["data"] == {"seq": 3, "epoch": 1}
    assert (rest["stream"]["stopped"]["lost"], rest["stream"]["stopped"]["snapshotSeq"]) == (True, 6)


async def test_a_snapshot_for_which_the_disk_has_no_room_stops_the_stream_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(world.queries, "scratch", full)
    async with world.peer() as peer:
        await peer.ask("events.listen", snapshot=True)
        message = await peer.receive() or {}
        assert "No space left" in message["stopped"]["reason"]
        assert (await peer.ask("events.unlisten"))["data"] == {"listening": False}


def named(number: int, last: int, path: str | None = "") -> dict[str, Any]:
    here = f"resources/{number}" if path == "" else path
    return {**present(number), "id": str(UUID(int=number)), "last": last, "path": here, "paths": [here]}


async def synced(peer: Peer, *pages: dict[int, int], **data: Any) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """What differs from these pages of a manifest, as operations and ids, and the reply."""
    for page in pages[:-1]:
        manifest = {str(UUID(int=number)): seq for number, seq in page.items()}
        assert (await peer.ask("events.sync", manifest=manifest, more=True))["success"]
    manifest = {str(UUID(int=number)): seq for number, seq in pages[-1].items()}
    message = await peer.ask("events.sync", manifest=manifest, **data)
    told = []
    while "operation" in message:
        assert message["snapshot"]
        told.append((message["operation"], UUID(message["data"]["id"]).int))
        message = await peer.receive() or {}
    return told, message


async def test_what_differs_from_a_manifest_is_told_and_nothing_else(world: World) -> None:
    world.queries.happen(9)
    world.queries.there = [named(1, 3), named(2, 7), named(4, 9), named(6, 2, None), named(7, 5, None), named(8, 1)]
    async with world.peer() as peer:
        told, reply = await synced(peer, {1: 3, 2: 6, 3: 1}, {6: 2, 7: 4, 9: 8})
        assert told == [("update", 2), ("remove", 3), ("insert", 4), ("remove", 7), ("insert", 8), ("remove", 9)]
        assert reply["data"] == {"total": 6, "seq": 9, "epoch": 1, "partial": ["main"]}
        assert await synced(peer, {1: 3, 2: 9, 4: 9, 8: 9}) == ([], {**reply, "data": {**reply["data"], "total": 0}})
        assert (await synced(peer, {}))[0] == [("insert", 1), ("insert", 2), ("insert", 4), ("insert", 8)]
        assert all(spool.closed for spool in world.queries.spools)


async def test_what_is_known_of_another_epoch_counts_as_changed_and_what_is_not_asked_for_as_gone(world: World) -> None:
    world.queries.there = [named(1, 1), named(2, 1), {**named(3, 1), "root": "cold", "home": "cold"}]
    async with world.peer() as peer:
        known = {1: 1, 2: 1, 3: 1}
        assert (await synced(peer, known, epoch=1))[0] == []
        told, _ = await synced(peer, known, epoch=2, roots=["main"], paths=["resources/2", "resources/3"])
        assert told == [("remove", 1), ("update", 2), ("remove", 3)]


async def test_a_manifest_of_many_requests_is_kept_in_order_and_one_out_of_order_is_refused(world: World) -> None:
    world.queries.there = [named(number, number) for number in range(1, 5001)]
    pages = [
        {number: number - (number == 4000) for number in range(first, first + 1000)} for first in range(1, 5000, 1000)
    ]
    async with world.peer() as peer:
        assert (await synced(peer, *pages))[0] == [("update", 4000)]
        assert (await peer.ask("events.sync", manifest={str(UUID(int=5)): 1}, more=True))["data"] == {"total": 1}
        refused = await peer.ask("events.sync", manifest={str(UUID(int=5)): 1}, more=True)
        assert (refused["error"]["code"], refused["error"]["errno"]) == ("bad_data", errno.EINVAL)
        many = {str(UUID(int=number)): 1 for number in range(ENTRIES_MAX + 1)}
        for wrong in ({"01932f6c": 1}, {"": 1}, {"x" * 32: 1}, {ID: -1}, many):
            assert (await peer.ask("events.sync", manifest=wrong))["error"]["code"] == "bad_data"
        assert (await synced(peer, {}))[1]["data"]["total"] == 5000
        assert (await peer.ask("events.sync", manifest={}, more=True))["success"]
    await until(lambda: all(spool.closed for spool in world.queries.spools))


async def test_of_many_who_are_behind_one_is_fed_in_a_turn_of_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breath, "LONGEST_NS", -1)
    world.queries.happen(20 * BATCH)
    turns, read, events = Turns(), [], world.queries.events
    trio.lowlevel.add_instrument(turns)

    def count(since: int, limit: int) -> list[dict[str, Any]]:
        read.append(turns.count)
        return events(since, limit)

    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(world.peer()) for _ in range(10)]
        monkeypatch.setattr(world.queries, "events", count)
        request = {"tid": 1, "collectionName": "events", "methodName": "listen", "data": {"since": 0}}
        for peer in peers:
            await peer.send(request)
        for peer in peers:
            await peer.receive()
        for peer in peers:
            assert await peer.seqs(20 * BATCH) == list(range(1, 20 * BATCH + 1))
    assert len(set(read)) == len(read) > 10 * 10  # the newest are shared


async def test_watchers_that_do_not_read_hold_one_piece_of_the_log_however_long_its_events_are(world: World) -> None:
    world.queries.happen(1000)
    for event in world.queries.log.values():
        event["path"] = "x" * 10_000
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(world.peer()) for _ in range(10)]
        request = {"tid": 1, "collectionName": "events", "methodName": "listen", "data": {"since": 0}}
        tracemalloc.start()
        try:
            for peer in peers:
                await peer.send(request)
            await trio.testing.wait_all_tasks_blocked(0.05)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held / len(peers) < 800_000
        await peers[0].receive()
        assert await peers[0].seqs(1000) == list(range(1, 1001))


async def test_unlisten_ends_the_stream_and_says_whether_there_was_one(world: World) -> None:
    async with world.peer() as peer:
        await peer.ask("events.listen")
        assert (await peer.ask("events.unlisten"))["data"] == {"listening": True}
        assert (await peer.ask("events.unlisten"))["data"] == {"listening": False}
        world.queries.happen(3)
        assert (await peer.ask("dispatcher.ping"))["data"] == "pong"


async def test_listening_again_moves_the_one_cursor(world: World) -> None:
    world.queries.happen(3)
    async with world.peer() as peer:
        await peer.ask("events.listen", since=3)
        await peer.ask("events.listen", since=1)
        world.queries.happen(1)
        assert await peer.seqs(3) == [2, 3, 4]
        assert (await peer.ask("dispatcher.status"))["data"]["watchers"] == 1


@pytest.mark.parametrize(
    ("cursor", "is_lost"),
    [
        ({"since": 0}, True),
        ({"since": 3}, True),
        ({"since": 4}, False),
        ({"since": 7, "epoch": 1}, False),
        ({"since": 9, "epoch": 1}, True),
        ({"since": 60, "epoch": 1}, True),
        ({"since": 101, "epoch": 2}, False),
        ({"since": 101, "epoch": 1}, True),
        ({"since": 102, "epoch": 2}, True),
        ({"since": 101, "epoch": 3}, True),
    ],
)
async def test_a_cursor_that_did_not_survive_stops_the_stream_and_says_so(
    world: World, cursor: dict[str, int], is_lost: bool
) -> None:
    world.queries.happen(10)
    world.queries.crash(survived=7, next_seq=100)  # the log: 1 … 7 of epoch 1, 101 of epoch 2
    world.queries.cut(5)
    async with world.peer() as peer:
        assert (await peer.ask("events.listen", **cursor))["success"]
        world.queries.happen()
        message = await peer.receive()
        assert message is not None
        if is_lost:
            assert message["stopped"]["lost"]
            assert message["stopped"]["snapshotSeq"] >= 101
            await peer.ask("events.listen", since=message["stopped"]["snapshotSeq"])
            world.queries.happen()
        else:
            assert message["seq"] == min(seq for seq in (5, 6, 7, 101, 102) if seq > cursor["since"])


async def test_who_asks_for_progress_gets_it_beside_the_events_once_for_each_change_and_nobody_else(
    world: World,
) -> None:
    move = {"number": 3, "state": "running", "files_done": 1, "bytes_done": 10}
    world.queries.stuck = [move]
    async with world.peer() as peer, world.peer() as other:
        await peer.ask("events.listen", progress=True)
        await other.ask("events.listen")
        first = {"operation": "update", "collectionName": "moves", "data": {"kind": "move-progress", **move}}
        assert await peer.receive() == first
        await trio.sleep(2 * PROGRESS_S)
        world.queries.stuck = [{**move, "bytes_done": 30}]
        message = await peer.receive()
        assert message is not None
        assert message["data"]["bytes_done"] == 30
        world.queries.stuck = []
        world.queries.happen()
        for each in (peer, other):
            message = await each.receive()
            assert message is not None
            assert message["seq"] == 1
        await peer.ask("events.unlisten")
        world.queries.stuck = [move]
        await trio.sleep(2 * PROGRESS_S)
        assert (await peer.ask("dispatcher.ping"))["data"] == "pong"


async def test_a_listener_that_retention_overtakes_is_told(world: World) -> None:
    async with world.peer() as peer:
        await peer.ask("events.listen", since=0)
        world.queries.happen(20_000)
        await trio.testing.wait_all_tasks_blocked()  # the socket and the outbox are full
        world.queries.cut(20_000)
        last = 0
        while (message := await peer.receive()) and "stopped" not in message:
            assert message["seq"] == last + 1
            last = message["seq"]
        assert message is not None
        assert (message["stopped"]["lost"], message["stopped"]["snapshotSeq"]) == (True, 20_000)


async def test_a_listener_that_retention_overtakes_before_it_is_fed_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.queries.happen(10)
    events = world.queries.events

    def judged(since: int, limit: int) -> list[dict[str, Any]]:
        monkeypatch.undo()
        found = events(since, limit)
        world.queries.cut(8)  # as soon as the cursor was found good
        return found

    monkeypatch.setattr(world.queries, "events", judged)
    async with world.peer() as peer:
        assert (await peer.ask("events.listen", since=3))["success"]
        stopped = (await peer.receive() or {})["stopped"]
        assert (stopped["lost"], stopped["snapshotSeq"]) == (True, 10)


async def test_a_watcher_that_never_reads_costs_a_bounded_amount_and_holds_nobody_up(world: World) -> None:
    async with world.peer() as deaf, world.peer() as peer:
        await deaf.send({"tid": 1, "collectionName": "events", "methodName": "listen", "data": {"since": 0}})
        flood = {"tid": 2, "collectionName": "dispatcher", "methodName": "describe"}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deaf.send, *[flood] * 20_000)
            await peer.ask("events.listen", since=0)
            for _ in range(20):
                world.queries.happen(1000)
                await peer.seqs(1000)
            nursery.cancel_scope.cancel()


async def test_a_half_closed_peer_is_answered_and_fed_until_it_hangs_up(world: World) -> None:
    world.queries.happen(3)
    async with world.peer() as peer:
        request = {"collectionName": "events", "methodName": "listen", "data": {"since": 0}}
        await peer.send({"tid": 1, **request})
        await peer.stream.send_eof()
        await peer.receive()
        assert await peer.seqs(3) == [1, 2, 3]
        world.queries.happen(1)
        assert await peer.seqs(1) == [4]
    async with world.peer() as peer:
        await until_no_watcher(peer)
        await peer.send({"tid": 1, "collectionName": "dispatcher", "methodName": "ping"})
        await peer.stream.send_eof()
        assert (await peer.receive() or {})["data"] == "pong"
        assert await peer.receive() is None


async def until_no_watcher(peer: Peer) -> None:
    with trio.fail_after(10):
        while (await peer.ask("dispatcher.status"))["data"]["watchers"]:  # noqa: ASYNC110  (nothing here tells us)
            await trio.sleep(0.01)


async def test_a_connection_that_breaks_off_anywhere_harms_nobody(world: World) -> None:
    whole = json.dumps({"tid": 1, "collectionName": "events", "methodName": "listen", "data": {"since": 0}}).encode()
    world.queries.happen(50_000)
    for length in (0, 1, len(whole) // 2, len(whole), len(whole) + 1):
        async with world.peer() as peer:
            await peer.send((whole + b"\n")[:length])
    async with world.peer() as peer:
        await until_no_watcher(peer)
