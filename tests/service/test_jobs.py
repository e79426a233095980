"""Long requests as jobs: listed, waited for, cancelled, and in the background without their connection."""

from __future__ import annotations

import errno
import json
import os
import sys
import tracemalloc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from fusestore.config import Control
from fusestore.control import connection, jobs
from fusestore.control.server import serve
from tests.service.fake_queries import FakeQueries
from tests.service.served import Peer, World, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.timeout(60)
WAIT = {"collectionName": "moves", "methodName": "wait"}
DONE: dict[str, Any] = {"moves": [], "replicas": []}


@pytest.fixture
async def peer(world: World) -> AsyncIterator[Peer]:
    async with world.peer() as peer:
        yield peer


async def begin(peer: Peer) -> str:
    """Have moves waited for in the background."""
    await peer.send({"tid": "b", **WAIT, "background": True})
    reply = await peer.receive()
    assert reply is not None
    assert (reply["tid"], reply["success"], set(reply["data"])) == ("b", True, {"job"})
    job: str = reply["data"]["job"]
    return job


async def state(peer: Peer, job: str) -> str:
    found: str = (await peer.ask("jobs.get", job=job))["data"]["state"]
    return found


async def test_a_job_in_the_background_goes_on_without_its_connection_and_its_answer_is_kept(world: World) -> None:
    async with world.peer() as peer:
        job = await begin(peer)
        await until(lambda: world.queries.running == 1)
    async with world.peer() as peer:
        known = (await peer.ask("jobs.get", job=job))["data"]
        assert (known["state"], known["method"], known["background"]) == ("running", "moves.wait", True)
        assert known["progress"] == {"done": 1, "total": 2, "unit": "files"}
        assert (known["data"], known["error"], known["ended_ns"]) == (None, None, 0)
        await peer.send({"tid": 7, "collectionName": "jobs", "methodName": "wait", "data": {"job": job}})
        world.queries.let_go.set()
        reply = await peer.receive()
        while reply is not None and "progress" in reply:
            reply = await peer.receive()
        assert reply is not None
        assert (reply["tid"], reply["data"]["state"], reply["data"]["data"]) == (7, "done", DONE)
        assert [each["state"] for each in (await peer.ask("jobs.list"))["data"]] == ["done"]


async def test_an_ordinary_request_is_a_job_as_long_as_it_runs(world: World, peer: Peer) -> None:
    async with world.peer() as other:
        await other.send({"tid": 1, **WAIT, "data": {"path": "uploads/a"}})
        await other.receive()
        (job,) = (await peer.ask("jobs.list"))["data"]
        assert (job["background"], job["arguments"], job["pid"]) == (False, {"path": "uploads/a"}, os.getpid())
    await until(lambda: world.queries.running == 0)
    assert (await peer.ask("jobs.list"))["data"] == []
    assert (await peer.ask("jobs.get", job=job["job"]))["error"]["code"] == "not_found"


async def test_a_request_in_flight_is_cancelled_by_its_tid_and_still_answered_once(world: World, peer: Peer) -> None:
    await peer.send({"tid": "w", **WAIT})
    await peer.receive()
    async with world.peer() as other:
        assert (await cancel(other, {"tid": "w"}))["error"]["code"] == "not_found"
    told = await cancel(peer, {"tid": "w"})
    assert told["data"]["state"] == "cancelling"
    reply = await peer.receive()
    assert reply is not None
    assert (reply["tid"], reply["error"]["code"], reply["error"]["errno"]) == ("w", "cancelled", errno.ECANCELED)
    assert world.queries.running == 0
    assert (await cancel(peer, {"tid": "w"}))["error"]["code"] == "not_found"


async def test_a_request_can_be_cancelled_in_the_same_breath(world: World, peer: Peer) -> None:
    cancelling = {"tid": 2, "collectionName": "jobs", "methodName": "cancel", "data": {"tid": 1}}
    await peer.send({"tid": 1, **WAIT}, cancelling)
    replies: dict[int, bool] = {}
    while len(replies) < 2 and (message := await peer.receive()) is not None:
        if "success" in message:
            replies[message["tid"]] = message["success"]
    assert replies == {1: False, 2: True}


