"""Whatever is asked of a real store, in whatever order: one reply to each request, never a crash, and it stays whole.

The store has no kernel, and its jobs run. What is drawn are methods of the whole table with arguments that mean
something in a small tree, with some that mean nothing anywhere, and lines that are no requests.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from fusestore.config import Control
from fusestore.control.server import serve
from fusestore.control.table import COLLECTIONS
from fusestore.index.check import check
from fusestore.jobs.scrubber import Scrubber
from fusestore.model import KINDS
from fusestore.service.queries import Queries
from tests.support.byhand import by_hand, in_place
from tests.support.opened import Opened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio import SocketStream

pytestmark = pytest.mark.timeout(120)

FILES: Final = ("uploads/a", "resources/hot/d/b", "resources/cold/c", "resources/main/é", "downloads/copied")
NOW: Final = ("uploads/a", "resources/cold/d/b", "resources/cold/c", "resources/warm/é", "downloads/copied")
PATHS: Final = (*NOW, "", "uploads", "resources", "resources/hot", "resources/cold/d", "resources/hot/none")
PATIENCE_S: Final = 100  # on a clock that jumps: what is not answered by then waits for something that nobody does
BIG: Final = st.sampled_from([-1, 0, 1, 2, 7, 1000, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 64, 10**30])

# Text of any kind, also such as stands for no bytes.
TEXT: Final = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    ["\0", "..", "/", "\ud800", "\udcff", "x" * 300]
)
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | BIG | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ROOTS: Final = st.sampled_from(["hot", "warm", "cold", "main", "uploads", "downloads", "nowhere", ""])
ID: Final = st.sampled_from([f"id of {path}" for path in NOW]) | st.sampled_from(["01932f6c", "0" * 32, "none", ""])
PATH: Final = st.sampled_from(PATHS) | st.sampled_from([f"/{path}/" for path in NOW])
SHORT: Final = st.sampled_from(["", "text", "aGFsbG8=", "a"])
HASH: Final = st.sampled_from(["blake3:" + "0" * 64, "blake3:00", "hash of uploads/a", "sha256:00", "blake3:"])

# What an argument of this name may be, in whichever method.
VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    **dict.fromkeys(("root", "new_root", "old_root"), ROOTS),
    **dict.fromkeys(("to", "roots"), st.lists(ROOTS, max_size=2)),
    **dict.fromkeys(("id", "resource_id"), ID),
    **dict.fromkeys(("since", "seq", "epoch", "before", "move", "limit", "mode"), BIG),
    "rate": st.sampled_from([-1, 0, 1 << 40, (1 << 63) - 1, 1 << 64]),  # a slower one would be waited for in real time
    "path": PATH,
    "paths": st.lists(PATH, max_size=2),
    "ids": st.lists(ID, max_size=3),
    "manifest": st.dictionaries(ID, BIG, max_size=3),
    "kinds": st.lists(st.sampled_from(sorted(KINDS)), max_size=2),
    "what": ID,
    "job": st.sampled_from(["00000000", ""]),
    "tid": st.integers(0, 9),
    "name": st.sampled_from(["*", "[", "a", "", "?"]),
    "hash": HASH,
    "type": st.sampled_from(["file", "directory"]),
    "state": st.sampled_from(["ready", "writing"]),
    "after": st.sampled_from(["", "a", *NOW]),
    **dict.fromkeys(("owner", "consumer"), st.sampled_from(["somebody", ""])),
    **dict.fromkeys(("text", "body", "content_type"), SHORT),
}


@st.composite
def arguments(draw: st.DrawFn, collection: str, name: str) -> Any:
    """Those of a method: any of them with something that it may mean, and now and then something else altogether."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    found = {}
    for field in msgspec.structs.fields(COLLECTIONS[collection][name].arguments):
        if field.required or draw(st.booleans()):
            usual = VALUES.get(field.name, st.booleans())
            found[field.name] = draw(JSON if field.name != "rate" and draw(st.integers(0, 9)) == 0 else usual)
    return found


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any] | bytes:
    if draw(st.integers(0, 19)) == 0:
        line = draw(st.binary(min_size=1, max_size=20).map(lambda raw: raw.replace(b"\n", b"x")))
        return line if line.strip() else b"x"
    collection = draw(st.sampled_from(sorted(COLLECTIONS)))
    name = draw(st.sampled_from(sorted(COLLECTIONS[collection])))
    request = {"collectionName": collection, "methodName": name, "data": draw(arguments(collection, name))}
    return request | ({"background": True} if draw(st.integers(0, 9)) == 0 else {})


