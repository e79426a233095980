"""Listing and finding files, page by page, and what of it which user gets to see; hashes for whoever asks."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
from blake3 import blake3
from msgspec.structs import replace

from fusestore.core.rights import Asker
from fusestore.errors import (
    Forbidden,
    InUse,
    InvalidRequest,
    IsADirectory,
    NotADirectory,
    NotFound,
    RootOffline,
    errno_of,
)
from fusestore.jobs.scrubber import Scrubber
from fusestore.service import listing
from fusestore.service.queries import Queries
from tests.support.byhand import Job, finish
from tests.support.calls import ME

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"
WANTED = ("name", "hash", "type", "state", "root")
ALICE = Asker(4701, (4701,))
BOB = Asker(4702, (4702, 4703))


def queries(opened: Opened) -> Queries:
    config = opened.store.config
    opened.store.config = replace(config, mount=replace(config.mount, allow_other=True))
    return Queries(opened.store, opened.path, {}, trio.lowlevel.checkpoint, Scrubber(opened.store), lambda: None)


def page(opened: Opened, top: str, asker: Asker | None = None, **how: Any) -> dict[str, Any]:
    how = {"recursive": False, "after": None, "limit": 1000, **how}
    wanted: dict[str, Any] = {name: how.pop(name) for name in WANTED if name in how}
    return finish(queries(opened).entries(top, asker, wanted, lambda *figures: None, **how))


def paths(opened: Opened, top: str, asker: Asker | None = None, **how: Any) -> list[str]:
    """Of all pages."""
    found, after = [], None
    while True:
        one = page(opened, top, asker, **{**how, "after": after})
        found += [entry["path"].removeprefix(f"{HOT}/") for entry in one["entries"]]
        after = one["after"]
        if after is None:
            return found
        assert len(one["entries"]) + len(one["problems"]) == how["limit"]


def plant(opened: Opened) -> None:
    for directory in ("t", "t/b", "t/b/c", "t/d"):
        opened.mkdir(f"{HOT}/{directory}")
    for file in ("t/a", "t/b/x", "t/b/c/y", "t/b-", "t/z"):
        opened.write(f"{HOT}/{file}", file.encode())
    opened.symlink(f"{HOT}/t/link", "a")
    opened.settle()


ALL = ["t/a", "t/b", "t/b/c", "t/b/c/y", "t/b/x", "t/b-", "t/d", "t/link", "t/z"]


@pytest.mark.parametrize("limit", [1, 2, 4, 1000])
def test_pages_together_are_the_directory_and_with_recursive_all_below_it(opened: Opened, limit: int) -> None:
    plant(opened)
    assert paths(opened, f"{HOT}/t", limit=limit) == ["t/a", "t/b", "t/b-", "t/d", "t/link", "t/z"]
    assert paths(opened, f"{HOT}/t", limit=limit, recursive=True) == ALL
    assert paths(opened, "", limit=limit)[-3:] == ["downloads", "resources", "uploads"]
    assert paths(opened, "", recursive=True, limit=limit)[-2:] == ["resources/warm", "uploads"]


def test_a_page_begins_where_the_last_one_ended_whatever_came_and_went(opened: Opened) -> None:
    plant(opened)
    first = page(opened, f"{HOT}/t", recursive=True, limit=4)
    assert first["after"] == f"{HOT}/t/b/c/y"
    opened.unlink(f"{HOT}/t/b/c/y")
    opened.rmdir(f"{HOT}/t/b/c")
    opened.write(f"{HOT}/t/b/b-before", b"")
    opened.write(f"{HOT}/t/b/d-after", b"")
    rest = page(opened, f"{HOT}/t", recursive=True, after=first["after"])
    assert [entry["path"].removeprefix(f"{HOT}/") for entry in rest["entries"]] == ["t/b/d-after", *ALL[4:]]
    with pytest.raises(InvalidRequest):
        page(opened, f"{HOT}/t", after="uploads/a")
    with pytest.raises(InvalidRequest):
        page(opened, f"{HOT}/t", after=f"{HOT}/t")


def test_an_entry_is_the_record_under_the_name_that_was_come_by(opened: Opened) -> None:
    plant(opened)
    opened.link(f"{HOT}/t/a", f"{HOT}/t/d/again")
    (entry,) = page(opened, f"{HOT}/t/d")["entries"]
    assert (entry["path"], entry["size"], entry["type"]) == (f"{HOT}/t/d/again", 3, "file")
    assert sorted(entry["paths"]) == [f"{HOT}/t/a", f"{HOT}/t/d/again"]
    assert entry["hash"] == f"blake3:{blake3(b't/a').hexdigest()}"
    (seen_by_bob,) = page(opened, f"{HOT}/t/d", BOB)["entries"]
    assert seen_by_bob["paths"] == [f"{HOT}/t/d/again"]


def test_only_a_directory_is_listed(opened: Opened) -> None:
    plant(opened)
    with pytest.raises(NotADirectory):
        page(opened, f"{HOT}/t/a")
    with pytest.raises(NotFound):
        page(opened, f"{HOT}/t/none")
    with pytest.raises(NotFound):
        page(opened, "", root="nowhere")


def test_what_others_put_on_the_disk_is_listed(shared: Opened) -> None:
    (shared.disks["hot"] / "outside").mkdir()
    (shared.disks["hot"] / "outside" / "f").write_bytes(b"f")
    assert paths(shared, HOT, recursive=True, limit=1000) == ["outside", "outside/f"]


def test_what_is_on_a_root_that_is_away_is_listed_and_what_nobody_knows_is_a_problem(opened: Opened) -> None:
    plant(opened)
    paths(opened, "", recursive=True, limit=1000)
    for name in ("hot", "cold"):
        next(root for root in opened.store.roots.values() if root.name == name).online = False
    assert paths(opened, f"{HOT}/t", recursive=True, limit=1000) == ALL


def test_files_are_found_by_name_type_state_root_and_hash(opened: Opened) -> None:
    plant(opened)
    opened.write(f"{COLD}/same", b"t/a")
    opened.settle()
    fh = opened.create(f"{HOT}/t/open.dat")
    opened.write_at(fh, b"x")

    def find(top: str = "", **wanted: Any) -> list[str]:
        return paths(opened, top, recursive=True, limit=1000, **wanted)

    assert find(name="b*") == ["t/b", "t/b-"]
    assert find(name="B*") == []
    assert find(name="[xy]", type="file") == ["t/b/c/y", "t/b/x"]
    assert find(f"{HOT}/t/b", name="?") == ["t/b/c", "t/b/c/y", "t/b/x"]
    assert find(HOT, type="symlink") == ["t/link"]
    assert find(state="writing") == ["t/open.dat"]
    assert find(root="cold", type="file") == [f"{COLD}/same"]
    hash = "blake3", blake3(b"t/a").digest()
    assert find(hash=hash) == [f"{COLD}/same", "t/a"]
    assert paths(opened, "", recursive=True, limit=1, hash=hash) == [f"{COLD}/same", "t/a"]
    assert find(hash=hash, name="s*") == [f"{COLD}/same"]
    assert find(HOT, hash=hash) == ["t/a"]
    assert find(f"{HOT}/t/b", hash=hash) == []
    assert find(hash=("sha256", hash[1])) == []
    opened.release(fh)


def test_a_user_sees_what_the_mount_would_show_it(opened: Opened) -> None:
    plant(opened)
    opened.set(f"{HOT}/t/b", mode=0o40750, uid=4701, gid=4703)  # alice's, and bob's by a further group
    opened.set(f"{HOT}/t/b/c", mode=0o40700, uid=4701, gid=4701)
    opened.set(f"{HOT}/t/a", mode=0o100600, uid=4701, gid=4701)
    opened.write(f"{HOT}/t/b/c/same", b"t/a")
    opened.set(f"{HOT}/t/d", mode=0o40711)
    opened.write(f"{HOT}/t/d/hidden", b"t/a")
    opened.settle()
    nobody = Asker(65534, (65534,))
    root = Asker(0, (0,))
    hash = "blake3", blake3(b"t/a").digest()
    cases = {
        None: {"t/b/c/y", "t/b/x", "t/d/hidden"},
        root: {"t/b/c/y", "t/b/x", "t/d/hidden"},
        ALICE: {"t/b/c/y", "t/b/x"},
        BOB: {"t/b/x"},
        nobody: set(),
    }
    for asker, seen in cases.items():
        found = set(paths(opened, f"{HOT}/t", asker, recursive=True, limit=1000))
        assert found & {"t/b/c/y", "t/b/x", "t/d/hidden"} == seen
        assert {"t/a", "t/b", "t/d"} <= found
        by_hash = set(paths(opened, f"{HOT}/t", asker, recursive=True, limit=1000, hash=hash))
        readable = {"t/a"} if asker not in (BOB, nobody) else set()
        assert by_hash == found & ({"t/b/c/same", "t/d/hidden"} | readable)
    told = page(opened, f"{HOT}/t", BOB, recursive=True)
    assert [problem["path"] for problem in told["problems"]] == [f"{HOT}/t/b/c", f"{HOT}/t/d"]
    hashes = {entry["path"]: entry["hash"] for entry in told["entries"]}
    assert hashes[f"{HOT}/t/a"] == ""
    assert hashes[f"{HOT}/t/b/x"]
    ask = queries(opened)
    with pytest.raises(Forbidden) as caught:
        page(opened, f"{HOT}/t/b", nobody)
    assert errno_of(caught.value) == errno.EACCES
    for what in (f"{HOT}/t/b/x", str(ask.record(opened.find(f"{HOT}/t/b/x"))["id"])):
        assert ask.find(what, BOB) == opened.find(f"{HOT}/t/b/x")
        with pytest.raises(Forbidden):
            ask.find(what, nobody)
    assert ask.find(f"{HOT}/t/d/hidden", nobody)  # who knows the name gets there


def test_a_hash_is_told_or_made_for_whoever_may_read_the_file(shared: Opened) -> None:
    ask = queries(shared)
    (shared.disks["hot"] / "found").write_bytes(b"found")
    assert ask.record(shared.find(f"{HOT}/found"))["hash"] == ""
    told = finish(ask.digest(f"{HOT}/found", None))
    assert told["hash"] == ask.record(shared.find(f"{HOT}/found"))["hash"] == f"blake3:{blake3(b'found').hexdigest()}"
    assert finish(ask.digest(f"{HOT}/found", BOB)) == told
    shared.set(f"{HOT}/found", mode=0o100640)
    with pytest.raises(Forbidden):
        finish(ask.digest(f"{HOT}/found", BOB))
    with pytest.raises(IsADirectory):
        finish(ask.digest(HOT, None))
    fh = shared.open_file(f"{HOT}/found", write=True)
    with pytest.raises(InUse):
        finish(ask.digest(f"{HOT}/found", None))
    shared.release(fh)
    (shared.disks["cold"] / "other").write_bytes(b"x")
    shared.find(f"{COLD}/other")
    cold = next(root for root in shared.store.roots.values() if root.name == "cold")
    cold.online = False
    with pytest.raises(RootOffline):
        finish(ask.digest(f"{COLD}/other", None))
    cold.online = True


def test_what_changes_while_it_is_read_is_read_again(shared: Opened) -> None:
    ask = queries(shared)
    path = shared.disks["hot"] / "found"
    path.write_bytes(b"found")
    shared.find(f"{HOT}/found")
    work = ask.digest(f"{HOT}/found", None)
    for _ in range(3):
        work.send(None)
    path.write_bytes(b"changed")
    assert finish(work)["hash"] == f"blake3:{blake3(b'changed').hexdigest()}"


def test_a_large_directory_is_listed_in_turns_that_others_hardly_feel(shared: Opened) -> None:
    directory = shared.disks["hot"] / "many"
    directory.mkdir()
    for number in range(3000):
        (directory / f"{number:05}").touch()
    assert len(paths(shared, f"{HOT}/many", limit=1000)) == 3000
    work = queries(shared).entries(
        f"{HOT}/many", None, {}, lambda *figures: None, recursive=False, after=None, limit=3000
    )
    turns, steps = Job(work), 0
    while not turns.is_over:
        turns.step()
        steps += 1
    assert steps >= 10


def test_of_a_mount_that_is_closed_to_others_they_are_told_nothing(opened: Opened) -> None:
    opened.write(f"{HOT}/open", b"x")
    ask = queries(opened)
    config = opened.store.config
    opened.store.config = replace(config, mount=replace(config.mount, allow_other=False))
    id = ask.record(opened.find(f"{HOT}/open"))["id"]
    for what in ("", f"{HOT}/open", f"{HOT}/none", id):
        with pytest.raises(Forbidden):
            ask.find(what, ALICE)
    assert ask.find(id, Asker(os.geteuid(), (0,))) == ask.find(f"{HOT}/open")


def test_what_has_vanished_is_not_there_to_be_written_or_removed(shared: Opened) -> None:
    ask, asker = queries(shared), Asker(0, (0,))
    path = shared.disks["hot"] / "taken"
    path.write_bytes(b"x")
    id = ask.record(shared.find(f"{HOT}/taken"))["id"]
    path.unlink()
    assert not shared.exists(f"{HOT}/taken")
    for what in (id, f"{HOT}/taken"):
        with pytest.raises(NotFound):
            finish(ask.write(what, b"", ME, asker))
        assert finish(ask.unlink(what, ME, asker)) is False


@pytest.mark.parametrize("store", ["opened", "shared"])
def test_nothing_is_below_a_file(request: pytest.FixtureRequest, store: str) -> None:
    opened: Opened = request.getfixturevalue(store)
    for top in ("uploads", HOT):
        opened.write(f"{top}/file", b"x")
        for below in ("file/name", "file/name/more"):
            with pytest.raises(NotFound):
                queries(opened).find(f"{top}/{below}")


def test_who_may_not_read_a_file_cannot_find_out_what_is_in_it(opened: Opened) -> None:
    opened.write(f"{HOT}/salary", b"4000")
    opened.set(f"{HOT}/salary", mode=0o600)
    opened.settle()
    (entry,) = page(opened, HOT, ALICE)["entries"]
    assert entry["hash"] == ""
    hash = "blake3", blake3(b"4000").digest()
    assert page(opened, HOT, ALICE, hash=hash)["entries"] == []
    assert len(page(opened, HOT, hash=hash)["entries"]) == 1


def test_a_digest_tells_no_name_that_who_asks_cannot_see(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/private", mode=0o700)
    opened.write(f"{HOT}/private/secret", b"x")
    opened.mkdir(f"{HOT}/public", mode=0o755)
    opened.link(f"{HOT}/private/secret", f"{HOT}/public/a")
    opened.settle()
    ask = queries(opened)
    id = ask.record(opened.find(f"{HOT}/public/a"))["id"]
    opened.set(f"{HOT}/public/a", mode=0o644)
    for what in (f"{HOT}/public/a", id):
        assert finish(ask.digest(what, ALICE))["path"] == f"{HOT}/public/a"
    opened.unlink(f"{HOT}/public/a")
    with pytest.raises(Forbidden) as caught:
        finish(ask.digest(id, ALICE))
    assert "secret" not in str(caught.value)


def test_a_page_of_files_with_one_content_looks_at_no_others(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        opened.write(f"{HOT}/{number:03}", b"")
    opened.settle()
    looked, see = 0, listing._seen

    def count(*arguments: Any) -> Any:
        nonlocal looked
        looked += 1
        return see(*arguments)

    monkeypatch.setattr(listing, "_seen", count)
    found = page(opened, HOT, hash=("blake3", blake3(b"").digest()), limit=10, after=f"{HOT}/049")
    assert [entry["path"] for entry in found["entries"]] == [f"{HOT}/{number:03}" for number in range(50, 60)]
    assert looked <= 11
