"""Both clients follow, whatever goes wrong meanwhile, and are told what differs from what they know."""

from __future__ import annotations

import errno
from contextlib import aclosing
from itertools import count
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

import pytest
import trio

from fusestore.client import AsyncClient, Client, Lost
from fusestore.control import connection
from tests.service.fake_queries import ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.service.served import World

pytestmark = [pytest.mark.timeout(60), pytest.mark.parametrize("client", [Client, AsyncClient])]


async def follow(client: type, world: World, is_last: Callable[[Any], bool], **wanted: Any) -> None:
    """Follow by the name `backup` until an item is the last."""

    def blocking() -> None:
        for item in Client.follow(world.path, "backup", **wanted):
            if trio.from_thread.run_sync(is_last, item):
                return

    async def concurrent() -> None:
        async with aclosing(AsyncClient.follow(world.path, "backup", **wanted)) as items:
            async for item in items:
                if is_last(item):
                    return

    with trio.fail_after(10):
        await (concurrent() if client is AsyncClient else trio.to_thread.run_sync(blocking, abandon_on_cancel=True))


def full() -> IO[bytes]:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("has_place", [True, False])
async def test_what_cannot_be_had_is_asked_for_ever_more_seldom_and_the_loss_is_told_once(
    client: type, world: World, monkeypatch: pytest.MonkeyPatch, has_place: bool
) -> None:
    told: list[str] = []
    waited: list[int] = []

    def pauses() -> Iterator[float]:
        for attempt in count():
            waited.append(attempt)
            if attempt == 3:
                trouble.undo()
            yield 0.0

    def is_whole(item: Any) -> bool:
        told.append("lost" if isinstance(item, Lost) else item["kind"])
        return told[-1] == "whole"

    monkeypatch.setattr("fusestore.client.following.pauses", pauses)
    with pytest.MonkeyPatch.context() as trouble:
        if has_place:
            trouble.setattr(world.queries, "scratch", full)
        else:
            trouble.setattr(connection, "LISTENING", 0)
        await follow(client, world, is_whole, snapshot=True)
    assert told == ["lost", "whole"]
    assert waited == [0, 1, 2, 3]


async def test_a_name_that_the_daemon_has_forgotten_is_registered_again(client: type, world: World) -> None:
    found: list[int] = []

    def is_fourth(item: Any) -> bool:
        found.append(item.seq if isinstance(item, Lost) else item["seq"])
        if len(found) == 2:
            world.queries.acked.clear()
        world.queries.happen()
        return len(found) == 4

    world.queries.happen(3)
    await follow(client, world, is_fourth)
    assert found == [3, 4, 5, 6]
    assert world.queries.acked == {"backup": 5}


async def test_what_differs_from_what_is_known_is_told_however_much_that_is(client: type, world: World) -> None:
    ids = [str(UUID(int=number)) for number in range(1, 3001)]
    there = {"kind": "present", "path": "a", "paths": ["a"], "root": "main", "home": "main"}
    world.queries.happen(9)
    world.queries.there = [{**there, "id": id, "last": 9 if id == ids[1500] else 1} for id in ids[:2999]]
    known = dict.fromkeys(reversed(ids), 1)

    def blocking() -> list[Any]:
        with Client(world.path) as peer:
            next(peer.events(0))  # what is left of a stream is no part of it
            return list(peer.sync(known, 1, roots=["main"]))

    async def concurrent() -> list[Any]:
        async with AsyncClient(world.path) as peer:
            async with aclosing(peer.events(0)) as events:
                await anext(events)
            async with aclosing(peer.sync(known, 1, roots=["main"])) as items:
                return [item async for item in items]

    found = await (concurrent() if client is AsyncClient else trio.to_thread.run_sync(blocking))
    assert [(item["kind"], item.get("id")) for item in found] == [
        ("present", ids[1500]), ("gone", ids[2999]), ("whole", None)
    ]  # fmt: skip
    assert {key: found[-1][key] for key in ("total", "seq", "epoch")} == {"total": 2, "seq": 9, "epoch": 1}


async def test_who_knows_nothing_is_told_all(client: type, world: World) -> None:
    def blocking() -> list[Any]:
        with Client(world.path) as peer:
            return list(peer.sync({}))

    async def concurrent() -> list[Any]:
        async with AsyncClient(world.path) as peer, aclosing(peer.sync({})) as items:
            return [item async for item in items]

    there = {"kind": "present", "path": "a", "paths": ["a"], "root": "main", "home": "main", "id": ID, "last": 1}
    world.queries.there = [there]
    found = await (concurrent() if client is AsyncClient else trio.to_thread.run_sync(blocking))
    assert [item["kind"] for item in found] == ["present", "whole"]
