"""A watcher that follows with the public client misses nothing while the daemon is killed and mounted again."""

from __future__ import annotations

import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
import trio

from fusestore.client import AsyncClient, Client, Event, Lost
from tests.support.daemon import Mounted, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(120)


class Kept:
    """A cursor store in memory."""

    at: tuple[int, int] | None = None

    def load(self) -> tuple[int, int] | None:
        return self.at

    def save(self, epoch: int, seq: int) -> None:
        self.at = (epoch, seq)


def follow(
    own: Mounted, cursor: Kept | str, is_last: Callable[[Event | Lost], bool], *, in_trio: bool, **wanted: Any
) -> threading.Thread:
    """Follow with one of the clients in a thread, until an item is the last."""

    def blocking() -> None:
        for item in Client.follow(own.socket, cursor, **wanted):
            if is_last(item):
                return

    async def concurrent() -> None:
        async with aclosing(AsyncClient.follow(own.socket, cursor, **wanted)) as found:
            async for item in found:
                if is_last(item):
                    return

    thread = threading.Thread(target=trio.run if in_trio else blocking, args=(concurrent,) if in_trio else ())
    thread.start()
    return thread


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("in_trio", [True, False])
def test_following_goes_on_when_the_daemon_was_killed(own: Mounted, by_name: bool, in_trio: bool) -> None:
    items: list[Event | Lost] = []
    cursor: Kept | str = "backup" if by_name else Kept()

    def is_over(item: Event | Lost) -> bool:
        items.append(item)
        return not isinstance(item, Lost) and item["path"] == "uploads/last"

    thread = follow(own, cursor, is_over, in_trio=in_trio)
    eventually(lambda: items, "the watcher has begun")
    for number in range(3):
        (own.uploads / f"before-{number}").write_bytes(b"x")
        own.kill9()
        own.mount()
        (own.uploads / f"after-{number}").write_bytes(b"x")
    (own.uploads / "last").write_bytes(b"x")
    thread.join(60)
    assert not thread.is_alive()
    first, *events = items
    assert isinstance(first, Lost)
    told = [item["seq"] for item in events if not isinstance(item, Lost)]
    assert len(told) == len(events)
    assert told == [event["seq"] for event in own.events(first.seq) if event["seq"] <= told[-1]]


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("in_trio", [True, False])
def test_what_a_watcher_does_not_want_moves_its_cursor_all_the_same(
    own: Mounted, monkeypatch: pytest.MonkeyPatch, by_name: bool, in_trio: bool
) -> None:
    monkeypatch.setattr(f"fusestore.client.{'concurrent' if in_trio else 'blocking'}.SILENT_S", 0.1)
    items: list[Event | Lost] = []
    kept = Kept()
    cursor: Kept | str = "backup" if by_name else kept

    def is_second(item: Event | Lost) -> bool:
        items.append(item)
        return len(items) == 2

    def reached() -> int:
        if not by_name:
            return kept.at[1] if kept.at else 0
        consumers = own.json("consumers")
        return int(consumers[0]["seq"]) if consumers else 0

    thread = follow(own, cursor, is_second, in_trio=in_trio, paths=["uploads/wanted"])
    eventually(lambda: items, "the watcher has begun")
    for number in range(3):
        (own.uploads / f"unwanted-{number}").write_bytes(b"x")
        own.wait()
        eventually(lambda: reached() >= own.events()[-1]["seq"], "the cursor is behind all of them")
    (own.uploads / "wanted").write_bytes(b"x")
    thread.join(60)
    assert not thread.is_alive()
    assert [item["path"] for item in items if not isinstance(item, Lost)] == ["uploads/wanted"]
