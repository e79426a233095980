"""Files that programs on the socket register, write and remove: seen in the mount at once, with their own rights."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import Mounted, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(90)
User = tuple[int, int, list[int]]
ALICE: User = (4701, 4701, [])
ROOT: User = (0, 0, [])
BOB: User = (4702, 4702, [4703])
STRANGER: User = (4704, 4704, [])
ASK = """
import json, os, socket, sys
path, user, requests = json.loads(sys.stdin.read())
uid, gid, groups = user
os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
peer = socket.socket(socket.AF_UNIX)
peer.connect(path)
lines = peer.makefile()
for method, data in requests:
    request = {"tid": 1, "collectionName": "files", "methodName": method, "data": data}
    peer.sendall(json.dumps(request).encode() + b"\\n")
    while "success" not in (reply := lines.readline()):
        pass
    print(reply, end="")
"""


READLINK = """
import json, os, sys
uid, gid, groups = json.loads(sys.argv[1])
os.setgroups(groups); os.setgid(gid); os.setuid(uid)
try:
    print(os.readlink(sys.argv[2]))
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def open_store() -> Iterator[Mounted]:
    """A mount and a socket that are open to everybody."""
    base = Path(tempfile.mkdtemp(prefix="fusestore-registering-"))
    base.chmod(0o755)
    subject = Mounted(base)
    try:
        subject.build()
        subject.configure("mount", allow_other=os.geteuid() == 0)
        subject.configure("control", mode="0666")
        subject.store.chmod(0o755)
        subject.mount()
        with subject.deadline(80):
            yield subject
        subject.finish()
    finally:
        subject.discard()
        shutil.rmtree(base)


