"""A served store in memory, and a client with its own view of the wire."""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from fusestore.control.outbox import FULL_BYTES
from tests.service.fake_queries import FakeQueries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


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


async def more_than_the_kernel_holds(peer: Peer) -> list[dict[str, Any]]:
    """Requests whose answers nobody reads: what is said after them stays in the outbox, which is not full yet."""
    request = {"tid": 0, "collectionName": "dispatcher", "methodName": "describe"}
    length = len(json.dumps(await peer.ask("dispatcher.describe")))
    held = peer.stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return [request] * ((held + FULL_BYTES // 2) // length)


async def until(condition: Any) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()
