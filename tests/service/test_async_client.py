"""The client for trio at a served store: many tasks on one connection, cancelling, and following."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from fusestore.client import AsyncClient, ControlError, Lost, NoDaemon, StreamLost
from fusestore.config import Control
from fusestore.control.address import listen
from fusestore.control.server import serve
from tests.service.fake_queries import FakeQueries

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


class Kept:
    """A cursor store in memory."""

    def __init__(self, at: tuple[int, int] | None = None) -> None:
        self.at = at

    def load(self) -> tuple[int, int] | None:
        return self.at

    def save(self, epoch: int, seq: int) -> None:
        self.at = (epoch, seq)


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "control.sock"


@pytest.fixture
async def queries(path: Path, nursery: trio.Nursery) -> FakeQueries:
    queries = FakeQueries()
    await nursery.start(partial(serve, control=Control()), path, queries)
    return queries


async def test_short_requests_are_answered_while_a_long_one_waits(path: Path, queries: FakeQueries) -> None:
    told: list[tuple[int, int, str]] = []
    answers: list[Any] = []

    async def wait() -> None:
        answers.append(await client.call("moves.wait", progress=lambda *said: told.append(said)))

    async with AsyncClient(path) as client:
        async with trio.open_nursery() as tasks:
            tasks.start_soon(wait)
            for _ in range(5):
                tasks.start_soon(client.call, "dispatcher.ping")
            assert await client.call("dispatcher.ping") == "pong"
            assert not answers
            queries.let_go.set()
        with pytest.raises(ControlError, match="frob"):
            await client.call("files.frob")
    assert answers == [{"moves": [], "replicas": []}]
    assert told == [(1, 2, "files")]


async def test_cancelling_a_call_cancels_the_request_and_the_connection_goes_on(
    path: Path, queries: FakeQueries
) -> None:
    async with AsyncClient(path) as client:
        with trio.move_on_after(0.1) as scope:
            await client.call("moves.wait")
        assert scope.cancelled_caught
        with trio.fail_after(10):
            while await client.call("jobs.list"):
                pass
        assert await client.call("dispatcher.ping") == "pong"


async def test_events_come_while_requests_go_on(path: Path, queries: FakeQueries) -> None:
    queries.happen(5)
    async with AsyncClient(path) as client, contextlib.aclosing(client.events(since=2)) as events:
        seen = []
        async for event in events:
            seen.append(event["seq"])
            assert await client.call("dispatcher.ping") == "pong"
            if seen[-1] == 5:
                queries.happen(2)
            if seen[-1] == 7:
                break
    assert seen == [3, 4, 5, 6, 7]


async def test_a_lost_stream_and_a_daemon_that_goes_are_raised_to_all_who_wait(path: Path) -> None:
    queries = FakeQueries()
    gone: list[str] = []

    async def wait(client: AsyncClient) -> None:
        try:
            await client.call("moves.wait")
        except NoDaemon as error:
            gone.append(str(error))

    async def serve_for(scope: trio.CancelScope, *, task_status: trio.TaskStatus[Any]) -> None:
        with scope:
            await serve(path, queries, control=Control(), task_status=task_status)

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_for, scope)
        async with AsyncClient(path) as client:
            with pytest.raises(StreamLost):
                await anext(client.events(since=77))
            async with trio.open_nursery() as tasks:
                tasks.start_soon(wait, client)
                tasks.start_soon(wait, client)
                await client.call("dispatcher.ping")
                scope.cancel()
    assert gone == [f"the daemon at {path} went away"] * 2


async def test_a_daemon_that_answers_nothing_is_given_up(path: Path, autojump_clock: trio.testing.MockClock) -> None:
    with contextlib.closing(listen(path, 0o600, -1, 1)):
        async with AsyncClient(path) as client:
            with pytest.raises(NoDaemon, match="does not answer"):
                await client.call("moves.wait")
    with pytest.raises(NoDaemon, match="is the store mounted"):
        await AsyncClient(path.parent / "none").__aenter__()


@pytest.mark.parametrize("by_name", [True, False])
async def test_following_goes_on_from_where_it_was_left(path: Path, queries: FakeQueries, by_name: bool) -> None:
    queries.happen(3)
    kept = Kept()
    cursor = "backup" if by_name else kept

    async def take(count: int) -> list[Any]:
        found = []
        async with contextlib.aclosing(AsyncClient.follow(path, cursor)) as items:
            async for item in items:
                found.append(item if isinstance(item, Lost) else item["seq"])
                if len(found) == 1:
                    queries.happen(2)
                if len(found) == count:
                    break
        return found

    assert await take(1) == [Lost("nothing is known yet", 1, 3)]
    assert await take(3) == [Lost("nothing is known yet", 1, 5), 6, 7]
    assert (await take(2))[0] <= 7
    queries.cut(10)
    lost, first = await take(2)
    assert isinstance(lost, Lost)
    assert first == lost.seq + 1


async def test_events_lost_while_the_program_looks_are_told_too(path: Path, queries: FakeQueries) -> None:
    queries.happen(3)
    found: list[Any] = []
    async with contextlib.aclosing(AsyncClient.follow(path, "backup")) as items:
        async for item in items:
            found.append(item if isinstance(item, Lost) else item["seq"])
            if len(found) <= 2:
                queries.happen(10)
                queries.cut(queries.last_seq)
            elif len(found) == 3:
                queries.happen(1)
            else:
                break
    assert [item.seq if isinstance(item, Lost) else item for item in found] == [3, 13, 23, 24]
    assert queries.acked == {"backup": 23}


async def test_following_with_a_snapshot_tells_what_there_is_after_a_loss(path: Path, queries: FakeQueries) -> None:
    queries.happen(3)
    kept = Kept((1, 77))
    kinds = []
    async with contextlib.aclosing(AsyncClient.follow(path, kept, snapshot=True)) as items:
        async for item in items:
            kinds.append("lost" if isinstance(item, Lost) else item["kind"])
            if kinds[-1] == "whole":
                queries.happen()
            if kinds.count("whole") and kinds[-1] != "whole":
                break
    assert (kinds[0], kinds[-2]) == ("lost", "whole")
    assert set(kinds[1:-2]) <= {"present"}
    assert kept.at == (1, 3)
