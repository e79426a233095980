"""Both clients follow, whatever goes wrong meanwhile."""

from __future__ import annotations

import errno
from contextlib import aclosing
from itertools import count
from typing import IO, TYPE_CHECKING, Any

import pytest
import trio

from fusestore.client import AsyncClient, Client, Lost
from fusestore.control import connection

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