async def cancel(peer: Peer, data: dict[str, Any]) -> dict[str, Any]:
    await peer.send({"tid": 9, "collectionName": "jobs", "methodName": "cancel", "data": data})
    reply = await peer.receive()
    assert reply is not None
    assert reply["tid"] == 9
    return reply


async def test_a_job_is_cancelled_by_any_connection_of_its_user_and_says_so(world: World, peer: Peer) -> None:
    async with world.peer() as other:
        job = await begin(other)
    assert (await cancel(peer, {"job": job}))["data"]["state"] == "cancelling"
    ended = (await peer.ask("jobs.wait", job=job))["data"]
    assert (ended["state"], ended["error"]["code"], ended["data"]) == ("cancelled", "cancelled", None)
    assert (await cancel(peer, {"job": job}))["data"]["state"] == "cancelled"
    assert world.queries.running == 0


async def test_a_job_that_fails_keeps_its_error(peer: Peer) -> None:
    drop = {"tid": 1, "collectionName": "files", "methodName": "drop", "background": True}
    await peer.send({**drop, "data": {"path": "uploads/none", "root": "main"}})
    reply = await peer.receive()
    assert reply is not None
    ended = (await peer.ask("jobs.wait", job=reply["data"]["job"]))["data"]
    assert (ended["state"], ended["error"]["code"], ended["error"]["errno"]) == ("failed", "not_found", errno.ENOENT)


async def test_who_waits_for_a_job_hears_that_its_connection_has_ended(world: World, peer: Peer) -> None:
    async with world.peer() as other:
        await other.send({"tid": 1, **WAIT})
        await other.receive()
        (job,) = (await peer.ask("jobs.list"))["data"]
        await peer.send({"tid": 2, "collectionName": "jobs", "methodName": "wait", "data": {"job": job["job"]}})
        assert len((await peer.ask("jobs.list"))["data"]) == 2
    while (reply := await peer.receive()) is not None and "progress" in reply:
        pass
    assert reply is not None
    assert (reply["tid"], reply["data"]["state"], reply["data"]["error"]) == (2, "cancelled", None)


@pytest.mark.parametrize(
    "request_",
    [
        {"collectionName": "files", "methodName": "get", "data": {"path": "uploads/a"}, "background": True},
        {"collectionName": "events", "methodName": "fence", "background": True},
        {"collectionName": "jobs", "methodName": "wait", "data": {"job": "00"}, "background": True},
        {**WAIT, "background": 1},
    ],
)
async def test_what_can_be_no_job_in_the_background_is_refused(peer: Peer, request_: dict[str, Any]) -> None:
    await peer.send({"tid": 3, **request_})
    reply = await peer.receive()
    assert reply is not None
    assert (reply["tid"], reply["error"]["code"]) == (3, "bad_request")


@pytest.mark.parametrize("data", [{}, {"job": "00", "tid": 1}])
async def test_what_is_to_be_cancelled_is_said_in_one_way(peer: Peer, data: dict[str, Any]) -> None:
    assert (await cancel(peer, data))["error"]["code"] == "bad_data"


async def test_no_more_run_in_the_background_than_allowed_and_no_more_are_kept(
    world: World, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "BACKGROUND_MAX", 5)
    monkeypatch.setattr(jobs, "KEPT_MAX", 3)
    begun = [await begin(peer) for _ in range(5)]
    await peer.send({"tid": 1, **WAIT, "background": True})
    reply = await peer.receive()
    assert reply is not None
    assert reply["error"]["code"] == "too_many"
    for job in begun:
        await cancel(peer, {"job": job})
        await peer.ask("jobs.wait", job=job)
    assert [job["job"] for job in (await peer.ask("jobs.list"))["data"]] == begun[2:]
    assert await state(peer, await begin(peer)) == "running"


