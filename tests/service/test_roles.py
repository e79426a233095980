"""Who may do what on the socket."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio

from fusestore.config import Control
from fusestore.control.methods import Role
from fusestore.control.server import serve
from fusestore.errors import UsageError
from tests.service.fake_queries import FakeQueries
from tests.service.served import Peer, more_than_the_kernel_holds

pytestmark = pytest.mark.timeout(60)


ROLES = [
    ({}, Role.ANYONE),
    ({"readers": ("65534",)}, Role.READER),
    ({"readers": ("nobody",), "operators": ("@4711",)}, Role.OPERATOR),
    ({"readers": ("@65534",)}, Role.READER),
    ({"admins": ("@4712", "@12", "root"), "readers": ("@4711",)}, Role.READER),
    ({"admins": ("nobody",), "readers": ("nobody",)}, Role.ADMIN),
]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("lists", "role"), ROLES)
async def test_a_peer_has_the_highest_role_of_its_user_and_groups(
    nursery: trio.Nursery, lists: dict[str, tuple[str, ...]], role: Role
) -> None:
    path = Path("/tmp") / f"fusestore-test-{os.getpid()}.sock"
    await nursery.start(
        partial(serve, control=msgspec.convert({"mode": "0666", **lists}, Control)), path, FakeQueries()
    )
    done = await trio.run_process([sys.executable, "-I", "-c", AS_NOBODY, str(path)], capture_stdout=True)
    hello, *replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert hello["data"]["role"] == role.name.lower()
    allowed = {needed.name.lower(): reply["success"] for needed, reply in zip(CALLS, replies, strict=True)}
    assert allowed == {needed.name.lower(): needed <= role for needed in CALLS}
    assert {reply["error"]["code"] for reply in replies if not reply["success"]} <= {"permission"}


CALLS = {Role.READER: "dispatcher.status", Role.OPERATOR: "scrub.stop", Role.ADMIN: "dispatcher.shutdown"}
AS_NOBODY = f"""
import json, os, socket, sys
os.setgroups([4711, 4713]); os.setgid(65534); os.setuid(65534)
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
for method in {["dispatcher.hello", *CALLS.values()]}:
    collection, _, name = method.partition(".")
    peer.sendall(json.dumps({{"tid": 1, "collectionName": collection, "methodName": name}}).encode() + b"\\n")
    print(peer.makefile().readline(), end="")
"""


async def as_nobody(path: Path, count: int) -> list[trio.SocketStream]:
    """Connections of the user nobody."""
    os.seteuid(65534)
    try:
        return [await trio.open_unix_socket(path) for _ in range(count)]
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_roles_that_change_count_for_those_who_are_connected(nursery: trio.Nursery) -> None:
    queries, path = FakeQueries(), Path("/tmp") / f"fusestore-test-{os.getpid()}.sock"
    wide = msgspec.convert({"mode": "0666", "operators": ["nobody"]}, Control)
    connections = await nursery.start(partial(serve, control=wide), path, queries)
    stream, other = await as_nobody(path, 2)
    async with stream, other:
        peer, watcher = Peer(stream), Peer(other)
        assert (await peer.ask("dispatcher.hello"))["data"]["role"] == "operator"
        await watcher.ask("events.listen")

        def take(**lists: list[str]) -> None:
            control = msgspec.convert({"mode": "0666", **lists}, Control)
            connections.settle(SimpleNamespace(control=control))()

        take(operators=["nobody"], admins=["nobody"])
        assert (await peer.ask("dispatcher.hello"))["data"]["role"] == "admin"
        with pytest.raises(UsageError):
            take(admins=["no-such"])
        take()
        queries.happen(1)
        assert (await peer.ask("dispatcher.status"))["error"]["code"] == "permission"
        assert await peer.receive() is None  # whoever has less than before has to connect again
        assert await watcher.receive() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_who_has_lost_its_role_is_not_fed_though_it_had_just_begun_to_listen(nursery: trio.Nursery) -> None:
    queries, path = FakeQueries(), Path("/tmp") / f"fusestore-test-{os.getpid()}.sock"
    wide = msgspec.convert({"mode": "0666", "operators": ["nobody"]}, Control)
    connections = await nursery.start(partial(serve, control=wide), path, queries)
    (stream,) = await as_nobody(path, 1)
    async with stream:
        peer = Peer(stream)
        await peer.send(*await more_than_the_kernel_holds(peer))
        await peer.send({"tid": "l", "collectionName": "events", "methodName": "listen"})
        await trio.testing.wait_all_tasks_blocked()
        connections.settle(SimpleNamespace(control=Control(mode="0666")))()
        queries.happen(1)
        last: dict[str, Any] = {}
        while (message := await peer.receive()) is not None:
            last = message
        assert last["tid"] == "l"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_the_socket_is_of_the_group_that_the_config_names(short_path: Path, nursery: trio.Nursery) -> None:
    control = Control(mode="0660", group="4711")
    await nursery.start(partial(serve, control=control), short_path / "c", FakeQueries())
    seen = (short_path / "c").stat()
    assert (seen.st_gid, seen.st_mode & 0o777) == (4711, 0o660)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"group": "no-such"}, r"control\.group: there is no group 'no-such'"),
        ({"admins": ("@no-such",)}, r"control\.admins: there is no group 'no-such'"),
        ({"readers": ("no-such",)}, r"control\.readers: there is no user 'no-such' .* a group is written @no-such"),
    ],
)
async def test_a_name_that_nobody_has_is_refused_at_the_start(
    short_path: Path, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        await serve(short_path / "c", FakeQueries(), control=Control(**settings))
    assert not (short_path / "c").exists()
