"""The client that blocks, at a served store."""

from __future__ import annotations

import os
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from fusestore.client import Client, Lost, StreamLost
from fusestore.config import Control
from fusestore.control.address import listen
from fusestore.control.server import serve
from fusestore.errors import ControlError, NoDaemon
from tests.service.fake_queries import ID, FakeQueries
from tests.service.served import World, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)
LONG: Final = {"name": "a", "text": "x" * 1_000_000}  # more than the kernel takes before anybody reads


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


@pytest.mark.parametrize(("timeout_s", "error"), [(0.05, TimeoutError), (None, NoDaemon)])
def test_a_time_limit_counts_for_sending_and_a_request_that_is_cut_off_closes_the_client(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, timeout_s: float | None, error: type[Exception]
) -> None:
    monkeypatch.setattr("fusestore.client.blocking.PATIENCE_S", 0.05)
    with closing(listen(short_path / "deaf", 0o600, -1, 1)), Client(short_path / "deaf") as client:
        began = time.monotonic()
        with pytest.raises(error):
            client.call("files.register", LONG, timeout_s=timeout_s)
        assert time.monotonic() - began < 5
        with pytest.raises(NoDaemon, match="closed: a request was cut off"):
            client.call("dispatcher.ping")


async def test_a_request_has_its_own_time_to_be_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy() -> dict[str, Any]:
        time.sleep(0.3)  # the daemon's loop is held up, as by a slow disk
        return {}

    def converse() -> None:
        with Client(world.path) as client:
            with pytest.raises(TimeoutError):
                client.call("dispatcher.status", timeout_s=0.01)
            assert client.call("files.register", LONG) == {"id": ID, "path": "uploads/a"}

    monkeypatch.setattr(world.queries, "status", busy)
    await trio.to_thread.run_sync(converse)


async def test_events_lost_while_the_program_looks_are_told_too(world: World) -> None:
    def look() -> list[int]:
        found = []
        for item in Client.follow(world.path, "backup"):
            found.append(item.seq if isinstance(item, Lost) else item["seq"])
            if len(found) <= 2:
                trio.from_thread.run_sync(world.queries.happen, 10)
                trio.from_thread.run_sync(world.queries.cut, world.queries.last_seq)
            elif len(found) == 3:
                trio.from_thread.run_sync(world.queries.happen, 1)
            else:
                break
        return found

    world.queries.happen(3)
    assert await trio.to_thread.run_sync(look) == [3, 13, 23, 24]
    assert world.queries.acked == {"backup": 23}


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
