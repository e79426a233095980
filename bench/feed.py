"""What the control socket gives to those who listen and ask: how soon, how much, and at whose cost.

Beside it, for the same changes, is inotifywait on a native directory. Watchers here only read, but for the one that
reads with our client in Python: what a program does with a line is its own affair.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Final

from bench import stores
from fusestore.client import Client
from fusestore.control.address import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from bench.sizes import Size

Facts = dict[str, float]

HEARD: Final = "a change, until it is heard of"
NATIVELY: Final = ", by inotifywait"
CLIENT: Final = "all events from the first on, by the Python client, 1/s"
LINES: Final = "all events from the first on, as lines, 1/s"
SLOWER: Final = "a change beside 100 watchers, times alone"
SEARCHED: Final = "a change beside 100 connections that search, p99, ms"
ASKED: Final = "requests one after the other, 1/s"
IDLE: Final = "an idle connection, KB"
_WATCHERS: Final = 100
_SEARCH: Final = b'{"tid":1,"collectionName":"files","methodName":"find","data":{"name":"not one"}}\n'
_CHANGES_A_SECOND: Final = 500
_TURNS: Final = 4  # alone, beside the watchers, and again: what the machine does meanwhile is shared out
_CONNECTIONS: Final = 400
_LIMIT_S: Final = 600
_PAUSE_S: Final = 0.001
_FORK: Final = multiprocessing.get_context("fork")


def measure(base: Path, size: Size, tell: Callable[[str], object]) -> Facts:
    """Every figure, of one store with a tree that is ours alone."""
    told: Facts = {}
    with stores.store(base) as mountpoint:
        path, place = base / "store" / "control.sock", mountpoint / "resources" / "main"
        tell("feed: how soon a change is heard of")
        with _listening(path) as heard:
            told |= _percentiles(HEARD, _waits_ms(place, heard, size.files))
        if shutil.which("inotifywait"):
            (base / "native").mkdir()
            with _inotifywait(base / "native") as heard:
                told |= _percentiles(HEARD + NATIVELY, _waits_ms(base / "native", heard, size.files))
        tell("feed: requests, and idle connections")
        told |= _requests(path, size.files)
        told[IDLE] = _idle_kb(base, path)
        tell(f"feed: changes beside {_WATCHERS} watchers")
        told |= _beside(place, path, size)
        tell(f"feed: changes beside {_WATCHERS} connections that search")
        told[SEARCHED] = _searched_ms(place, path, size)
        tell(f"feed: making {size.events:,} events")
        told["changes made for that, 1/s"] = _make_events(place, path, size.events)
        tell(f"feed: {size.events:,} events to one watcher")
        told[LINES] = _lines_a_second(path)
        told[CLIENT] = _events_a_second(path)
        told["RssAnon after all that, MB"] = stores.anonymous_mb(base)
    shutil.rmtree(base)
    return told


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[Callable[[], bytes]]:
    """A watcher of what happens from now on; yields what waits for more of it."""
    with connect(path, _LIMIT_S) as peer:
        _listen(peer)
        yield lambda: peer.recv(1 << 16)


def _listen(peer: socket.socket, since: int | None = None) -> None:
    request = {"tid": 1, "collectionName": "events", "methodName": "listen", "data": {"since": since}}
    peer.sendall(json.dumps(request).encode() + b"\n")
    if b'"success":true' not in peer.recv(1 << 16, socket.MSG_PEEK):
        raise RuntimeError("the daemon does not let us listen")
    while peer.recv(1) != b"\n":
        pass  # what follows the reply is left


@contextlib.contextmanager
def _inotifywait(directory: Path) -> Iterator[Callable[[], bytes]]:
    command = ["inotifywait", "--monitor", "--event", "create", "--format", '"%f"', os.fspath(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while b"established" not in process.stderr.readline():
            pass
        out = process.stdout.fileno()
        try:
            yield lambda: os.read(out, 1 << 16)
        finally:
            process.kill()


def _waits_ms(place: Path, heard: Callable[[], bytes], count: int) -> list[float]:
    """From before each call until the watcher has its name."""
    took_ms = []
    for number in range(count):
        name, said = f"new{number}", b""
        start = time.perf_counter()
        os.mkdir(place / name)
        while f'{name}"'.encode() not in said:
            said += heard()
        took_ms.append((time.perf_counter() - start) * 1e3)
        os.rmdir(place / name)
        time.sleep(_PAUSE_S)
    return took_ms


def _percentiles(what: str, waits_ms: list[float]) -> Facts:
    waits_ms.sort()
    return {f"{what}, p50, ms": statistics.median(waits_ms), f"{what}, p99, ms": waits_ms[len(waits_ms) * 99 // 100]}


def _requests(path: Path, count: int) -> Facts:
    """Of the simplest kind, on one connection."""
    line = b'{"tid":1,"collectionName":"dispatcher","methodName":"ping"}\n'
    with connect(path, _LIMIT_S) as peer:
        start = time.perf_counter()
        for _ in range(count):
            peer.sendall(line)
            while not peer.recv(1 << 16).endswith(b"\n"):
                pass
        one_by_one = count / (time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(count // 100):
            peer.sendall(line * 100)
            answered = 0
            while answered < 100:
                answered += peer.recv(1 << 16).count(b"\n")
        return {ASKED: one_by_one, "requests a hundred at a time, 1/s": count / (time.perf_counter() - start)}


def _idle_kb(base: Path, path: Path) -> float:
    before = stores.anonymous_mb(base)
    with contextlib.ExitStack() as stack:
        for _ in range(_CONNECTIONS):
            stack.enter_context(Client(path)).call("dispatcher.hello")
        return (stores.anonymous_mb(base) - before) * 1000 / _CONNECTIONS


def _beside(place: Path, path: Path, size: Size) -> Facts:
    """How long a change takes, at a steady pace, alone and beside watchers that hear of everything."""
    alone: list[float] = []
    beside: list[float] = []
    for turn in range(_TURNS):
        with _crowd(_watch, path) if turn % 2 else contextlib.nullcontext():
            (beside if turn % 2 else alone).extend(_paced_ms(place, size.seconds or 1))
    return {
        "a change alone, ms": statistics.mean(alone),
        f"a change beside {_WATCHERS} watchers, ms": statistics.mean(beside),
        SLOWER: statistics.mean(beside) / statistics.mean(alone),
    }


def _searched_ms(place: Path, path: Path, size: Size) -> float:
    """How long 99 of 100 changes take at most while many go through the whole tree again and again."""
    for number in range(size.files):
        os.mknod(place / f"searched{number}")
    with _crowd(_search, path):
        took_ms = sorted(_paced_ms(place, size.seconds or 1))
    return took_ms[len(took_ms) * 99 // 100]


def _paced_ms(place: Path, seconds: float) -> list[float]:
    took_ms = []
    began = time.perf_counter()
    for number in range(int(seconds * _CHANGES_A_SECOND)):
        time.sleep(max(0.0, began + number / _CHANGES_A_SECOND - time.perf_counter()))
        start = time.perf_counter()
        (os.rmdir if number % 2 else os.mkdir)(place / "paced")
        took_ms.append((time.perf_counter() - start) * 1e3)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(place / "paced")
    return took_ms


@contextlib.contextmanager
def _crowd(converse: Callable[[socket.socket, bytes], None], path: Path) -> Iterator[None]:
    """Many connections, in a process of their own, each asked what to do with nothing said yet, and with what is."""
    ours, theirs = _FORK.Pipe()
    process = _FORK.Process(target=_converse, args=(converse, path, theirs))
    process.start()
    try:
        ours.recv()
        yield
    finally:
        ours.send("enough")
        process.join(_LIMIT_S)


def _converse(converse: Callable[[socket.socket, bytes], None], path: Path, caller: Connection) -> None:
    with contextlib.ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        for _ in range(_WATCHERS):
            peer = stack.enter_context(connect(path, _LIMIT_S))
            converse(peer, b"")
            waiting.register(peer, selectors.EVENT_READ)
        waiting.register(caller, selectors.EVENT_READ)
        caller.send("ready")
        while True:
            for key, _ in waiting.select():
                if key.fileobj is caller:
                    return
                assert isinstance(key.fileobj, socket.socket)
                converse(key.fileobj, key.fileobj.recv(1 << 16))


def _watch(peer: socket.socket, said: bytes) -> None:
    if not said:
        _listen(peer)


def _search(peer: socket.socket, said: bytes) -> None:
    if not said or b'"success"' in said:  # and not how far it is
        peer.sendall(_SEARCH)


def _make_events(place: Path, path: Path, count: int) -> float:
    """Let the log have so many; returns how many came a second."""
    with Client(path) as client:
        lacking: int = count - client.call("dispatcher.hello")["last_seq"]
    directory = os.fspath(place / "again")
    start = time.perf_counter()
    for _ in range((lacking + 1) // 2):
        os.mkdir(directory)
        os.rmdir(directory)
    return lacking / (time.perf_counter() - start)


def _lines_a_second(path: Path) -> float:
    with Client(path) as client:
        last: int = client.call("dispatcher.hello")["last_seq"]
    with connect(path, _LIMIT_S) as peer:
        start = time.perf_counter()
        _listen(peer, since=0)
        heard = 0
        while heard < last:
            heard += peer.recv(1 << 18).count(b"\n")
        return heard / (time.perf_counter() - start)


def _events_a_second(path: Path) -> float:
    with Client(path) as client:
        last: int = client.call("dispatcher.hello")["last_seq"]
        start = time.perf_counter()
        for _ in itertools.islice(client.events(since=0), last):
            pass
        return last / (time.perf_counter() - start)
