"""A small client of the control socket, written from its document alone: requests out, broadcasts in."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from tests.support.daemon import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


class Line:
    """One connection: raw lines out, JSON objects in."""

    def __init__(self, path: Path, timeout_s: float = 20) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        directory = os.open(path.parent, os.O_PATH)
        try:  # temporary folders have paths longer than the 107 bytes a socket address holds
            self._socket.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
        self._reader = self._socket.makefile("rb")

    def send(self, line: bytes) -> None:
        self._socket.sendall(line)

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other side is gone."""
        try:
            line = self._reader.readline()
        except ConnectionResetError:
            return None
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        return message

    def call(self, collection: str, method: str, tid: int = 1, **data: object) -> dict[str, Any]:
        """Send one request and return the reply to it; broadcasts and progress before it are passed over."""
        request = {"tid": tid, "methodName": method, "collectionName": collection, "data": data}
        self.send(json.dumps(request).encode() + b"\n")
        while True:
            message = self.receive()
            assert message is not None, "the daemon hung up before it replied"
            if message.get("tid") == tid and "success" in message:
                return message

    def close(self) -> None:
        with self._socket:
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError:
            self._socket.close()


class Watcher:
    """Listens from a seq on, in a thread of its own, until stopped or hung up on."""

    def __init__(self, path: Path, since: int = 0) -> None:
        self.seen: list[dict[str, Any]] = []
        self._line = Line(path, timeout_s=60)
        self.reply = self._line.call("events", "listen", since=since)
        assert self.reply["success"], self.reply
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while (message := self._line.receive()) is not None:
                if "seq" in message:
                    self.seen.append(message)
        except (OSError, ValueError):
            return  # closed under our hands: stop()

    @property
    def seqs(self) -> list[int]:
        return [int(message["seq"]) for message in self.seen]

    def until(self, condition: Callable[[list[dict[str, Any]]], bool], what: str) -> None:
        eventually(lambda: condition(list(self.seen)), what)

    def stop(self) -> list[int]:
        """Hang up and return the seqs seen, in the order in which they came."""
        self._line.__exit__(None, None, None)
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.seqs
