"""Every mistake gets one line that says what and what to do, a documented exit status, and changes nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import lmdb
import msgspec
import pytest

from tests.support.compare import survey
from tests.support.daemon import COMMAND, PROJECT, Mounted, Run, eventually, fusestore, mounts
from tests.support.tools import failing
from tests.support.watcher import Line

pytestmark = pytest.mark.timeout(90)
USAGE, MOUNTPOINT, STORE, ROOT, NO_DAEMON = 2, 3, 4, 5, 6


@pytest.fixture
def idle(tmp_path: Path) -> Mounted:
    """A store that nobody has mounted."""
    return Mounted(tmp_path / "idle").build()


def refused(run: Run, code: int, *words: str) -> None:
    assert run.code == code, run
    assert len(run.complaint) == 1, run.err
    for word in words:
        assert word in run.complaint[0], run.complaint[0]


def test_a_mountpoint_that_is_missing(idle: Mounted) -> None:
    refused(fusestore("mount", idle.store, idle.base / "nowhere"), MOUNTPOINT, str(idle.base / "nowhere"))
    assert not (idle.base / "nowhere").exists()


def test_a_mountpoint_that_is_a_file(idle: Mounted) -> None:
    (idle.base / "file").touch()
    refused(fusestore("mount", idle.store, idle.base / "file"), MOUNTPOINT, str(idle.base / "file"))


def test_a_mountpoint_that_is_not_empty(idle: Mounted) -> None:
    (idle.mountpoint / "something").touch()
    refused(fusestore("mount", idle.store, idle.mountpoint), MOUNTPOINT, "empty")
    assert os.listdir(idle.mountpoint) == ["something"]
    assert str(idle.mountpoint) not in mounts()


def test_a_mountpoint_that_is_already_mounted(own: Mounted, tmp_path: Path) -> None:
    other = Mounted(tmp_path / "other").build()
    refused(fusestore("mount", other.store, own.mountpoint), MOUNTPOINT, str(own.mountpoint))
    (own.uploads / "still here").touch()


def test_a_mountpoint_inside_the_store_or_inside_a_root(idle: Mounted) -> None:
    (idle.store / "main" / "below").mkdir()
    refused(fusestore("mount", idle.store, idle.store / "main" / "below"), MOUNTPOINT)
    (idle.store / "m").mkdir()
    refused(fusestore("mount", idle.store, idle.store / "m"), MOUNTPOINT)


def test_a_store_that_is_in_use(own: Mounted, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    own.allow_log("in use")
    refused(fusestore("mount", own.store, tmp_path / "second"), STORE, "in use")
    refused(fusestore("check", own.store), STORE, "in use")
    (own.uploads / "still here").touch()


def test_a_directory_that_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "some").mkdir()
    for place in (tmp_path / "some", tmp_path / "none"):
        refused(fusestore("mount", place, tmp_path / "mnt"), STORE, str(place))
        refused(fusestore("check", place), STORE, str(place))
    assert os.listdir(tmp_path / "some") == []


def test_a_store_cannot_be_made_where_something_is(idle: Mounted) -> None:
    before = survey(idle.store)
    refused(fusestore("init", idle.store), STORE, str(idle.store))
    assert survey(idle.store) == before
    (idle.base / "full").mkdir()
    (idle.base / "full" / "mine").touch()
    refused(fusestore("init", idle.base / "full"), STORE, "empty")
    assert os.listdir(idle.base / "full") == ["mine"]


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("mount", "alow_other", True, ("alow_other",)),
        ("mount", "allow_other", "yes", ("mount.allow_other", "expected true or false")),
        ("moves", "workers", "many", ("moves.workers", "expected a whole number")),
        ("moves", "workers", 0, ("moves.workers",)),
        ("hash", "algorithm", "md5", ("hash.algorithm", "blake3")),
        ("index", "commit_s", [], ("index.commit_s",)),
        ("surprise", "key", 1, ("surprise",)),
    ],
)
def test_a_config_that_is_wrong_names_the_key_and_what_was_expected(
    idle: Mounted, section: str, key: str, value: object, words: tuple[str, ...]
) -> None:
    idle.configure(section, **{key: value})
    refused(fusestore("mount", idle.store, idle.mountpoint), USAGE, "fusestore.toml", *words)


def test_a_config_that_is_not_toml(idle: Mounted) -> None:
    (idle.store / "fusestore.toml").write_text("[mount\nallow_other = maybe")
    refused(fusestore("mount", idle.store, idle.mountpoint), USAGE, "fusestore.toml")


def test_a_root_whose_directory_vanished(idle: Mounted) -> None:
    idle.cli("root", "add", idle.store, "away", idle.base / "away")
    idle.mount()
    (idle.resources / "away" / "f").write_bytes(b"x")
    idle.umount()
    os.rename(idle.base / "away", idle.base / "elsewhere")
    refused(fusestore("mount", idle.store, idle.mountpoint), ROOT, "away", str(idle.base / "away"))
    assert not (idle.base / "away").exists()
    os.rename(idle.base / "elsewhere", idle.base / "away")
    idle.mount()
    try:
        assert (idle.resources / "away" / "f").read_bytes() == b"x"
    finally:
        idle.umount()


def test_a_root_that_belongs_to_another_store(idle: Mounted, tmp_path: Path) -> None:
    other = Mounted(tmp_path / "other").build()
    other.cli("root", "add", other.store, "data", tmp_path / "data")
    run = fusestore("root", "add", idle.store, "data", tmp_path / "data")
    if run.code == 0:  # the claim is only made at the first mount
        run = fusestore("mount", idle.store, idle.mountpoint)
        other_run = fusestore("mount", other.store, other.mountpoint)
        assert (run.code == 0) != (other_run.code == 0)
        idle.discard()
        other.discard()
        run = other_run if run.code == 0 else run
    refused(run, ROOT, str(tmp_path / "data"))


def test_a_directory_that_another_store_has_claimed_is_declared_only_to_take_it_over(
    idle: Mounted, tmp_path: Path
) -> None:
    other = Mounted(tmp_path / "other").build()
    other.cli("root", "add", other.store, "data", tmp_path / "data")
    other.mount()
    other.umount()
    before = (idle.store / "fusestore.toml").read_bytes()
    refused(fusestore("root", "add", idle.store, "data", tmp_path / "data"), ROOT, "another store", "--take")
    assert (idle.store / "fusestore.toml").read_bytes() == before
    idle.cli("root", "add", idle.store, "data", tmp_path / "data", "--take")
    idle.mount("--take")
    idle.umount()
    refused(fusestore("mount", other.store, other.mountpoint), ROOT, str(tmp_path / "data"))


def test_a_store_cannot_be_made_inside_a_mount(own: Mounted) -> None:
    refused(fusestore("init", own.uploads / "store"), STORE, "inside a mount")
    assert not (own.uploads / "store").exists()


@pytest.mark.parametrize("arguments", [("history", ""), ("stat", ""), ("wait", "--all", "--timeout", "-1")])
def test_arguments_that_make_no_sense_are_refused(own: Mounted, arguments: tuple[str, ...]) -> None:
    run = fusestore(*arguments, extra={"FUSESTORE_SOCKET": str(own.socket)})
    assert run.code == USAGE, run.err


@pytest.mark.parametrize("place", ["store", "uploads", "inside main", "above", "main itself"])
def test_roots_that_lie_in_each_other_are_refused(idle: Mounted, place: str) -> None:
    directories = {
        "store": idle.store,
        "uploads": idle.store / "uploads" / "x",
        "inside main": idle.store / "main" / "x",
        "above": idle.base,
        "main itself": idle.store / "main",
    }
    before = (idle.store / "fusestore.toml").read_bytes()
    refused(fusestore("root", "add", idle.store, "bad", directories[place]), USAGE)
    assert (idle.store / "fusestore.toml").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["uploads", "downloads", "main", "a/b", "..", ".fusestore", "", "n" * 65, "with space"]
)
def test_root_names_that_cannot_be_used(idle: Mounted, name: str) -> None:
    before = (idle.store / "fusestore.toml").read_bytes()
    refused(fusestore("root", "add", idle.store, name, idle.base / "disk"), USAGE)
    assert (idle.store / "fusestore.toml").read_bytes() == before


def test_a_store_of_a_newer_format(idle: Mounted) -> None:
    env = lmdb.open(str(idle.store / "index"), max_dbs=64, lib_version=0)
    with env.begin(write=True, db=env.open_db(b"meta", create=False)) as transaction:
        keys = [bytes(key) for key, _ in transaction.cursor() if b"format" in bytes(key)]
        assert keys, "the meta table names a format"
        old = transaction.get(keys[0])
        assert old is not None
        transaction.put(keys[0], newer(bytes(old)))
    env.close()
    refused(fusestore("mount", idle.store, idle.mountpoint), STORE, "newer")
    refused(fusestore("check", idle.store), STORE, "newer")


def newer(old: bytes) -> bytes:
    """The same encoding of a number, with a bigger one."""
    if old.isdigit():
        return b"99"
    if len(old) in (4, 8):
        return (99).to_bytes(len(old), "big" if old[-1] else "little")
    return msgspec.msgpack.encode(99)


def test_no_daemon_and_no_mount(idle: Mounted, tmp_path: Path) -> None:
    environment = {"FUSESTORE_SOCKET": str(idle.socket)}
    refused(fusestore("status", extra=environment), NO_DAEMON)
    (tmp_path / "plain").touch()
    assert fusestore("stat", tmp_path / "plain").code != 0
    assert len(fusestore("stat", tmp_path / "plain").complaint) == 1
    assert fusestore("umount", tmp_path).code != 0


def test_a_path_or_id_that_is_not_there(own: Mounted) -> None:
    for what in (own.uploads / "none", "01234567-89ab-7cde-8f01-23456789abcd"):
        run = own.cli("stat", what, code=1)
        assert len(run.complaint) == 1


def test_unknown_commands_and_missing_arguments() -> None:
    assert fusestore("fly").code == USAGE
    assert fusestore("mount").code == USAGE
    assert fusestore("root", "add", "x").code == USAGE


def test_umount_of_a_busy_mount_says_so_and_changes_nothing(own: Mounted) -> None:
    with open(own.uploads / "f", "wb") as file:
        run = own.cli("umount", own.mountpoint, code=1)
        assert len(run.complaint) == 1
        file.write(b"still writing")
    assert (own.uploads / "f").read_bytes() == b"still writing"


def test_a_dead_mount_is_cleared_by_the_next_mount(own: Mounted) -> None:
    (own.uploads / "f").write_bytes(b"x")
    own.kill9()
    with failing():
        os.listdir(own.mountpoint)
    own.mount()
    assert (own.uploads / "f").read_bytes() == b"x"


BAD_LINES = [
    b"not json at all\n",
    b"\xff\xfe\x00\n",
    b"[1, 2]\n",
    b'"text"\n',
    b"{}\n",
    b'{"tid": 7, "methodName": "no_such", "collectionName": "files", "data": {}}\n',
    b'{"tid": 7, "methodName": "get", "collectionName": "no_such", "data": {}}\n',
    b'{"tid": 7, "methodName": "get", "collectionName": "files", "data": {"surprise": [1]}}\n',
    b'{"tid": 7, "methodName": "listen", "collectionName": "events", "data": {"since": "yesterday"}}\n',
    b'{"tid": 7, "methodName": ["get"], "collectionName": {}, "data": 3}\n',
    b'{"tid": ' + b"[" * 100_000 + b"\n",
]


def test_each_bad_line_gets_one_error_reply_and_the_connection_lives(own: Mounted) -> None:
    with Line(own.socket) as line:
        for bad in BAD_LINES:
            line.send(bad)
            reply = line.receive()
            assert reply is not None, bad[:60]
            assert reply["success"] is False, bad[:60]
            assert set(reply["error"]) >= {"code", "text"}
        assert line.call("dispatcher", "ping", tid=99)["success"]


def test_a_line_of_100_megabytes_gets_one_error_and_no_memory(own: Mounted) -> None:
    def rss_kib() -> int:
        status = Path(f"/proc/{own.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    before = rss_kib()
    with Line(own.socket) as line:
        line.send(b'{"tid": 1, "data": "')
        for _ in range(100):
            line.send(b"x" * 1_000_000)
        line.send(b'"}\n')
        reply = line.receive()
        assert reply is not None
        assert reply["success"] is False
        assert line.call("dispatcher", "ping", tid=2)["tid"] == 2
    assert rss_kib() - before < 20_000


def test_a_connection_that_breaks_off_anywhere_harms_nobody(own: Mounted) -> None:
    whole = json.dumps({"tid": 1, "methodName": "listen", "collectionName": "events", "data": {"since": 0}}).encode()
    for length in (0, 1, len(whole) // 2, len(whole), len(whole) + 1):
        line = Line(own.socket)
        line.send((whole + b"\n")[:length])
        line.close()
    with Line(own.socket) as line:
        assert line.call("dispatcher", "ping")["success"]


def test_the_socket_is_its_owners_alone(own: Mounted) -> None:
    assert os.stat(own.socket).st_mode & 0o777 == 0o600


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(own: Mounted) -> None:
    for number in range(500):
        (own.uploads / f"{number}").touch()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "FUSESTORE_SOCKET": str(own.socket)}
    process = subprocess.Popen(
        [*COMMAND, "events", "--since", "0", "--json"], stdout=writer, stderr=subprocess.PIPE, env=environment
    )
    os.close(writer)
    os.read(reader, 10)
    os.close(reader)
    _, complaint = process.communicate(timeout=30)
    assert complaint == b""


def test_after_all_mistakes_a_store_checks_clean(idle: Mounted) -> None:
    shutil.rmtree(idle.mountpoint)
    assert fusestore("mount", idle.store, idle.mountpoint).code == MOUNTPOINT
    idle.mountpoint.mkdir()
    idle.mount()
    eventually(lambda: os.path.ismount(idle.mountpoint), "mounted")
    idle.finish()
