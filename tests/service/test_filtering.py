"""Who asks for some paths or roots is told of all that changes what a snapshot of them shows."""

from __future__ import annotations

import json
from contextlib import closing, nullcontext
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
import trio

from fusestore.control.filters import Filter
from fusestore.control.known import Known
from fusestore.control.snapshots import Snapshots
from fusestore.jobs.scrubber import Scrubber
from fusestore.service import describing, refreshing
from fusestore.service.presenting import Presence
from fusestore.service.queries import Queries
from tests.support.byhand import finish

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT = "resources/hot"
pytestmark = pytest.mark.timeout(60)


def shown(opened: Opened, wanted: Filter) -> tuple[set[str], int]:
    """The names that a watcher with this filter is shown, and after which event."""
    opened.store.index.commit()
    with closing(Presence(opened.store, wanted.paths)) as there:
        return {each["path"] for each in there if wanted.shows(each)}, there.seq


def fed(opened: Opened, wanted: Filter, since: int) -> list[tuple[str, str]]:
    """What it is told after that."""
    events = [describing.event(each) for each in opened.store.index.events(since, 10_000)]
    return [(each["kind"], each["path"]) for each in events if wanted.passes(each)]


def test_who_watches_a_root_hears_that_what_it_was_shown_there_is_gone(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.settle()
    opened.rename(f"{HOT}/a", "resources/cold/a")  # its bytes have yet to follow
    cold = Filter(roots=frozenset({"cold"}))
    before, seq = shown(opened, cold)
    assert "resources/cold/a" in before
    opened.unlink("resources/cold/a")
    after, _ = shown(opened, cold)
    assert "resources/cold/a" not in after
    assert ("removed", "resources/cold/a") in fed(opened, cold, seq)


def test_who_watches_a_root_hears_of_a_content_that_it_was_shown_there(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.settle()
    opened.rename(f"{HOT}/a", "resources/cold/a")
    cold = Filter(roots=frozenset({"cold"}))
    before, seq = shown(opened, cold)
    assert "resources/cold/a" in before
    opened.write("resources/cold/a", b"other")
    opened.settle()
    assert ("finalized", "resources/cold/a") in fed(opened, cold, seq)


def test_who_watches_a_path_hears_of_a_file_that_has_another_name_too(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/mine")
    opened.write(f"{HOT}/a", b"x")
    opened.link(f"{HOT}/a", f"{HOT}/mine/b")
    opened.settle()
    mine = Filter(paths=(f"{HOT}/mine",))
    before, seq = shown(opened, mine)
    assert f"{HOT}/mine/b" in before
    opened.write(f"{HOT}/mine/b", b"other")  # by the very name that is watched
    opened.settle()
    assert fed(opened, mine, seq)


def test_who_watches_a_path_hears_that_it_was_found_on_the_disk(shared: Opened) -> None:
    (shared.disks["hot"] / "run").mkdir()
    shared.find(f"{HOT}/run")
    path = Filter(paths=(f"{HOT}/run/a",))
    (shared.disks["hot"] / "run" / "a").write_bytes(b"x")
    before, seq = shown(shared, path)
    assert not before
    finish(refreshing.refresh(shared.store, shared.find(f"{HOT}/run")))  # somebody lists the directory
    after, _ = shown(shared, path)
    assert after == {f"{HOT}/run/a"}
    assert fed(shared, path, seq)


def asked_of(opened: Opened) -> Queries:
    asked = Queries(opened.store, opened.path, {}, trio.lowlevel.checkpoint, Scrubber(opened.store), lambda: None)
    asked.scratch = BytesIO  # type: ignore[method-assign]
    return asked


def known_of(opened: Opened, wanted: Filter) -> dict[str, int]:
    """What whoever has just read a snapshot knows."""
    opened.store.index.commit()
    with closing(Presence(opened.store, wanted.paths)) as there:
        return {each["id"]: there.seq for each in there if wanted.shows(each)}


def differing(opened: Opened, wanted: Filter, manifest: dict[str, int]) -> list[dict[str, Any]]:
    """What `events.sync` tells whoever knows this."""
    asked = asked_of(opened)
    known = Known(asked)
    finish(known.add(manifest))
    finish(known.rewind())
    opened.store.index._await_commit()
    snapshots = Snapshots(asked)
    snapshots._turn = nullcontext()  # type: ignore[assignment]
    spool = finish(snapshots.compare(wanted, known, opened.store.index.epoch))
    return [json.loads(line) for line in finish(spool.next()).splitlines()]


def test_what_differs_tells_that_a_directory_above_what_is_asked_for_has_another_name(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/t")
    opened.mkdir(f"{HOT}/t/u")
    opened.write(f"{HOT}/t/u/b", b"x")
    opened.settle()
    wanted = Filter(paths=(f"{HOT}/t/u",))
    manifest = known_of(opened, wanted)
    assert len(manifest) == 2  # u, and b in it
    since = opened.store.index.last_seq
    opened.rename(f"{HOT}/t", f"{HOT}/elsewhere")
    assert ("renamed", f"{HOT}/elsewhere") in fed(opened, wanted, since)  # whoever listens is told
    assert differing(opened, wanted, manifest), "neither u nor b is below the path any more"


def test_what_differs_tells_a_further_name_that_has_come_below_what_is_asked_for(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/p")
    opened.mkdir(f"{HOT}/q")
    opened.write(f"{HOT}/p/f", b"x")
    opened.link(f"{HOT}/p/f", f"{HOT}/q/g")
    opened.settle()
    wanted = Filter(paths=(f"{HOT}/p",))
    manifest = known_of(opened, wanted)
    opened.rename(f"{HOT}/q", f"{HOT}/p/q")
    told = differing(opened, wanted, manifest)
    assert f"{HOT}/p/q/g" in {path for line in told for path in line["data"].get("paths", ())}
