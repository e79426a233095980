"""The control socket under real clients: every request answered once, every event seen once, nobody held up."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from fusestore.client import Client, StreamLost
from fusestore.config import Control
from fusestore.control import address, connection, crowd
from fusestore.control.address import listen
from fusestore.control.events import PROGRESS_S
from fusestore.control.known import ENTRIES_MAX
from fusestore.control.lines import PAUSE_S
from fusestore.control.methods import Role
from fusestore.control.pulse import PATIENCE_S, PING_S
from fusestore.control.server import serve
from fusestore.control.snapshots import BLOCK
from fusestore.control.table import COLLECTIONS
from fusestore.errors import ControlError, NoDaemon, StoreError, UsageError
from tests.service.fake_queries import ID, FakeQueries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

pytestmark = pytest.mark.timeout(60)


class Peer:
    """A client with its own view of the wire."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = b""

    async def send(self, *messages: dict[str, Any] | bytes) -> None:
        lines = [m if isinstance(m, bytes) else json.dumps(m).encode() + b"\n" for m in messages]
        await self.stream.send_all(b"".join(lines))

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None when the server hung up."""
        with trio.fail_after(10):
            while b"\n" not in self._received:
                data = await self.stream.receive_some(65536)
                if not data:
                    return None
                self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    async def ask(self, method: str, tid: int | str = 1, **data: Any) -> dict[str, Any]:
        collection, _, name = method.partition(".")
        await self.send({"tid": tid, "collectionName": collection, "methodName": name, "data": data})
        message = await self.receive()
        assert message is not None
        return message

    async def seqs(self, count: int) -> list[int]:
        return [message["seq"] for _ in range(count) if (message := await self.receive())]


class World:
    """A served store."""

    def __init__(self, path: Path, nursery: trio.Nursery) -> None:
        self.path = path
        self.nursery = nursery
        self.queries = FakeQueries()

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        async with await trio.open_unix_socket(self.path) as stream:
            yield Peer(stream)


@pytest.fixture
async def world(short_path: Path, nursery: trio.Nursery) -> World:
    world = World(short_path / "control.sock", nursery)
    await nursery.start(partial(serve, control=Control()), world.path, world.queries)
    return world


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


async def until(condition: Any) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()


async def test_a_request_is_answered_with_its_tid(world: World) -> None:
    async with world.peer() as peer:
        assert await peer.ask("dispatcher.ping", tid="abc") == {"tid": "abc", "success": True, "data": "pong"}
        hello = (await peer.ask("dispatcher.hello"))["data"]
        assert (hello["role"], hello["pid"], hello["mountpoint"]) == ("admin", os.getpid(), "/mnt/lab")


async def test_a_record_is_found_by_path_and_by_id_and_names_of_any_bytes_survive(world: World) -> None:
    async with world.peer() as peer:
        by_path = (await peer.ask("files.get", path="/uploads/a"))["data"]
        assert by_path == (await peer.ask("files.get", id=ID))["data"]
        assert (await peer.ask("files.get", path="uploads/\udcff\u00e9"))["data"]["path"] == "uploads/\udcff\u00e9"


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


async def test_describe_lists_every_method_with_its_arguments_and_role(world: World) -> None:
    async with world.peer() as peer:
        table = (await peer.ask("dispatcher.describe"))["data"]
    assert {name: set(of) for name, of in table.items()} == {name: set(of) for name, of in COLLECTIONS.items()}
    assert table["files"]["get"]["arguments"]["path"] == {"type": "str | null", "required": False}
    assert table["dispatcher"]["shutdown"]["role"] == "admin"
    assert all(method["help"] for of in table.values() for method in of.values())


@pytest.mark.parametrize(
    ("method", "data", "code"),
    [
        ("nonsense.get", {}, "unknown_collection"),
        ("files.nonsense", {}, "unknown_method"),
        ("files.get", {}, "bad_data"),
        ("files.get", {"path": "uploads/a", "id": ID}, "bad_data"),
        ("files.get", {"path": 7}, "bad_data"),
        ("files.get", {"surprise": 7}, "bad_data"),
        ("events.listen", {"since": 0, "snapshot": True}, "bad_data"),
        ("files.get", {"path": "\ud800"}, "bad_data"),
        ("files.get", [1], "bad_data"),
        ("files.get", "uploads/a", "bad_data"),
        ("files.get", {"path": "uploads/none"}, "not_found"),
        ("moves.wait", {"path": "uploads/a", "move": 3}, "bad_data"),
        ("moves.get", {}, "bad_data"),
        ("moves.get", {"move": 3}, "not_found"),
        ("moves.pause", {}, "bad_data"),
        ("moves.pause", {"all": True, "move": 3}, "bad_data"),
        ("moves.cancel", {"all": True}, "bad_data"),
        ("moves.cancel", {"move": 3}, "not_found"),
        ("events.list", {"since": -1}, "bad_data"),
        ("events.list", {"since": 5}, "lost"),
        ("events.listen", {"since": "yesterday"}, "bad_data"),
    ],
)
async def test_each_mistake_gets_one_error_reply(world: World, method: str, data: Any, code: str) -> None:
    collection, _, name = method.partition(".")
    async with world.peer() as peer:
        await peer.send({"tid": 5, "collectionName": collection, "methodName": name, "data": data})
        reply = await peer.receive()
        assert reply is not None
        assert (reply["tid"], reply["success"], reply["error"]["code"]) == (5, False, code)
        assert set(reply["error"]) == {"code", "errno", "path", "text", "hint"}
        assert (await peer.ask("dispatcher.ping"))["success"]


async def test_a_crash_in_a_method_is_an_error_reply_and_a_traceback_in_the_log(world: World) -> None:
    async with world.peer() as peer:
        with capture_logs() as logged:
            reply = await peer.ask("files.get", path="crash")
        assert reply["error"]["code"] == "internal"
        assert isinstance(logged[0]["exc_info"], ZeroDivisionError)
        assert (await peer.ask("dispatcher.ping"))["success"]


async def test_bad_lines_get_one_error_each_and_the_connection_goes_on(world: World) -> None:
    async with world.peer() as peer:
        for line in (b"garbage\n", b"\xff\xfe\n", b"{}\n", b"[]\n", b"[" * 100_000 + b"\n"):
            await peer.send(line)
            reply = await peer.receive()
            assert reply is not None
            assert reply["success"] is False
        assert (await peer.ask("dispatcher.ping", tid=9))["tid"] == 9


async def test_a_line_of_100_megabytes_gets_one_error(world: World) -> None:
    async with world.peer() as peer:
        for _ in range(100):
            await peer.send(b"x" * 1_000_000)
        await peer.send(b"\n")
        reply = await peer.receive()
        assert reply is not None
        assert reply["error"]["code"] == "line_too_long"
        assert (await peer.ask("dispatcher.ping", tid=9))["tid"] == 9


async def test_many_requests_at_once_are_each_answered_once_and_in_order(world: World) -> None:
    async with world.peer() as peer:
        requests = [{"tid": n, "collectionName": "dispatcher", "methodName": "ping"} for n in range(2000)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, *requests)
            tids = [message["tid"] for _ in requests if (message := await peer.receive())]
        assert tids == list(range(2000))


async def test_copies_are_added_and_removed_in_the_words_of_the_proposal(world: World) -> None:
    async with world.peer() as peer:
        added = await peer.ask("files.copy", resource_id=ID, new_root="cold", old_root="hot")
        assert added["data"] == {"wanted": 1}
        assert world.queries.copies == [(ID, "cold", "hot")]
        removed = await peer.ask("files.remove", resource_id=ID, old_root="cold", force_last=True)
        assert removed["data"]["removed"] is True
        refused = await peer.ask("files.remove", resource_id=ID, old_root="cold")
        assert (refused["error"]["code"], refused["error"]["errno"]) == ("last_copy", errno.EPERM)
        assert (await peer.ask("files.copy", resource_id=ID, id=ID, new_root="cold"))["error"]["code"] == "bad_data"


async def test_a_long_request_reports_progress_and_others_go_on_meanwhile(world: World) -> None:
    async with world.peer() as peer:
        await peer.send({"tid": "w", "collectionName": "moves", "methodName": "wait"})
        assert await peer.receive() == {"tid": "w", "progress": {"done": 1, "total": 2, "unit": "files"}}
        assert (await peer.ask("dispatcher.ping", tid=2))["tid"] == 2
        world.queries.let_go.set()
        assert await peer.receive() == {"tid": "w", "success": True, "data": {"moves": [], "replicas": []}}


async def test_more_long_requests_than_allowed_get_an_error_and_nobody_waits(world: World) -> None:
    async with world.peer() as peer:
        request = {"collectionName": "moves", "methodName": "wait"}
        await peer.send(*({"tid": n, **request} for n in range(connection.LONG_MAX + 1)))
        messages = [await peer.receive() for _ in range(connection.LONG_MAX + 1)]
        errors = [message for message in messages if message and "error" in message]
        assert [(e["tid"], e["error"]["code"]) for e in errors] == [(connection.LONG_MAX, "too_many")]


async def test_long_requests_end_with_their_connection(world: World) -> None:
    async with world.peer() as peer:
        await peer.send({"tid": 1, "collectionName": "moves", "methodName": "wait"})
        await peer.receive()
        assert world.queries.running == 1
    await until(lambda: world.queries.running == 0)


async def test_a_peer_that_says_so_is_asked_and_dropped_and_nobody_else(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.peer() as said, world.peer() as quiet, world.peer() as forgetful:
        hello = (await said.ask("dispatcher.hello", keep_alive=True))["data"]
        assert (hello["ping_s"], hello["patience_s"]) == (PING_S, PATIENCE_S)
        await forgetful.ask("dispatcher.hello", keep_alive=True)
        await quiet.ask("events.listen")
        for _ in range(3):
            await trio.sleep(PING_S + 1)
            assert await said.receive() == {"collectionName": "dispatcher", "ping": True}
            assert (await said.ask("dispatcher.ping"))["data"] == "pong"
        await trio.sleep(PATIENCE_S)
        assert await forgetful.receive() == {"collectionName": "dispatcher", "ping": True}
        assert await forgetful.receive() is None
        await trio.sleep(3600)
        world.queries.happen()
        assert await quiet.seqs(1) == [1]


async def test_an_idle_crowd_makes_room_and_a_busy_one_says_so(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "PLACES", 3)
    async with contextlib.AsyncExitStack() as stack:
        first, second, third = [await stack.enter_async_context(world.peer()) for _ in range(3)]
        await first.ask("events.listen")
        await second.ask("dispatcher.ping")
        await third.ask("dispatcher.ping")
        async with world.peer() as early:
            assert (await early.receive() or {})["error"]["code"] == "too_many"
            assert await early.receive() is None
        await trio.sleep(crowd.IDLE_S)
        await second.ask("dispatcher.ping")  # says that it is there, and asks for nothing
        await third.ask("dispatcher.hello")
        async with world.peer() as late:
            assert (await late.ask("dispatcher.ping"))["data"] == "pong"
            assert "made room" in (await second.receive() or {})["error"]["text"]
            assert await second.receive() is None
            world.queries.happen()
            assert await first.seqs(1) == [1]
            assert (await third.ask("dispatcher.ping"))["data"] == "pong"


async def test_whoever_asks_for_much_and_does_not_read_holds_one_answer_of_it(world: World) -> None:
    made = 0

    async def entries(*_: object, **__: object) -> dict[str, Any]:
        nonlocal made
        made += 1
        return {"entries": ["x" * 300_000], "after": None}

    world.queries.entries = entries  # type: ignore[method-assign]
    async with world.peer() as peer:
        for tid in range(connection.LONG_MAX):
            await peer.send({"tid": tid, "collectionName": "files", "methodName": "list", "data": {"path": "uploads"}})
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert 1 <= made <= 4  # what is on its way, what waits for that, and the next
        tids = {message["tid"] for _ in range(connection.LONG_MAX) if (message := await peer.receive())}
        assert tids == set(range(connection.LONG_MAX))


async def test_nothing_is_left_of_whoever_goes_before_its_requests_have_had_their_turn(world: World) -> None:
    async def entries(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    world.queries.entries = entries  # type: ignore[method-assign, assignment]
    async with world.peer() as peer:
        for tid in range(connection.LONG_MAX):
            await peer.send({"tid": tid, "collectionName": "files", "methodName": "list", "data": {"path": "uploads"}})
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with world.peer() as other:
            assert len((await other.ask("jobs.list"))["data"]) == connection.LONG_MAX
    async with world.peer() as other:
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await other.ask("jobs.list"))["data"] == []


async def test_not_all_places_can_be_used_to_listen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LISTENING", 1)
    async with world.peer() as first, world.peer() as second:
        for _ in range(2):
            assert (await first.ask("events.listen"))["success"]
        assert (await second.ask("events.listen"))["error"]["code"] == "too_many"
        await first.ask("events.unlisten")
        assert (await second.ask("events.listen"))["success"]


async def test_a_reload_says_what_counts_now_and_what_from_the_next_mount(world: World) -> None:
    async with world.peer() as peer:
        assert (await peer.ask("dispatcher.reload"))["data"] == world.queries.reloaded
        world.queries.refused = UsageError("fusestore.toml: moves.rate: expected a number")
        error = (await peer.ask("dispatcher.reload"))["error"]
        assert (error["code"], error["errno"], error["text"]) == (
            "bad_config",
            errno.EINVAL,
            "fusestore.toml: moves.rate: expected a number",
        )


async def test_shutdown_answers_before_it_happens(world: World) -> None:
    async with world.peer() as peer:
        assert (await peer.ask("dispatcher.shutdown"))["success"]
        await until(world.queries.was_shut_down.is_set)


# -- events -----------------------------------------------------------------------------------------------------------


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


# -- the socket and the client ----------------------------------------------------------------------------------------


async def test_the_socket_has_its_mode_and_is_removed_at_the_end(short_path: Path) -> None:
    path = short_path / "c.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, control=Control()), path, FakeQueries())
        assert path.stat().st_mode & 0o777 == 0o600
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_socket_that_a_dead_daemon_left_is_replaced_and_anything_else_is_not(
    short_path: Path, nursery: trio.Nursery
) -> None:
    path = short_path / "c.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    await nursery.start(partial(serve, control=Control()), path, FakeQueries())
    with pytest.raises(StoreError, match="a daemon answers"):
        await serve(path, FakeQueries(), control=Control())
    assert (await trio.to_thread.run_sync(call, path, "dispatcher.ping")) == "pong"
    (short_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="not a socket"):
        await serve(short_path / "file", FakeQueries(), control=Control())
    assert (short_path / "file").read_text() == "mine"


async def test_a_path_longer_than_an_address_works_for_server_and_client(tmp_path: Path, nursery: trio.Nursery) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    path = directory / "control.sock"
    assert len(os.fsencode(path)) > address.PATH_MAX
    await nursery.start(partial(serve, control=Control()), path, FakeQueries())
    assert (await trio.to_thread.run_sync(call, path, "dispatcher.ping")) == "pong"
    with pytest.raises(StoreError):
        await serve(path, FakeQueries(), control=Control())


def call(path: Path, method: str, data: Any = None) -> Any:
    with Client(path) as client:
        return client.call(method, data)


async def test_the_client_returns_data_raises_errors_and_reports_progress(world: World) -> None:
    seen: list[tuple[int, int, str]] = []

    def converse() -> None:
        with Client(world.path) as client:
            assert client.call("files.history", {"id": ID}) == []
            with pytest.raises(ControlError) as caught:
                client.call("files.get", {"path": "uploads/none"})
            assert (caught.value.code, caught.value.path) == ("not_found", "uploads/none")
            client.call("moves.wait", progress=lambda *figures: seen.append(figures))
        with Client(world.path) as client, pytest.raises(ControlError):
            client.call("files.nonsense")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, converse)
        await until(lambda: world.queries.running)
        world.queries.let_go.set()
    assert seen == [(1, 2, "files")]


async def test_the_client_gives_up_at_its_time_limit(world: World) -> None:
    def converse() -> None:
        with Client(world.path) as client, pytest.raises(TimeoutError):
            client.call("moves.wait", timeout_s=0.05)

    await trio.to_thread.run_sync(converse)


async def test_the_client_follows_events_and_learns_that_they_are_lost_or_the_daemon_gone(short_path: Path) -> None:
    queries = FakeQueries()
    queries.happen(5)

    def follow() -> None:
        with Client(short_path / "c") as client:
            events = client.events(since=2)
            assert [next(events)["seq"] for _ in range(3)] == [3, 4, 5]
            trio.from_thread.run_sync(nursery.cancel_scope.cancel)
            with pytest.raises(NoDaemon):
                next(events)

    def lost() -> None:
        with Client(short_path / "c") as client, pytest.raises(StreamLost) as caught:
            next(client.events(since=77))
        assert caught.value.snapshot_seq == 5

    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        await nursery.start(partial(serve, control=Control()), short_path / "c", queries)
        await trio.to_thread.run_sync(lost)
        outer.start_soon(trio.to_thread.run_sync, follow)


async def test_the_client_that_waits_without_a_limit_asks_whether_the_daemon_is_there(
    world: World, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusestore.client.blocking.SILENT_S", 0.01)
    monkeypatch.setattr("fusestore.client.blocking.PATIENCE_S", 0.5)

    def wait() -> None:
        with Client(world.path) as alive:
            assert alive.call("moves.wait", timeout_s=None) == {"moves": [], "replicas": []}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, wait)
        await trio.sleep(1)
        world.queries.let_go.set()
    deaf = listen(short_path / "deaf", 0o600, -1, 1)
    with pytest.raises(NoDaemon, match="does not answer any more"), Client(short_path / "deaf") as dead:
        await trio.to_thread.run_sync(partial(dead.call, "moves.wait", timeout_s=None))
    deaf.close()


async def test_a_client_that_is_closed_says_so(world: World) -> None:
    def use() -> None:
        with Client(world.path) as client:
            events = client.events(0)
            next(events)
        for after in (lambda: next(events), lambda: client.call("dispatcher.ping")):
            with pytest.raises(NoDaemon, match="closed"):
                after()
        client.close()

    world.queries.happen(1)
    await trio.to_thread.run_sync(use)


def test_the_client_says_that_no_daemon_answers(short_path: Path) -> None:
    with pytest.raises(NoDaemon, match="is the store mounted"):
        Client(short_path / "none")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_the_client_says_that_the_user_may_not_use_the_socket(short_path: Path) -> None:
    os.chmod(short_path, 0o755)
    listener = listen(short_path / "c", 0o600, -1, 1)
    os.seteuid(65534)
    try:
        with pytest.raises(NoDaemon, match=r"this user may not use .*control\.mode") as caught:
            Client(short_path / "c")
    finally:
        os.seteuid(0)
        listener.close()
    assert "mounted" not in str(caught.value)


ROLES = [
    ({}, Role.ANYONE),
    ({"readers": ("65534",)}, Role.READER),
    ({"readers": ("nobody",), "operators": ("@4711",)}, Role.OPERATOR),
    ({"readers": ("@65534",)}, Role.READER),
    ({"admins": ("@4712", "@12", "root"), "readers": ("@4711",)}, Role.READER),
    ({"admins": ("nobody",), "readers": ("nobody",)}, Role.ADMIN),
]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("lists", "role"), ROLES)
async def test_a_peer_has_the_highest_role_of_its_user_and_groups(
    nursery: trio.Nursery, lists: dict[str, tuple[str, ...]], role: Role
) -> None:
    path = Path("/tmp") / f"fusestore-test-{os.getpid()}.sock"
    await nursery.start(
        partial(serve, control=msgspec.convert({"mode": "0666", **lists}, Control)), path, FakeQueries()
    )
    done = await trio.run_process([sys.executable, "-I", "-c", AS_NOBODY, str(path)], capture_stdout=True)
    hello, *replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert hello["data"]["role"] == role.name.lower()
    allowed = {needed.name.lower(): reply["success"] for needed, reply in zip(CALLS, replies, strict=True)}
    assert allowed == {needed.name.lower(): needed <= role for needed in CALLS}
    assert {reply["error"]["code"] for reply in replies if not reply["success"]} <= {"permission"}


CALLS = {Role.READER: "dispatcher.status", Role.OPERATOR: "scrub.stop", Role.ADMIN: "dispatcher.shutdown"}
AS_NOBODY = f"""
import json, os, socket, sys
os.setgroups([4711, 4713]); os.setgid(65534); os.setuid(65534)
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
for method in {["dispatcher.hello", *CALLS.values()]}:
    collection, _, name = method.partition(".")
    peer.sendall(json.dumps({{"tid": 1, "collectionName": collection, "methodName": name}}).encode() + b"\\n")
    print(peer.makefile().readline(), end="")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_roles_that_change_count_for_those_who_are_connected(nursery: trio.Nursery) -> None:
    queries, path = FakeQueries(), Path("/tmp") / f"fusestore-test-{os.getpid()}.sock"
    wide = msgspec.convert({"mode": "0666", "operators": ["nobody"]}, Control)
    connections = await nursery.start(partial(serve, control=wide), path, queries)
    os.seteuid(65534)
    try:
        stream, other = await trio.open_unix_socket(path), await trio.open_unix_socket(path)
    finally:
        os.seteuid(0)
    async with stream, other:
        peer, watcher = Peer(stream), Peer(other)
        assert (await peer.ask("dispatcher.hello"))["data"]["role"] == "operator"
        await watcher.ask("events.listen")

        def take(**lists: list[str]) -> None:
            control = msgspec.convert({"mode": "0666", **lists}, Control)
            connections.settle(SimpleNamespace(control=control))()

        take(operators=["nobody"], admins=["nobody"])
        assert (await peer.ask("dispatcher.hello"))["data"]["role"] == "admin"
        with pytest.raises(UsageError):
            take(admins=["no-such"])
        take()
        queries.happen(1)
        assert (await peer.ask("dispatcher.status"))["error"]["code"] == "permission"
        assert await peer.receive() is None  # whoever has less than before has to connect again
        assert await watcher.receive() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_the_socket_is_of_the_group_that_the_config_names(short_path: Path, nursery: trio.Nursery) -> None:
    control = Control(mode="0660", group="4711")
    await nursery.start(partial(serve, control=control), short_path / "c", FakeQueries())
    seen = (short_path / "c").stat()
    assert (seen.st_gid, seen.st_mode & 0o777) == (4711, 0o660)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"group": "no-such"}, r"control\.group: there is no group 'no-such'"),
        ({"admins": ("@no-such",)}, r"control\.admins: there is no group 'no-such'"),
        ({"readers": ("no-such",)}, r"control\.readers: there is no user 'no-such' .* a group is written @no-such"),
    ],
)
async def test_a_name_that_nobody_has_is_refused_at_the_start(
    short_path: Path, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        await serve(short_path / "c", FakeQueries(), control=Control(**settings))
    assert not (short_path / "c").exists()