def ask(store: Mounted, method: str, *, tid: Any = 1, **data: Any) -> dict[str, Any]:
    """What we are told, as who we are."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(store.socket))
        peer.sendall(json.dumps({"tid": tid, "collectionName": "files", "methodName": method, "data": data}).encode())
        peer.sendall(b"\n")
        for line in peer.makefile():
            if "success" in (reply := json.loads(line)):
                return dict(reply)
    raise AssertionError("no reply")


def answers(user: User, store: Mounted, *requests: tuple[str, dict[str, Any]]) -> list[Any]:
    """What another user is told: the data, or the code of the error."""
    asked = json.dumps([str(store.socket), user, requests])
    done = subprocess.run([sys.executable, "-c", ASK], input=asked, capture_output=True, check=True, text=True)
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    return [reply["data"] if reply["success"] else reply["error"]["code"] for reply in replies]


def test_a_registered_file_is_there_at_once_with_its_name_type_and_id(open_store: Mounted) -> None:
    path = open_store.uploads / "data.json"
    assert not path.exists()  # which the kernel remembers
    told = ask(open_store, "register", name="data.json", text='["åpple"]', content_type="application/json")["data"]
    assert told["path"] == "uploads/data.json"
    assert path.read_text() == '["åpple"]'
    assert os.getxattr(path, "user.fusestore.id").decode() == told["id"]
    assert os.getxattr(path, "user.fusestore.content_type") == b"application/json"
    record = ask(open_store, "get", id=told["id"])["data"]
    assert (record["name"], record["content_type"], record["mode"]) == ("data.json", "application/json", 0o644)
    moved = open_store.resources / "main" / "renamed.json"
    path.rename(moved)
    open_store.cli("wait", "--all")
    assert os.getxattr(moved, "user.fusestore.name") == b"data.json"
    assert os.getxattr(moved, "user.fusestore.content_type") == b"application/json"
    body = bytes(range(256)) * 2000
    told = ask(open_store, "register", name="b", body=base64.b64encode(body).decode(), download=True, mode=0o600)[
        "data"
    ]
    assert (open_store.mountpoint / told["path"]).read_bytes() == body
    assert (open_store.downloads / "b").stat().st_mode & 0o777 == 0o600


def test_registrations_of_one_name_at_once_keep_every_content(open_store: Mounted) -> None:
    told: list[dict[str, Any]] = []

    def register(number: int) -> None:
        told.append(ask(open_store, "register", name="same.tar.gz", text=str(number))["data"] | {"text": str(number)})

    threads = [threading.Thread(target=register, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each["path"] for each in told}) == len({each["id"] for each in told}) == 8
    for each in told:
        path = open_store.mountpoint / each["path"]
        assert path.read_text() == each["text"]
        assert os.getxattr(path, "user.fusestore.name") == b"same.tar.gz"
        assert path.name in ("same.tar.gz", f"same-{each['id'][-8:]}.tar.gz")
    assert not list(open_store.uploads.glob(".*"))


def test_a_name_that_is_as_long_as_can_be_finds_another_too(open_store: Mounted) -> None:
    paths = {ask(open_store, "register", name="å" * 125 + ".json", text="")["data"]["path"] for _ in range(2)}
    assert len(paths) == 2
    assert all((open_store.mountpoint / path).exists() and path.endswith(".json") for path in paths)


def test_a_content_is_replaced_whole_and_all_else_stays(open_store: Mounted) -> None:
    path = open_store.uploads / "config"
    path.write_text("old")
    os.setxattr(path, "user.mine", b"value")
    path.chmod(0o640)
    old = os.getxattr(path, "user.fusestore.id").decode()
    told = ask(open_store, "write", path="uploads/config", text="new")["data"]
    assert (told["path"], told["old_id"]) == ("uploads/config", old)
    assert told["id"] == os.getxattr(path, "user.fusestore.id").decode() != old
    assert path.read_text() == "new"
    assert os.getxattr(path, "user.mine") == b"value"
    assert path.stat().st_mode & 0o777 == 0o640
    assert ask(open_store, "write", id=told["id"], body="")["data"]["old_id"] == told["id"]
    assert path.read_text() == ""
    for method, data in (("write", {"text": ""}), ("digest", {})):
        error = ask(open_store, method, path="uploads", **data)["error"]
        assert (error["code"], error["path"], error["text"]) == (
            "is_a_directory",
            "uploads",
            "Is a directory: 'uploads'",
        )
    error = ask(open_store, "find", root="nope")["error"]
    assert (error["code"], error["text"]) == ("not_found", "There is no such root: nope")
    assert not list(open_store.uploads.glob(".*"))


def test_what_is_removed_is_gone_at_once_and_the_second_time_there_is_nothing(open_store: Mounted) -> None:
    path, other = open_store.uploads / "gone", open_store.uploads / "gone too"
    path.write_text("x")
    os.link(path, other)
    id = os.getxattr(path, "user.fusestore.id").decode()
    assert ask(open_store, "unlink", path="uploads/gone")["data"] == {"removed": True}
    assert not path.exists()
    assert ask(open_store, "unlink", path="uploads/gone")["data"] == {"removed": False}
    os.link(other, path)
    assert ask(open_store, "unlink", id=id)["data"] == {"removed": True}
    assert not path.exists()
    assert not other.exists()
    assert ask(open_store, "unlink", id=id)["data"] == {"removed": False}
    assert ask(open_store, "unlink", path="uploads/../../etc")["data"] == {"removed": False}
    (open_store.uploads / "directory").mkdir()
    assert ask(open_store, "unlink", path="uploads/directory")["error"]["code"] == "is_a_directory"


def test_events_say_who_asked_for_them_and_by_which_request(open_store: Mounted) -> None:
    (open_store.uploads / "by hand").write_text("x")
    id = ask(open_store, "register", tid="my first", name="asked for", text="x")["data"]["id"]
    ask(open_store, "write", tid=2, id=id, text="xy")
    ask(open_store, "unlink", tid="my last", path="uploads/asked for")
    events = [event for event in open_store.events() if event["uid"] != -1]
    assert {event.get("tid") for event in events if event["path"] == "uploads/by hand"} == {None}
    asked = [event for event in events if event["cause"] == "api" and "asked for" in event["path"]]
    assert [(event["kind"], event["tid"]) for event in asked if event["kind"] != "attributes"] == [
        ("created", "my first"), ("replaced", 2), ("renamed", 2), ("removed", "my last"),
    ]  # fmt: skip
    assert {(event["uid"], event["pid"]) for event in asked} == {(os.geteuid(), os.getpid())}
    assert {entry["pid"] for entry in open_store.history(id)} <= {0, os.getpid()}


@pytest.mark.parametrize("tid", [1 << 80, -(1 << 64), "x" * 255, "\ud800", None])
def test_a_tid_that_no_event_can_hold_is_answered_all_the_same(open_store: Mounted, tid: Any) -> None:
    told = ask(open_store, "register", tid=tid, name="odd", text="x")
    assert told["tid"] == tid
    (created,) = [
        event for event in open_store.events() if event["kind"] == "created" and event["id"] == told["data"]["id"]
    ]
    assert (created["cause"], "tid" in created) == ("api", False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"name": "a"}, "bad_data"),
        ({"name": "a", "text": "", "body": ""}, "bad_data"),
        ({"name": "a", "body": "no base64!"}, "bad_data"),
        ({"name": "a", "text": "\ud800"}, "bad_data"),
        ({"name": "a", "text": "", "content_type": "a\0"}, "bad_data"),
        ({"name": "", "text": ""}, "invalid"),
        ({"name": "..", "text": ""}, "invalid"),
        ({"name": "a/b", "text": ""}, "invalid"),
        ({"name": "a\0", "text": ""}, "invalid"),
        ({"name": "a" * 256, "text": ""}, "name_too_long"),
    ],
)
def test_what_cannot_be_registered_is_refused(open_store: Mounted, data: dict[str, Any], code: str) -> None:
    assert ask(open_store, "register", **data)["error"]["code"] == code


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_each_user_acts_with_its_own_rights(open_store: Mounted) -> None:
    uploads = open_store.uploads
    alices = {"name": "alices", "text": "x"}
    assert answers(ALICE, open_store, ("register", alices)) == ["forbidden"]
    (uploads / "team").mkdir()
    shutil.chown(uploads / "team", 4701, 4703)
    (uploads / "team").chmod(0o1770)
    uploads.chmod(0o1777)
    try:
        made, listed = answers(
            ALICE, open_store, ("register", {"name": "alices", "text": "x", "mode": 0o640}), ("list", {})
        )
        path = open_store.mountpoint / made["path"]
        assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (4701, 4701, 0o640)
        assert "uploads" in [entry["path"] for entry in listed["entries"]]
        assert answers(
            BOB,
            open_store,
            ("write", {"path": "uploads/alices", "text": "bob was here"}),
            ("unlink", {"path": "uploads/alices"}),
            ("digest", {"path": "uploads/alices"}),
            ("reserve", {"ids": [made["id"]], "owner": "bob"}),
            ("get", {"path": "uploads/alices"}),
        ) == ["forbidden", "forbidden", "forbidden", "forbidden", "permission"]
        assert path.read_text() == "x"
        (uploads / "team" / "bobs").write_text("b")
        shutil.chown(uploads / "team" / "bobs", 4702, 4702)
        one, two, three = answers(
            BOB,
            open_store,
            ("list", {"path": "uploads/team"}),
            ("write", {"path": "uploads/team/bobs", "text": "bob's"}),
            ("unlink", {"path": "uploads/team/bobs"}),
        )
        assert [entry["path"] for entry in one["entries"]] == ["uploads/team/bobs"]
        assert two["path"] == "uploads/team/bobs"
        assert three == {"removed": True}
        assert answers(
            STRANGER,
            open_store,
            ("list", {"path": "uploads/team"}),
            ("unlink", {"path": "uploads/team/bobs"}),
            ("list", {"path": "uploads", "recursive": True}),
        )[:2] == ["forbidden", "forbidden"]
        assert answers(ALICE, open_store, ("unlink", {"id": made["id"]})) == [{"removed": True}]
    finally:
        uploads.chmod(0o755)


def test_a_request_that_is_cut_off_leaves_a_whole_file_or_none(open_store: Mounted) -> None:
    body = base64.b64encode(bytes(700_000)).decode()
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(open_store.socket))
            data = {"name": "cut", "body": body}
            request = {"tid": 1, "collectionName": "files", "methodName": "register", "data": data}
            peer.sendall(json.dumps(request).encode() + b"\n")
    with contextlib.suppress(AssertionError):
        eventually(lambda: len(list(open_store.uploads.glob("cut*"))) == 10, "all have come", timeout_s=5)
    for path in open_store.uploads.glob("cut*"):
        assert path.stat().st_size == 700_000
    assert not list(open_store.uploads.glob(".*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_links_by_id_and_by_hash_tell_nobody_of_names_that_it_may_not_see(open_store: Mounted) -> None:
    private = open_store.uploads / "private"
    private.mkdir(0o700)
    (private / "secret").write_text("secret")
    open_store.wait()
    record = open_store.json("stat", private / "secret")
    top = open_store.mountpoint / ".fusestore"
    by_id, by_hash = top / "by-id" / record["id"], top / "by-hash" / record["hash"].replace(":", "/")

    def seen_by(user: User, link: Path) -> str:
        command = [sys.executable, "-I", "-c", READLINK, json.dumps(user), os.fspath(link)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert [seen_by(ALICE, link) for link in (by_id, by_hash)] == ["PermissionError", "FileNotFoundError"]
    for link in (by_id, by_hash):
        assert seen_by(ROOT, link).endswith("uploads/private/secret")
    private.chmod(0o755)
    assert [seen_by(ALICE, link)[-6:] for link in (by_id, by_hash)] == ["secret", "secret"]
