"""The control socket under real clients: every request answered once, and nobody held up."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from structlog.testing import capture_logs

from fusestore.client import Client
from fusestore.config import Control
from fusestore.control import address, connection, crowd
from fusestore.control.protocol import encode_progress
from fusestore.control.pulse import PATIENCE_S, PING_S
from fusestore.control.server import serve
from fusestore.control.table import COLLECTIONS
from fusestore.errors import StoreError, UsageError
from fusestore.service import breath
from tests.service.fake_queries import ID, FakeQueries
from tests.service.served import World, more_than_the_kernel_holds, until
from tests.support.turns import Turns

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from fusestore.control.protocol import Tid

pytestmark = pytest.mark.timeout(60)


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


async def test_describe_lists_every_method_with_its_arguments_and_role(world: World) -> None:
    async with world.peer() as peer:
        table = (await peer.ask("dispatcher.describe"))["data"]
    assert {name: set(of) for name, of in table.items()} == {name: set(of) for name, of in COLLECTIONS.items()}
    assert table["files"]["get"]["arguments"]["path"] == {"type": "string | null", "required": False}
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


async def test_of_many_peers_one_is_answered_in_a_turn_of_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breath, "LONGEST_NS", -1)
    turns, asked, places = Turns(), [], world.queries.places
    trio.lowlevel.add_instrument(turns)

    def count() -> dict[str, str]:
        asked.append(turns.count)
        return places()

    monkeypatch.setattr(world.queries, "places", count)
    hello = {"tid": 1, "collectionName": "dispatcher", "methodName": "hello"}
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(world.peer()) for _ in range(10)]
        for peer in peers:
            await peer.send(*[hello] * 5)
        for peer in peers:
            assert all([(await peer.receive() or {})["success"] for _ in range(5)])
    assert len(set(asked)) == len(asked) == 50


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


async def test_a_request_that_waits_for_its_turn_is_cancelled_at_once(world: World) -> None:
    async def entries(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    world.queries.entries = entries  # type: ignore[method-assign, assignment]
    async with world.peer() as peer:
        for tid in (1, 2):
            await peer.send({"tid": tid, "collectionName": "files", "methodName": "list", "data": {}})
        await trio.testing.wait_all_tasks_blocked(0.05)
        await peer.send({"tid": 3, "collectionName": "jobs", "methodName": "cancel", "data": {"tid": 2}})
        assert {message["tid"] for _ in range(2) if (message := await peer.receive())} == {2, 3}


async def test_what_a_connection_has_asked_for_is_bounded_in_bytes(world: World) -> None:
    async def write(*_: object) -> None:
        await trio.sleep_forever()

    world.queries.write = write  # type: ignore[method-assign, assignment]
    data = {"path": "uploads/a", "text": "x" * 900_000}
    async with world.peer() as peer:
        for tid in range(6):
            await peer.send({"tid": tid, "collectionName": "files", "methodName": "write", "data": data})
        for tid in (4, 5):
            refused = await peer.receive() or {}
            assert (refused["tid"], refused["error"]["code"]) == (tid, "too_many")
        await peer.send({"tid": "x" * 256, "collectionName": "dispatcher", "methodName": "ping"})
        assert (await peer.receive() or {})["error"]["code"] == "bad_request"
    async with world.peer() as peer:
        assert (await peer.ask("files.get", path="x" * 900_000))["error"]["code"] == "bad_data"
        assert len(str(await peer.ask("jobs.get", job="x" * 900_000))) < 10_000
        assert (await peer.ask("files.find", name="?" * 2000))["error"]["code"] == "bad_data"
        assert (await peer.ask("events.listen", paths=["a"] * 2000))["error"]["code"] == "bad_data"


async def test_progress_that_is_left_out_is_not_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def encode(tid: Tid, done: int, total: int, unit: str) -> bytes:
        made.append(done)
        return encode_progress(tid, done, total, unit)

    monkeypatch.setattr(connection, "encode_progress", encode)

    async def entries(what: str, asker: object, wanted: object, report: Any, **_: object) -> dict[str, Any]:
        for count in range(1000):
            report(count, 0, "names")
        return {}

    world.queries.entries = entries  # type: ignore[method-assign]
    async with world.peer() as peer:
        describe = {"tid": 1, "collectionName": "dispatcher", "methodName": "describe"}
        await peer.send(*[describe] * 100)  # nobody reads the answers
        listing = {"tid": 2, "collectionName": "files", "methodName": "list", "data": {}}
        await peer.send(listing)
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert len(made) <= 1


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


async def test_shutdown_happens_also_when_nobody_waits_for_the_answer(world: World) -> None:
    async with world.peer() as peer:
        await peer.send(*await more_than_the_kernel_holds(peer))
        await peer.send({"tid": 1, "collectionName": "dispatcher", "methodName": "shutdown"})
        await trio.testing.wait_all_tasks_blocked()
    await until(world.queries.was_shut_down.is_set)


async def test_the_socket_has_its_mode_and_is_removed_at_the_end(short_path: Path) -> None:
    path = short_path / "c.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, control=Control()), path, FakeQueries())
        assert path.stat().st_mode & 0o777 == 0o600
        nursery.cancel_scope.cancel()
    assert not path.exists()


def call(path: Path, method: str) -> Any:
    with Client(path) as client:
        return client.call(method)


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
