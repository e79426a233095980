"""A watcher that follows with the public client misses nothing while the daemon is killed and mounted again."""

from __future__ import annotations

import threading
from contextlib import aclosing

import pytest
import trio

from fusestore.client import AsyncClient, Client, Event, Lost
from tests.support.daemon import Mounted, eventually

pytestmark = pytest.mark.timeout(120)


class Kept:
    """A cursor store in memory."""

    at: tuple[int, int] | None = None

    def load(self) -> tuple[int, int] | None:
        return self.at

    def save(self, epoch: int, seq: int) -> None:
        self.at = (epoch, seq)


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("in_trio", [True, False])
def test_following_goes_on_when_the_daemon_was_killed(own: Mounted, by_name: bool, in_trio: bool) -> None:
    items: list[Event | Lost] = []
    cursor: Kept | str = "backup" if by_name else Kept()

    def is_over(item: Event | Lost) -> bool:
        items.append(item)
        return not isinstance(item, Lost) and item["path"] == "uploads/last"

    def follow() -> None:
        for item in Client.follow(own.socket, cursor):
            if is_over(item):
                return

    async def follow_in_trio() -> None:
        async with aclosing(AsyncClient.follow(own.socket, cursor)) as found:
            async for item in found:
                if is_over(item):
                    return

    thread = threading.Thread(target=trio.run if in_trio else follow, args=(follow_in_trio,) if in_trio else ())
    thread.start()
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

    def follow() -> None:
        for item in Client.follow(own.socket, cursor, paths=["uploads/wanted"]):
            items.append(item)
            if len(items) == 2:
                return

    async def follow_in_trio() -> None:
        async with aclosing(AsyncClient.follow(own.socket, cursor, paths=["uploads/wanted"])) as found:
            async for item in found:
                items.append(item)
                if len(items) == 2:
                    return

    def reached() -> int:
        if not by_name:
            return kept.at[1] if kept.at else 0
        consumers = own.json("consumers")
        return int(consumers[0]["seq"]) if consumers else 0

    thread = threading.Thread(target=trio.run if in_trio else follow, args=(follow_in_trio,) if in_trio else ())
    thread.start()
    eventually(lambda: items, "the watcher has begun")
    for number in range(3):
        (own.uploads / f"unwanted-{number}").write_bytes(b"x")
        own.wait()
        eventually(lambda: reached() >= own.events()[-1]["seq"], "the cursor is behind all of them")
    (own.uploads / "wanted").write_bytes(b"x")
    thread.join(60)
    assert not thread.is_alive()
    assert [item["path"] for item in items if not isinstance(item, Lost)] == ["uploads/wanted"]
