"""Why an object is where it is and cannot move or go: asked of stores in every kind of trouble."""

from __future__ import annotations

import itertools
import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fusestore.errors import FusestoreError, NoRoom, NotFound, errno_of
from fusestore.jobs.scrubber import Scrubber
from fusestore.service import replicating, room, verifying
from fusestore.service.queries import Queries
from tests.support.byhand import finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.core.ports import Driver
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"


async def _idle() -> None:
    """Nothing waits."""


def explain(opened: Opened, what: str) -> dict[str, Any]:
    """The explanation, with the refusals of calls by name under `told`."""
    queries = Queries(opened.store, Path("/mnt/lab"), opened.mover.running, _idle, Scrubber(opened.store), lambda: None)
    facts, answers = finish(queries.explain(what))
    told = {f"{each.call} {each.root}".strip(): each.refusal for each in answers}
    return {**facts, "codes": [fact["code"] for fact in facts["facts"]], "told": told}


def test_a_file_at_rest_is_at_home_and_everything_can_be_done(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    opened.settle()
    found = explain(opened, f"{HOT}/a")
    assert found["codes"] == ["at-home", "hash-known"]
    assert found["verdict"] == f"{HOT}/a: its bytes are on hot, where its name says"
    assert set(found["told"]) == {"rm", "write", "mv uploads", "mv downloads", "mv main", "mv warm", "mv cold"}
    assert not any(found["told"].values())
    assert explain(opened, found["id"])["path"] == f"{HOT}/a"


def test_what_is_on_its_way_names_its_move_and_what_that_waits_for(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    fh = opened.open_file(f"{HOT}/a", write=True)
    opened.write_at(fh, b"more", 7)
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    assert explain(opened, f"{COLD}/a")["code"] == "move-queued"
    opened.mover._claimed.add(opened.find(f"{COLD}/a"))  # holds it up
    opened.step(20)
    found = explain(opened, f"{COLD}/a")
    assert found["code"] == "move-waiting"
    assert "on its way with another move" in found["verdict"]
    opened.mover._claimed.clear()
    assert {"open-for-writing", "on-its-way"} <= set(found["codes"])
    assert (found["writers"], found["readers"], len(found["moves"])) == (1, 0, 1)
    assert (found["root"], found["home"]) == ("hot", "cold")
    opened.release(fh)
    assert "unsettled" in explain(opened, f"{COLD}/a")["codes"]
    opened.rest()
    assert explain(opened, f"{COLD}/a")["code"] == "at-home"


def test_a_file_in_a_directory_on_its_way_is_told_of_the_directorys_move(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"content")
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    found = explain(opened, f"{COLD}/d/a")
    assert found["code"] == "move-queued"
    assert found["moves"] == explain(opened, f"{COLD}/d")["moves"]


def test_a_stranger_in_the_way_is_named_with_what_it_is(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    (opened.disks["cold"] / "a").write_bytes(b"a stranger's")
    opened.step(50)
    found = explain(opened, f"{COLD}/a")
    assert found["code"] == "conflict"
    assert str(opened.disks["cold"] / "a") in found["verdict"]
    assert "a file of 12 bytes" in found["verdict"]
    (opened.disks["cold"] / "a").unlink()
    opened.rest()


def test_a_stranger_in_the_way_of_a_directory_is_named_for_what_is_in_it(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"content")
    opened.settle()
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    (opened.disks["cold"] / "d").write_bytes(b"")
    opened.step(50)
    assert explain(opened, f"{COLD}/d/a")["code"] == "conflict"
    (opened.disks["cold"] / "d").unlink()
    opened.rest()


def test_a_directory_that_was_left_says_where_and_what_lies_in_it(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    (opened.disks["hot"] / "d" / "theirs").write_bytes(b"")
    seen = []
    for _ in range(100):
        opened.step()
        seen += explain(opened, f"{COLD}/d")["facts"]
    left = {fact["text"] for fact in seen if fact["code"] == "leftover-directory"}
    assert left == {f"{opened.disks['hot'] / 'd'}, which it has left, is still there with theirs in it"}


def test_a_root_that_is_away_or_read_only_is_said_and_asked_of_the_same_rules(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    opened.settle()
    cold, hot = (root for root in opened.store.roots.values() if root.name in ("cold", "hot"))
    hot, cold = sorted((hot, cold), key=lambda root: root.name != "hot")
    hot.read_only = True
    found = explain(opened, f"{HOT}/a")
    assert found["code"] == "root-read-only"
    assert {name: str(refusal) for name, refusal in found["told"].items()}["rm"] == "The root is read-only: hot"
    hot.read_only, hot.online = False, False
    found = explain(opened, f"{HOT}/a")
    assert found["code"] == "root-offline"
    assert all(found["told"].values())
    hot.online, cold.read_only = True, True
    assert {call for call, refusal in explain(opened, f"{HOT}/a")["told"].items() if refusal} == {"mv cold"}
    cold.read_only = False


def text_of(opened: Opened, what: str, code: str) -> str:
    """Of the one fact with that code, its text and its hint; "" for none."""
    return "; ".join(
        f"{fact['text']} → {fact['hint']}" for fact in explain(opened, what)["facts"] if fact["code"] == code
    )


def root(opened: Opened, name: str) -> Driver:
    return replicating.named(opened.store, name)


def copied(opened: Opened) -> str:
    """A file on hot with a replica on cold."""
    opened.write(f"{HOT}/a", b"content")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    opened.rest()
    return f"{HOT}/a"


def test_a_file_whose_own_copy_was_given_up_says_so_and_did_not_step_aside(opened: Opened) -> None:
    path = copied(opened)
    opened.drop(path, "hot")
    found = explain(opened, path)
    assert found["codes"] == ["elsewhere", "hash-known"]
    assert "its bytes are on cold, because the copy on hot was given up; the next rename" in found["verdict"]
    opened.rename(path, f"{HOT}/b")
    assert "aside" not in explain(opened, f"{HOT}/b")["codes"]
    opened.rest()
    assert explain(opened, f"{HOT}/b")["code"] == "at-home"


def test_a_file_below_a_drained_root_says_so_also_when_that_disk_is_gone(opened: Opened) -> None:
    path = copied(opened)
    opened.drain("hot", "cold")
    opened.rest()
    opened.write(f"{HOT}/new", b"made since")
    opened.settle()
    for online in (True, False):
        root(opened, "hot").online = online
        for each in (path, f"{HOT}/new"):
            found = explain(opened, each)
            assert found["codes"] == ["elsewhere", "hash-known"]
            assert found["verdict"].endswith("its bytes are on cold, because hot is drained and takes nothing")
            assert found["told"]["write"] is None
    root(opened, "hot").online = True


def test_what_steps_aside_while_it_moves_says_so(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.write(f"{HOT}/a", b"another")
    assert "stepped aside on hot" in text_of(opened, f"{COLD}/a", "aside")


def test_a_root_that_is_away_is_told_for_what_it_holds_up(opened: Opened) -> None:
    path = copied(opened)
    root(opened, "hot").online = False
    assert "read from the replica on cold, and cannot be written" in text_of(opened, path, "root-offline")
    root(opened, "hot").online, root(opened, "cold").online = True, False
    assert explain(opened, path)["code"] == "at-home"
    root(opened, "cold").online = True


def test_a_hash_says_when_the_replicas_were_verified(opened: Opened) -> None:
    text = text_of(opened, copied(opened), "hash-known")
    assert re.search(r"was not compared with the disk yet; its replica on cold was \d{4}-\d\d-\d\d ", text), text


@pytest.mark.parametrize("has_replica", [True, False])
def test_a_damaged_file_says_what_mv_does_and_who_repairs_it(opened: Opened, has_replica: bool) -> None:
    path = copied(opened)
    if not has_replica:
        opened.drop(path, "cold")
    (opened.disks["hot"] / "a").write_bytes(b"kontent")
    record_damage(opened, path)
    text = text_of(opened, path, "damaged")
    assert explain(opened, path)["told"]["mv cold"] is None
    assert "mv renames it, and a move to another disk waits for it to be whole" in text
    assert ("`fusestore scrub --root hot` repairs it from the replica on cold" in text) is has_replica


def record_damage(opened: Opened, path: str) -> None:
    """A look at a file finds it damaged, and nobody repairs it."""
    store = opened.store
    reading = verifying.examine(store, store.inode(opened.find(path)), partial(verifying.read_at_once, store))
    batch = store.batch()
    verifying.record(store, batch, finish(reading))
    store.index.apply(batch)


def test_a_directory_that_was_not_counted_to_its_end_needs_more_than_that(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.mkdir(f"{HOT}/d")
    for name in "abcde":
        opened.write(f"{HOT}/d/{name}", b"")
    size = 100_000
    opened.write(f"{HOT}/d/a", bytes(size))
    opened.settle()
    space = root(opened, "cold").space()._replace(available=size - 1)
    monkeypatch.setattr(root(opened, "cold"), "space", lambda: space)
    directory = opened.store.inode(opened.find(f"{HOT}/d"))
    with pytest.raises(NoRoom, match=f" {size} bytes needed") as whole:
        room.check(opened.store, directory, root(opened, "cold"))
    assert "more than" not in str(whole.value)
    monkeypatch.setattr(time, "monotonic_ns", itertools.count(0, room.SIZE_BUDGET_NS // 3).__next__)
    with pytest.raises(NoRoom, match=f"more than {size} bytes needed"):
        room.check(opened.store, directory, root(opened, "cold"))


CALLS: dict[str, Callable[[Opened], object]] = {
    "rm": lambda opened: opened.unlink(f"{HOT}/big"),
    "write": lambda opened: opened.release(opened.open_file(f"{HOT}/big", write=True)),
    "mv cold": lambda opened: opened.rename(f"{HOT}/big", f"{COLD}/big", 1),
    "mv uploads": lambda opened: opened.rename(f"{HOT}/big", "uploads/big", 1),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("trouble", ["none", "read-only", "offline", "full", "taken"])
def test_what_is_told_is_what_the_call_does(opened: Opened, call: str, trouble: str) -> None:
    opened.write(f"{HOT}/big", b"")
    if trouble == "full":
        opened.set(f"{HOT}/big", size=100 << 20)  # more than cold holds
    opened.write("uploads/big" if trouble == "taken" else "uploads/other", b"")
    (hot,) = (root for root in opened.store.roots.values() if root.name == "hot")
    hot.read_only, hot.online = trouble == "read-only", trouble != "offline"
    refusal = explain(opened, f"{HOT}/big")["told"][call]
    found = None
    try:
        CALLS[call](opened)
    except (OSError, FusestoreError) as error:
        found = error
    hot.read_only, hot.online = False, True
    assert type(found) is type(refusal)
    if isinstance(refusal, FusestoreError) and isinstance(found, FusestoreError):
        assert (errno_of(found), str(found)) == (errno_of(refusal), str(refusal))


def test_an_upload_that_was_cut_off_says_why(opened: Opened) -> None:
    opened.write_at(opened.create("uploads/a"), b"half", 0)
    opened.crash()
    opened.open()
    found = explain(opened, "uploads/a")
    assert found["code"] == "interrupted"
    assert "the daemon ended while it was being written" in found["verdict"]


def test_a_hard_link_with_names_on_two_roots_says_where_its_bytes_stay(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    opened.link(f"{HOT}/a", f"{HOT}/b")
    opened.rename(f"{HOT}/b", f"{COLD}/b")
    opened.rest()
    (guest,) = (fact for fact in explain(opened, f"{COLD}/b")["facts"] if fact["code"] == "guest")
    assert "names on cold, hot; its bytes stay on hot" in guest["text"]


def test_the_skeleton_a_symlink_of_an_id_root_and_a_full_directory_have_their_reasons(opened: Opened) -> None:
    assert explain(opened, "uploads")["code"] == "skeleton"
    opened.symlink("uploads/s", "somewhere")
    assert explain(opened, "uploads/s")["code"] == "index-only"
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"")
    assert str(explain(opened, f"{HOT}/d")["told"]["rmdir"]).startswith("The directory is not empty")


def test_what_is_gone_is_explained_by_its_id_and_by_the_path_it_had(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"content")
    opened.settle()
    id = explain(opened, f"{HOT}/a")["id"]
    opened.rename(f"{HOT}/a", f"{HOT}/b")
    renamed = explain(opened, f"{HOT}/a")
    assert (renamed["code"], renamed["id"]) == ("renamed", id)
    assert f"it was renamed to {HOT}/b" in renamed["verdict"]
    opened.unlink(f"{HOT}/b")
    for what in (id, f"{HOT}/b"):
        found = explain(opened, what)
        assert (found["code"], found["id"]) == ("removed", id)
        assert found["history"][-1]["command"] == "remove"
    with pytest.raises(NotFound):
        explain(opened, f"{HOT}/never")
