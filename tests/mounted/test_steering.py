"""Moves as people see and steer them: listed, shown, paused, resumed, tried again and cancelled from the shell."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Mounted, Root, eventually, mounted
from tests.support.tools import failing, tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.pair import Disks

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def quiet(tmp_path: Path, disks: Disks, deadline_s: float) -> Iterator[Mounted]:
    """Two disks that nobody else touches, so that the kernel believes names for long."""
    folder = f"{tmp_path.name}-quiet"
    roots = {"hot": Root(disks.hot / folder, "none"), "cold": Root(disks.cold / folder, "none")}
    with mounted(tmp_path / "quiet", roots) as subject, subject.deadline(deadline_s):
        yield subject


def in_the_way(subject: Mounted, name: str) -> Path:
    """Put something that nobody knows of where `name` on `cold` has to arrive, so that its move waits."""
    os.listdir(subject.resources / "cold")  # what is found there now is all there is, as nobody else writes
    stranger = subject.roots["cold"].directory / name
    stranger.write_bytes(b"a stranger's")
    subject.allow_log("in the way")
    return stranger


def state(subject: Mounted, number: int) -> str:
    return str(subject.json("moves", "show", str(number))["state"])


def test_a_move_is_paused_survives_a_kill_and_goes_on_when_it_is_resumed(quiet: Mounted) -> None:
    old, new = quiet.resources / "hot" / "f", quiet.resources / "cold" / "f"
    old.write_bytes(b"x" * 1000)
    stranger = in_the_way(quiet, "f")
    os.rename(old, new)
    assert "paused" in quiet.cli("moves", "pause", new).out
    stranger.unlink()
    assert (state(quiet, 1), quiet.json("moves")[0]["reason"]) == ("paused", "paused")
    quiet.kill9()
    quiet.mount()
    assert state(quiet, 1) == "paused"
    quiet.remount()
    assert [place["root"] for place in quiet.where(new)] == ["hot"]
    assert "1 of 1 move " in quiet.cli("wait", "--all", code=1).err
    assert quiet.json("status")["moves"]["paused"] == 1
    assert (quiet.roots["hot"].directory / "f").exists()
    assert quiet.json("moves", "resume", "--all")[0]["number"] == 1
    quiet.wait("--all")
    assert state(quiet, 1) == "done"
    assert (quiet.roots["cold"].directory / "f").read_bytes() == b"x" * 1000
    kinds = [event["kind"] for event in quiet.events() if event["move"] == 1]
    assert [kind for kind in kinds if kind in ("move-queued", "move-paused", "moved")] == [
        "move-queued", "move-paused", "move-queued", "moved",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_a_cancelled_move_gives_the_old_name_back_at_once(quiet: Mounted, kind: str) -> None:
    old, new = quiet.resources / "hot" / "x", quiet.resources / "cold" / "x"
    leaf = "x" if kind == "file" else "x/leaf"
    if kind == "tree":
        old.mkdir()
    (quiet.resources / "hot" / leaf).write_bytes(b"mine")
    quiet.wait()
    number = os.stat(old).st_ino
    stranger = in_the_way(quiet, "x")
    with open(quiet.resources / "hot" / leaf, "ab") as writer:
        os.rename(old, new)
        assert not old.exists()
        assert (quiet.resources / "cold" / leaf).read_bytes() == b"mine"
        assert quiet.json("moves", "cancel", new)["state"] == "cancelled"
        assert os.stat(old).st_ino == number
        assert not new.exists()
        assert os.listdir(new.parent) == []
        writer.write(b" still")
    stranger.unlink()
    assert (quiet.resources / "hot" / leaf).read_bytes() == b"mine still"
    new.write_bytes(b"another")
    quiet.wait()
    assert (quiet.roots["hot"].directory / leaf).read_bytes() == b"mine still"
    assert new.read_bytes() == b"another"
    assert "cancelled" in [e["outcome"] for e in quiet.history(old) if e["command"] == "move"]
    kinds = {event["kind"]: event for event in quiet.events() if event["cause"] == "api"}
    assert (kinds["renamed"]["uid"], "tid" in kinds["renamed"]) == (os.geteuid(), True)


def test_a_cancel_that_cannot_be_says_why_and_changes_nothing(quiet: Mounted) -> None:
    old, new = quiet.resources / "hot" / "f", quiet.resources / "cold" / "f"
    old.write_bytes(b"mine")
    quiet.wait()
    stranger = in_the_way(quiet, "f")
    os.rename(old, new)
    old.write_bytes(b"another")
    run = quiet.cli("moves", "cancel", "1", code=1)
    (line,) = run.complaint
    assert line.endswith("move 1 cannot go back to 'resources/hot/f': there is something of that name")
    assert (old.read_bytes(), new.read_bytes()) == (b"another", b"mine")
    stranger.unlink()
    quiet.wait()
    assert "move 1 is done, and cannot be cancelled" in quiet.cli("moves", "cancel", "1", code=1).err
    assert "There is no such move: 7" in quiet.cli("moves", "pause", "7", code=1).err
    assert "is not on its way" in quiet.cli("moves", "retry", new, code=1).err
    for bad in (["pause"], ["pause", "1", "--all"]):
        assert len(quiet.cli("moves", *bad, code=2).complaint) == 1
    for seconds in ("-1", "nan", "inf", "soon"):
        assert len(quiet.cli("wait", "--all", "--timeout", seconds, code=2).complaint) == 1
    assert len(quiet.cli("moves", "--json", "show", "1", code=2).complaint) == 1


def test_a_move_can_be_read_as_a_file_and_as_an_attribute_on_all_that_is_on_its_way(quiet: Mounted) -> None:
    pages = quiet.mountpoint / ".fusestore" / "moves"
    old, new = quiet.resources / "hot" / "run\n7", quiet.resources / "cold" / "run\n7"
    (old / "below").mkdir(parents=True)
    (old / "below" / "f").write_bytes(b"x" * 40)
    (quiet.uploads / "rest").write_bytes(b"at rest")
    quiet.wait()
    stranger = in_the_way(quiet, "run\n7")
    os.rename(old, new)
    quiet.cli("moves", "pause", new)
    assert os.listdir(pages) == ["1"]
    facts = dict(line.split(None, 1) for line in tool("cat", pages / "1").splitlines())
    assert facts["state"] == facts["reason"] == "paused"
    assert (facts["path"], facts["from"]) == ("resources/cold/run\\n7", "hot: resources/hot/run\\n7")
    assert f"by uid {os.getuid()}, pid {os.getpid()}" in facts["begun"]
    for path in (new, new / "below", new / "below" / "f"):
        assert os.getxattr(path, "user.fusestore.move") == b"1 paused 0% hot -> cold"
    for path in (quiet.uploads / "rest", quiet.resources / "cold"):
        with failing(errno.ENODATA):
            os.getxattr(path, "user.fusestore.move")
    quiet.cli("moves", "resume", "1")
    stranger.unlink()
    quiet.wait()
    assert os.listdir(pages) == []
    assert "done" in (pages / "1").read_text()
    for name in ("2", "0", "01", "x", "9" * 30):
        assert not (pages / name).exists()
    for change in (
        lambda: os.unlink(pages / "1"),
        lambda: (pages / "1").write_text("x"),
        lambda: os.truncate(pages / "1", 0),
        lambda: (pages / "2").write_text("x"),
        lambda: os.chmod(pages / "1", 0o777),
    ):
        with pytest.raises(PermissionError):
            change()
    with open(pages / "1", "rb") as page:
        os.fsync(page.fileno())
        page.seek(5)
        assert page.read()


def test_moves_without_a_verb_lists_as_ever(travel: Mounted) -> None:
    assert travel.cli("moves").out == travel.cli("moves", "list").out
    assert travel.cli("moves").out.startswith("nothing is on its way; ")
    for number in range(3):
        (travel.uploads / str(number)).write_bytes(b"x")
        os.rename(travel.uploads / str(number), travel.resources / "cold" / str(number))
    travel.wait()
    assert [move["number"] for move in travel.json("moves", "--all", "--limit", "2")] == [2, 3]
    assert [move["number"] for move in travel.json("moves", "list", "--all")] == [1, 2, 3]
    assert travel.json("moves", "show", travel.resources / "cold" / "1")["number"] == 2
    eventually(lambda: travel.json("moves") == [], "nothing is on its way")
