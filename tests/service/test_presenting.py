"""What there is at one moment, told while the tree goes on changing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import trio

from fusestore.errors import IndexFull
from fusestore.jobs.scrubber import Scrubber
from fusestore.service import refreshing
from fusestore.service.presenting import Presence
from fusestore.service.queries import Queries
from tests.support.byhand import finish

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT = "resources/hot"
TREE = [f"{HOT}/{path}" for path in ("t/", "t/a", "t/u/", "t/u/b", "t/u/v/", "t/u/v/c", "t/w/", "t/w/d")]


def plant(opened: Opened) -> None:
    for path in TREE:
        if path.endswith("/"):
            opened.mkdir(path.rstrip("/"))
        else:
            opened.write(path, path.encode())
    opened.settle()
    opened.store.index.commit()


def presence(opened: Opened, *paths: str) -> Presence:
    return Presence(opened.store, paths or None)


def told(opened: Opened, *paths: str) -> list[dict[str, Any]]:
    opened.store.index.commit()
    with closing(presence(opened, *paths)) as there:
        return list(there)


def paths(objects: list[dict[str, Any]]) -> list[str]:
    return [each["path"] for each in objects]


def test_everything_is_told_once_and_a_directory_before_what_is_in_it(opened: Opened) -> None:
    plant(opened)
    found = paths(told(opened))
    below = [path.rstrip("/") for path in TREE]
    tops = ["", "downloads", "resources", HOT, "resources/cold", "resources/main", "resources/warm", "uploads"]
    assert sorted(found) == sorted(tops + below)
    for path in found[1:]:
        assert found.index(path.rpartition("/")[0]) < found.index(path)


def test_an_object_is_told_in_the_words_of_its_events(opened: Opened) -> None:
    plant(opened)
    (there,) = told(opened, f"{HOT}/t/a")
    event = opened.store.index.events(0, 1000)
    last = [each for each in event if each.path == b"resources/hot/t/a"][-1]
    assert (there["inode"], there["version"], there["size"], there["hash"]) == (
        last.inode, last.version, last.size, last.hash,
    )  # fmt: skip
    assert (there["kind"], there["type"], there["state"]) == ("present", "file", "ready")
    assert (there["root"], there["home"]) == ("hot", "hot")


def test_what_happens_between_two_is_left_to_the_events_after_it(opened: Opened) -> None:
    plant(opened)
    before = paths(told(opened))
    seq = opened.store.index.last_seq
    opened.write(f"{HOT}/t/too late", b"x")
    with closing(presence(opened)) as there:
        assert there.seq == seq
        walk = iter(there)
        found = [next(walk)]
        opened.rename(f"{HOT}/t/u", f"{HOT}/elsewhere")
        opened.unlink(f"{HOT}/t/w/d")
        opened.rmdir(f"{HOT}/t/w")
        opened.store.index.commit()
        opened.mkdir(f"{HOT}/t/w")
        found += walk
    assert paths(found) == before
    assert opened.store.index.events(there.seq, 1)[0].path == b"resources/hot/t/too late"


def test_paths_choose_and_what_lies_below_two_of_them_is_told_once(opened: Opened) -> None:
    plant(opened)
    opened.write(f"{HOT}/t!", b"x")
    opened.write(f"{HOT}/t/u!", b"x")
    found = paths(
        told(opened, f"{HOT}/t/u/v", f"{HOT}/t/u!", f"{HOT}/t/u", "no/such", f"{HOT}/t/u/b/none", f"{HOT}/t!")
    )
    below = ["t!", "t/u", "t/u!", "t/u/b", "t/u/v", "t/u/v/c"]
    assert sorted(found) == [f"{HOT}/{path}" for path in below]


def test_each_name_of_a_file_is_told(opened: Opened) -> None:
    plant(opened)
    opened.link(f"{HOT}/t/a", f"{HOT}/t/w/again")
    found = {each["path"]: each for each in told(opened, f"{HOT}/t")}
    one, other = found[f"{HOT}/t/a"], found[f"{HOT}/t/w/again"]
    assert {**one, "path": ""} == {**other, "path": ""}


def test_what_is_on_its_way_is_told_with_where_it_is_and_where_it_belongs(opened: Opened) -> None:
    plant(opened)
    opened.rename(f"{HOT}/t", "resources/cold/t")
    found = told(opened, "resources/cold/t")
    assert len(found) == 8
    assert {(each["root"], each["home"]) for each in found} == {("hot", "cold")}
    opened.rest()
    assert {(each["root"], each["home"]) for each in told(opened, "resources/cold/t")} == {("cold", "cold")}


def test_each_object_has_the_seq_of_its_last_event_and_all_its_names(opened: Opened) -> None:
    plant(opened)
    opened.link(f"{HOT}/t/a", f"{HOT}/t/w/again")
    opened.rename(f"{HOT}/t/u", f"{HOT}/away")
    opened.unlink(f"{HOT}/t/w/d")
    opened.rename(f"{HOT}/t/w", "resources/cold/w")
    opened.rest()
    opened.store.index.commit()
    last = {event.id: event.seq for event in opened.store.index.events(0, 1000)}
    with closing(presence(opened)) as there:
        found = list(there.by_id())
        assert [id for id, _, _ in found] == sorted(id for id, _, _ in found)
        assert {id: seq for id, seq, _ in found if seq} == {id: last[id] for id, _, _ in found if id in last}
        described = [told for _, _, inode in found if (told := there.describe(inode)) is not None]
        assert sorted(path for each in described for path in each["paths"]) == sorted(paths(list(there)))
        (several,) = [each for each in described if len(each["paths"]) > 1]
        assert several["paths"] == [f"{HOT}/t/a", "resources/cold/w/again"]
        by_path = {each["path"]: each for each in there}
        assert {**several, "paths": []} == {**by_path[f"{HOT}/t/a"], "paths": []}


def test_what_a_view_would_take_is_left_for_removals_when_room_is_short(opened: Opened) -> None:
    plant(opened)
    queries = Queries(opened.store, opened.path, {}, trio.lowlevel.checkpoint, Scrubber(opened.store), lambda: None)
    index = opened.store.index
    index._await_commit()
    finish(queries.present(None)).close()
    spare_bytes, index._room.spare_bytes = index._room.spare_bytes, 0
    with pytest.raises(IndexFull):
        finish(queries.present(None))
    index._room.spare_bytes = spare_bytes


def test_it_says_of_which_roots_something_may_be_missing(shared: Opened) -> None:
    (shared.disks["hot"] / "found").mkdir()
    (shared.disks["hot"] / "found" / "file").write_bytes(b"x")
    shared.find("resources/hot/found")
    shared.store.index.commit()
    with closing(presence(shared)) as there:
        assert "resources/hot/found/file" not in paths(list(there))
        assert there.partial == {"hot"}
    with closing(presence(shared, "resources/cold")) as there:
        assert paths(list(there)) == ["resources/cold"]
        assert not there.partial
    for directory in (HOT, f"{HOT}/found"):
        finish(refreshing.refresh(shared.store, shared.find(directory)))
    shared.store.index.commit()
    with closing(presence(shared)) as there:
        assert f"{HOT}/found/file" in paths(list(there))
        assert not there.partial