class Peer:
    """One connection, and how often it was told what."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._received = b""
        self.replies: Counter[int | str | None] = Counter()

    async def ask(self, tid: int | str | None, line: bytes) -> bool:
        """Send a line; whether it was answered in time."""
        await self._stream.send_all(line + b"\n")
        with trio.move_on_after(PATIENCE_S):
            await self.until(tid)
        return tid in self.replies

    async def until(self, tid: int | str | None) -> None:
        before = self.replies[tid]
        while self.replies[tid] == before:
            while b"\n" not in self._received:
                data = await self._stream.receive_some(1 << 16)
                assert data, "the server hung up"
                self._received += data
            line, _, self._received = self._received.partition(b"\n")
            message = json.loads(line)
            if "success" in message:
                self.replies[message["tid"]] += 1
                assert message["success"] or message["error"]["code"] != "internal", message


def plant(opened: Opened) -> dict[str, str]:
    """A small tree; what the names of ids and hashes in requests stand for."""
    opened.mkdir("resources/hot/d")
    for path in FILES:
        opened.write(path, path.encode() * 10)
    opened.replicate("resources/hot/d/b", "warm")
    opened.rest()
    opened.rename("resources/main/é", "resources/warm/é")  # still on its way when the first request comes
    opened.rename("resources/hot/d", "resources/cold/d")
    found = {f"id of {path}": opened.stat(path).id.hex() for path in NOW}
    return found | {"hash of uploads/a": f"blake3:{opened.stat('uploads/a').hash.hex()}"}


def filled_in(data: Any, stands_for: dict[str, str]) -> Any:
    if isinstance(data, str):
        return stands_for.get(data, data)
    if isinstance(data, list):
        return [filled_in(each, stands_for) for each in data]
    if isinstance(data, dict):
        return {filled_in(key, stands_for): filled_in(value, stands_for) for key, value in data.items()}
    return data


async def converse(opened: Opened, wanted: list[dict[str, Any] | bytes], stands_for: dict[str, str]) -> None:
    scrubber = Scrubber(opened.store)
    jobs: list[Callable[[], Awaitable[object]]] = [
        each.run for each in (opened.mover, opened.hasher, opened.replicator, opened.drainer, scrubber)
    ]
    queries = Queries(opened.store, opened.path, opened.mover.running, opened.hasher.idle, scrubber, lambda: None)
    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(job)
        with tempfile.TemporaryDirectory() as short:
            socket = Path(short) / "s"
            await nursery.start(partial(serve, control=Control()), socket, queries)
            async with await trio.open_unix_socket(os.fspath(socket)) as stream:
                peer = Peer(stream)
                expected: Counter[int | str | None] = Counter()
                for number, request in enumerate(wanted):
                    tid, line = None, request
                    if isinstance(request, dict):
                        tid = number
                        said = {**request, "tid": tid, "data": filled_in(request["data"], stands_for)}
                        line = json.dumps(said).encode()
                    assert isinstance(line, bytes)
                    expected[tid] += 1
                    if not await peer.ask(tid, line):  # it waits for what nobody does: then it can be cancelled
                        cancel = {"collectionName": "jobs", "methodName": "cancel", "data": {"tid": tid}}
                        expected[f"cancel {tid}"] += 1
                        assert await peer.ask(f"cancel {tid}", json.dumps({**cancel, "tid": f"cancel {tid}"}).encode())
                        with trio.fail_after(PATIENCE_S):
                            while tid not in peer.replies:
                                await peer.until(tid)
                end = {"tid": "end", "collectionName": "dispatcher", "methodName": "ping"}
                expected["end"] += 1
                assert await peer.ask("end", json.dumps(end).encode())
                assert peer.replies == expected
        nursery.cancel_scope.cancel()


def ask_all(devices: tuple[Path, Path], wanted: list[dict[str, Any] | bytes]) -> None:
    with contextlib.ExitStack() as stack:
        with by_hand():
            opened = Opened(*devices, trash_s=3600, trash_removed=True)
            stack.callback(opened.remove)
            stands_for = plant(opened)
        with in_place():
            trio.run(converse, opened, wanted, stands_for, clock=MockClock(autojump_threshold=0))
        opened.store.index.commit()
        assert list(check(opened.store.index)) == []
        opened.store.close(clean=True)


def draw_many(devices: tuple[Path, Path], examples: int, *, always_the_same: bool) -> None:
    @settings(
        max_examples=examples, deadline=None, derandomize=always_the_same, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(requests(), min_size=1, max_size=12))
    def draw(wanted: list[dict[str, Any] | bytes]) -> None:
        ask_all(devices, wanted)

    draw()


def test_any_requests_get_one_reply_each_and_leave_the_store_whole(devices: tuple[Path, Path]) -> None:
    draw_many(devices, 250, always_the_same=True)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_more_requests_get_one_reply_each_and_leave_the_store_whole(devices: tuple[Path, Path]) -> None:
    draw_many(devices, int(os.environ.get("FUSESTORE_EXAMPLES", "3000")), always_the_same=False)