async def test_answers_are_kept_up_to_a_size(world: World, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KEPT_BYTES", 0)
    first, second = await begin(peer), await begin(peer)
    world.queries.let_go.set()
    await peer.ask("jobs.wait", job=second)
    await until(lambda: world.queries.running == 0)
    assert len((await peer.ask("jobs.list"))["data"]) == 1
    assert first != second


async def test_what_a_job_was_asked_is_shown_and_what_is_long_or_content_is_not_kept(world: World, peer: Peer) -> None:
    async def write(*_: object) -> dict[str, Any]:
        return {}

    world.queries.write = write  # type: ignore[method-assign, assignment]
    request = {"tid": 1, "collectionName": "files", "methodName": "write"}
    tracemalloc.start()
    try:
        for number in range(20):
            data = {"path": f"uploads/{number}", "text": "x" * 900_000}
            await peer.send({**request, "data": data, "background": True})
            reply = await peer.receive()
            assert reply is not None
            await peer.ask("jobs.wait", job=reply["data"]["job"])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 5_000_000
    assert [job["arguments"] for job in (await peer.ask("jobs.list"))["data"]] == [
        {"path": f"uploads/{number}"} for number in range(20)
    ]
    long = {"path": "x" * 100_000, "move": None}
    await peer.send({"tid": 1, **WAIT, "data": long, "background": True})
    await peer.receive()
    assert (await peer.ask("jobs.list"))["data"][-1]["arguments"] == {}


async def test_what_makes_no_sense_is_refused_and_no_job(peer: Peer) -> None:
    await peer.send({"tid": 1, **WAIT, "data": {"path": 7}, "background": True})
    assert ((await peer.receive()) or {})["error"]["code"] == "bad_data"
    assert (await peer.ask("jobs.list"))["data"] == []


async def test_who_waits_for_long_answers_and_does_not_read_holds_one_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    answered = jobs.Job.answered

    def count(job: jobs.Job) -> dict[str, Any]:
        nonlocal made
        made += 1
        return {**answered(job), "data": "x" * 300_000}

    monkeypatch.setattr(jobs.Job, "answered", count)
    async with world.peer() as peer:
        job = await begin(peer)
        world.queries.let_go.set()
        await trio.testing.wait_all_tasks_blocked(0.05)
        for tid in range(connection.LONG_MAX):
            await peer.send({"tid": tid, "collectionName": "jobs", "methodName": "wait", "data": {"job": job}})
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert 1 <= made <= 4
        tids = {message["tid"] for _ in range(connection.LONG_MAX) if (message := await peer.receive())}
        assert tids == set(range(connection.LONG_MAX))


AS_NOBODY = """
import json, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
for request in json.loads(sys.argv[2]):
    peer.sendall(json.dumps(request).encode() + b"\\n")
    print(peer.makefile().readline(), end="")
"""


async def as_nobody(path: Path, *requests: tuple[str, dict[str, Any], bool]) -> list[dict[str, Any]]:
    """The replies to requests, each its method, data and whether it is for the background, of another user."""
    lines = []
    for name, data, background in requests:
        collection, _, method = name.partition(".")
        method_of = {"collectionName": collection, "methodName": method}
        lines.append({"tid": 1, **method_of, "data": data, "background": background})
    command = [sys.executable, "-I", "-c", AS_NOBODY, str(path), json.dumps(lines)]
    done = await trio.run_process(command, capture_stdout=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_answers_of_one_user_are_not_forgotten_for_those_of_another(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "KEPT_MAX", 1)
    monkeypatch.setattr(jobs, "KEPT_BYTES", 0)
    path, queries = Path("/tmp") / f"fusestore-jobs-{os.getpid()}.sock", FakeQueries()
    await nursery.start(partial(serve, control=Control(mode="0666")), path, queries)
    async with await trio.open_unix_socket(path) as stream:
        peer = Peer(stream)
        job = await begin(peer)
        queries.let_go.set()
        await peer.ask("jobs.wait", job=job)
        replies = await as_nobody(path, *[("files.find", {}, True)] * 5)
        assert all(reply["success"] for reply in replies)
        assert await state(peer, job) == "done"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("role", ["readers", "operators"])
async def test_jobs_of_others_are_an_operators_affair(nursery: trio.Nursery, role: str) -> None:
    path = Path("/tmp") / f"fusestore-jobs-{os.getpid()}.sock"
    control = msgspec.convert({"mode": "0666", role: ("65534",)}, Control)
    await nursery.start(partial(serve, control=control), path, FakeQueries())
    async with await trio.open_unix_socket(path) as stream:
        job = await begin(Peer(stream))
        listed, got, cancelled = await as_nobody(
            path, ("jobs.list", {}, False), ("jobs.get", {"job": job}, False), ("jobs.cancel", {"job": job}, False)
        )
    may = role == "operators"
    assert len(listed["data"]) == may
    assert (got["success"], cancelled["success"]) == (may, may)
