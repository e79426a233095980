"""A store whose index is lost: rebuilt from its roots, everything is called, linked and known as before."""

from __future__ import annotations

import json
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import eventually
from tests.support.manifests import wait_until_noted
from tests.support.objects import changes, facts, plant
from tests.support.tools import library, tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Mounted
    from tests.support.objects import Facts

pytestmark = pytest.mark.timeout(120)


def everywhere(store: Mounted) -> list[Path]:
    places = [
        store.uploads,
        store.downloads,
        store.resources / "main",
        *(store.resources / name for name in store.roots),
    ]
    return [place / "place" for place in places]


def rebuilt(store: Mounted, *options: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(store.cli("rebuild", store.store, *options, "--json").out)
    return answer


def counts(answer: dict[str, Any], *names: str) -> dict[str, int]:
    return {name: sum(root[name] for root in answer["roots"]) for name in names}


def is_settled(mountpoint: Path) -> bool:
    return all(known.xattrs.get("user.fusestore.state") != b"writing" for known in facts(mountpoint).values())


@pytest.mark.parametrize("end", ["umount", "kill9"])
def test_everything_is_known_as_before(travel: Mounted, end: str) -> None:
    travel.allow_log("unclean|replay|recover|interrupted|leftover")
    for place in everywhere(travel):
        place.mkdir()
        plant(place)
    library(travel.uploads / "library")
    (travel.uploads / "library").rename(travel.resources / "cold" / "library")
    (travel.resources / "hot" / "place" / "again").rename(travel.resources / "cold" / "guest")
    eventually(lambda: is_settled(travel.mountpoint), "nothing is being written any more", 30)
    wait_until_noted(travel)
    before = facts(travel.mountpoint)
    epoch, seq = (travel.json("status")["index"][name] for name in ("epoch", "last_seq"))
    if end == "umount":
        travel.umount()
    else:
        travel.kill9()
        tool("fusermount3", "-u", travel.mountpoint)
    shutil.rmtree(travel.store / "index")
    answer = rebuilt(travel)
    nothing = ("new", "conflicts", "recovered", "further_copies", "missing", "unseen")
    assert counts(answer, *nothing) == dict.fromkeys(nothing, 0), answer["told"]
    travel.cli("check", travel.store)
    travel.mount()
    assert changes(before, facts(travel.mountpoint)) == []
    events = travel.json("status")["index"]
    assert events["epoch"] > epoch
    assert events["last_seq"] > seq
    travel.cli("verify", travel.mountpoint, timeout_s=100)
    assert (travel.uploads / "place" / "newest").write_bytes(b"new") == 3
    assert (travel.uploads / "place" / "newest").stat().st_ino > max(known.inode for known in before.values())


def test_what_was_on_its_way_arrives(travel: Mounted) -> None:
    hot, cold = travel.resources / "hot", travel.resources / "cold"
    travel.umount()
    travel.configure("moves", rate=1 << 20)  # so slowly that it is on its way when the index is lost
    travel.mount()
    library(hot / "library")
    plant(hot / "library")
    travel.wait("--all")
    wait_until_noted(travel)
    before = wherever(facts(hot / "library"))
    (hot / "library").rename(cold / "library")
    (hot / "library").mkdir()
    (hot / "library" / "other").write_bytes(b"in the place of what has left")
    travel.umount()  # in the middle of it
    shutil.rmtree(travel.store / "index")
    answer = rebuilt(travel)
    assert answer["moves"] >= 1, answer
    assert answer["told"] == []
    travel.configure("moves", rate=0)
    travel.mount()
    assert changes(before, wherever(facts(cold / "library"))) == []
    travel.wait("--all")
    assert changes(before, wherever(facts(cold / "library"))) == []
    assert (hot / "library" / "other").read_bytes() == b"in the place of what has left"
    disk = travel.roots["cold"].directory
    assert (disk / "library" / "a" / "b" / "c" / "file").read_bytes() == b"deep"
    assert sorted(os.listdir(travel.roots["hot"].directory / "library")) == ["other"]


@pytest.mark.parametrize(("start", "end"), [("hot", "cold"), ("cold", "hot")])
def test_a_directory_that_was_on_its_way_before_any_manifest_said_so_is_there_once(
    travel: Mounted, start: str, end: str
) -> None:
    travel.allow_log("unclean|replay|recover|interrupted|leftover")
    travel.umount()
    travel.configure("moves", rate=8 << 20)
    travel.mount()
    old, new = travel.resources / start / "d", travel.resources / end / "d2"
    wait_until_noted(travel)
    old.mkdir()
    contents = {f"f{number}": os.urandom(1000) for number in range(50)}
    contents["slow"] = os.urandom(64 << 20)  # is not carried together with the others
    for name, content in contents.items():
        (old / name).write_bytes(content)
    travel.wait("--all")  # its size counts when it has settled
    old.rename(new)
    arriving = travel.roots[end].directory / "d2"
    eventually(lambda: arriving.exists() and any(arriving.iterdir()), "some of it has arrived")
    travel.kill9()
    tool("fusermount3", "-u", travel.mountpoint)
    assert len(list(arriving.iterdir())) < len(contents)
    shutil.rmtree(travel.store / "index")
    answer = rebuilt(travel)
    assert (answer["told"], answer["moves"]) == ([], 1)
    nothing = ("new", "conflicts", "further_copies", "missing")
    assert counts(answer, *nothing) == dict.fromkeys(nothing, 0)
    travel.configure("moves", rate=0)
    travel.mount()
    for _ in ("at once", "when it has arrived"):
        assert not old.exists()
        assert {path.name: path.read_bytes() for path in new.iterdir()} == contents
        travel.wait("--all")
    assert not (travel.roots[start].directory / "d").exists()


def wherever(known: dict[str, Facts]) -> dict[str, Facts]:
    """The same without what changes on the way: the root, and the link counts of directories."""
    return {
        path: each._replace(
            nlink=0 if stat.S_ISDIR(each.mode) else each.nlink,
            xattrs={name: value for name, value in each.xattrs.items() if name != "user.fusestore.root"},
        )
        for path, each in known.items()
    }


def test_a_store_that_is_mounted_or_sound_is_refused(own: Mounted) -> None:
    (own.uploads / "file").write_bytes(b"file")
    number = (own.uploads / "file").stat().st_ino
    assert "unmount" in own.cli("rebuild", own.store, code=4).err
    own.umount()
    assert "--replace" in own.cli("rebuild", own.store, code=4).err
    said = own.cli("rebuild", own.store, "--replace").out
    (kept,) = own.store.glob("index.old-*")
    assert str(kept) in said
    own.mount()
    assert (own.uploads / "file").stat().st_ino == number


def test_a_dry_run_says_what_would_be_found(own: Mounted) -> None:
    (own.resources / "main" / "file").write_bytes(b"file")
    own.umount()
    shutil.rmtree(own.store / "index")
    said = own.cli("rebuild", own.store, "--dry-run").out.splitlines()
    assert said[0].split() == ["ROOT", "BY", "LABEL"]
    assert ["main", "1"] in [line.split() for line in said]
    assert said[-1] == "nothing was changed"
    assert not (own.store / "index").exists()
    own.cli("rebuild", own.store)
