"""A root is emptied: each file gets a verified copy elsewhere before the one there goes, and no name changes."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from fusestore.core.ports import Space
from fusestore.errors import InvalidRequest, LastCopy, RootDrained, RootOffline
from fusestore.model import ReplicaState
from fusestore.service import absence, describing, draining, dropping, emptying, remains, replicating
from fusestore.service.emptying import OPEN_FOR_WRITING, Needs
from tests.support.byhand import Job, finish

if TYPE_CHECKING:
    from fusestore.core.ports import Driver
    from tests.support.opened import Opened

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"


def root(opened: Opened, name: str) -> Driver:
    return replicating.named(opened.store, name)


def state(opened: Opened, name: str = "hot") -> dict[str, object]:
    known = describing.drain(opened.store, root(opened, name))
    assert known is not None
    return known


def files_on(opened: Opened, name: str) -> list[str]:
    return sorted(path for path, what in opened.on_disk(name).items() if isinstance(what, bytes))


def times_of_directories(opened: Opened) -> dict[str, int]:
    return {path: opened.stat(path).mtime_ns for path, number in opened.walk() if opened.store.inode(number).is_dir}


def furnish(opened: Opened) -> None:
    """Files of every kind below hot, at rest."""
    opened.mkdir(f"{HOT}/d")
    for name in ("a", "d/b", "d/empty"):
        opened.write(f"{HOT}/{name}", name.encode() if name != "d/empty" else b"")
    opened.link(f"{HOT}/a", f"{HOT}/d/link")
    opened.symlink(f"{HOT}/s", "a")
    opened.write(f"{WARM}/w", b"kept on hot too")
    opened.settle()
    opened.replicate(f"{WARM}/w", "hot")
    opened.rest()


def test_every_file_leaves_and_nothing_that_a_program_sees_changes(opened: Opened) -> None:
    furnish(opened)
    before, times = opened.snapshot(), times_of_directories(opened)
    assert opened.drain("hot")
    assert not opened.drain("hot")
    assert state(opened)["state"] == "draining"
    opened.rest()
    assert state(opened)["state"] == "drained"
    assert str(state(opened)["proof"]).startswith("3 files are on other roots; no file is left")
    assert files_on(opened, "hot") == []
    assert opened.snapshot() == before
    assert times_of_directories(opened) == times
    kinds = [event.kind for event in opened.store.index.events(0, 1000)]
    assert [kind for kind in kinds if kind.startswith("drain")] == ["drain-started", "drain-done"]
    opened.assert_at_home()


def test_a_drained_disk_can_go_and_names_and_contents_go_on(opened: Opened) -> None:
    furnish(opened)
    opened.drain("hot")
    opened.rest()
    before = opened.snapshot()
    gone = root(opened, "hot")
    gone.online = False
    opened.store.places.forget_root(gone)
    assert opened.snapshot() == before
    opened.rename(f"{HOT}/d/b", f"{HOT}/c")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.write(f"{HOT}/d/empty", b"not any more")
    opened.write(f"{HOT}/new", b"elsewhere")
    opened.unlink(f"{HOT}/d/link")
    opened.rest()
    assert [opened.read(f"{HOT}/{name}") for name in ("c", "d/empty", "new")] == [b"d/b", b"not any more", b"elsewhere"]
    assert opened.read(f"{COLD}/a") == b"a"
    with pytest.raises(RootOffline):
        opened.mkdir(f"{HOT}/e")
    with pytest.raises(RootOffline):
        opened.unlink(f"{HOT}/s")
    gone.online = True
    assert files_on(opened, "hot") == []


def test_new_files_below_it_lie_on_another_root_at_once(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.drain("hot", "warm")
    opened.write(f"{HOT}/d/new", b"new")
    opened.settle()
    assert files_on(opened, "hot") == []
    assert [what for what in opened.on_disk("warm").values() if isinstance(what, bytes)] == [b"new"]
    opened.rename(f"{HOT}/d/new", f"{HOT}/renamed")
    assert not opened.store.index.has_open_moves()
    opened.crash()
    opened.open()
    opened.rest()
    assert opened.read(f"{HOT}/renamed") == b"new"
    assert state(opened)["state"] == "drained"
    opened.assert_at_home()


def test_nothing_can_be_made_below_it_when_no_other_root_takes_files(opened: Opened) -> None:
    opened.drain("hot", "warm")
    root(opened, "warm").read_only = True
    with pytest.raises(RootDrained) as caught:
        opened.write(f"{HOT}/new", b"")
    assert "drain --stop" in str(caught.value)
    root(opened, "warm").read_only = False


def test_it_is_refused_what_cannot_be_drained_or_drained_to(opened: Opened) -> None:
    with pytest.raises(InvalidRequest, match="resource roots"):
        opened.drain("uploads")
    for to, why in (("hot", "hot is the root that is to be emptied"), ("uploads", "nothing can be put on uploads")):
        with pytest.raises(InvalidRequest, match=why):
            opened.drain("hot", to)
    opened.drain("cold")
    with pytest.raises(InvalidRequest, match="cold"):
        opened.drain("hot", "cold")
    opened.write(f"{HOT}/a", b"a")
    with pytest.raises(RootDrained):
        opened.replicate(f"{HOT}/a", "cold")


def test_the_plan_says_what_then_happens_and_changes_nothing(opened: Opened) -> None:
    furnish(opened)
    opened.replicate(f"{HOT}/d/b", "warm")
    opened.rest()
    seq = opened.store.index.last_seq
    hot = root(opened, "hot")
    plan = finish(emptying.plan(opened.store, hot, ()))
    assert opened.store.index.last_seq == seq
    assert opened.store.drains == {}
    names = {opened.store.roots[number].name: figures for number, figures in plan.targets.items()}
    assert (plan.ready, plan.held, plan.stays) == ((2, 18), {}, 2)  # d/b, and the replica of w
    assert sum(files for files, _ in names.values()) == 2
    opened.drain("hot")
    opened.rest()
    went = {name: [0, 0] for name in names}
    for path in ("a", "d/empty"):
        inode = opened.stat(f"{HOT}/{path}")
        (spot,) = opened.store.placement.spots(inode.number)
        went[opened.store.roots[spot.root].name][0] += 1
        went[opened.store.roots[spot.root].name][1] += inode.size
    assert {name: tuple(figures) for name, figures in went.items()} == names


def test_a_root_on_another_device_comes_first_and_to_limits_the_choice(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"a")
    opened.settle()
    hot, cold, warm = (root(opened, name) for name in ("hot", "cold", "warm"))
    assert list(finish(emptying.plan(opened.store, hot, ())).targets) == [cold.number]
    assert list(finish(emptying.plan(opened.store, hot, (warm.number,))).targets) == [warm.number]
    opened.drain("hot", "warm")
    opened.rest()
    assert opened.store.root_of(opened.find(f"{HOT}/a")) is warm


def test_a_further_drain_without_to_keeps_the_roots_it_goes_to(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"a")
    opened.settle()
    hot, main, warm = (root(opened, name) for name in ("hot", "main", "warm"))
    assert opened.drain("hot", "warm")
    assert not opened.drain("hot")
    assert state(opened)["to"] == ["warm"]
    assert draining.check(opened.store, hot, ()) == (warm.number,)  # what `--plan` asks
    assert opened.drain("hot", "main")
    opened.rest()
    assert opened.store.root_of(opened.find(f"{HOT}/a")) is main
    assert not opened.drain("hot")
    assert state(opened)["to"] == ["main"]


@pytest.fixture
def away(opened: Opened) -> Opened:
    """warm/w, whose place is a copy on hot since the one on warm was dropped."""
    opened.write(f"{WARM}/w", b"away from home")
    opened.settle()
    opened.replicate(f"{WARM}/w", "hot")
    opened.rest()
    opened.drop(f"{WARM}/w", "warm")
    assert opened.root_of(f"{WARM}/w") == "hot"
    return opened


@pytest.mark.parametrize("to", [(), ("warm",), ("cold", "warm")])
def test_a_file_that_was_dropped_at_home_goes_home_again(away: Opened, to: tuple[str, ...]) -> None:
    before = away.snapshot()
    away.drain("hot", *to)
    away.rest()
    away.rest()
    assert state(away)["state"] == "drained"
    assert (files_on(away, "hot"), away.on_disk("warm")) == ([], {"w": b"away from home"})
    assert away.snapshot() == before
    assert away.replicas(f"{WARM}/w") == {}
    away.assert_at_home()


def test_a_file_that_was_dropped_at_home_goes_where_it_may_and_can(
    away: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    away.drain("hot", "cold")
    away.rest()
    assert state(away)["state"] == "drained"
    assert away.root_of(f"{WARM}/w") == "cold"
    away.drain("cold", "warm", "main")
    warm = root(away, "warm")
    with monkeypatch.context() as patch:
        patch.setattr(warm, "space", lambda: Space(total=1 << 30, free=5, available=5, files=9, files_free=9))
        away.rest()
    assert state(away, "cold")["state"] == "drained"
    assert away.root_of(f"{WARM}/w") == "main"
    away.drain("warm")
    away.drain("main")
    assert list(finish(emptying.plan(away.store, root(away, "main"), ())).held.values()) == [emptying.NO_ROOT]


def test_the_plan_says_that_a_file_goes_home_again(away: Opened) -> None:
    warm = root(away, "warm")
    plan = finish(emptying.plan(away.store, root(away, "hot"), ()))
    assert (plan.targets, plan.held) == ({warm.number: (1, 14)}, {})
    assert not away.store.index.has_open_moves()


def test_what_keeps_a_file_from_going_home_again_is_told(away: Opened) -> None:
    (away.disks["warm"] / "w").write_bytes(b"somebody's")
    away.drain("hot", "warm")
    away.empty()
    for _ in range(20):
        away.step()
    away.empty()
    assert "is in the way" in str(state(away)["held"])
    assert (away.disks["warm"] / "w").read_bytes() == b"somebody's"
    assert away.read(f"{WARM}/w") == b"away from home"
    (away.disks["warm"] / "w").unlink()
    away.rest()
    assert state(away)["state"] == "drained"
    assert away.on_disk("warm") == {"w": b"away from home"}
    away.assert_at_home()


def test_without_room_it_waits_and_says_so_and_goes_on_when_there_is(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.write(f"{HOT}/a", b"a" * 100)
    opened.settle()
    cold, hot = root(opened, "cold"), root(opened, "hot")
    with monkeypatch.context() as patch:
        patch.setattr(cold, "space", lambda: Space(total=1 << 30, free=50, available=50, files=9, files_free=9))
        held = finish(emptying.plan(opened.store, hot, (cold.number,)))
        assert (held.targets, held.held) == ({}, {b"resources/hot/a": emptying.NO_ROOT})
        opened.drain("hot", "cold")
        opened.rest()
        assert state(opened)["held"] == [{"path": f"{HOT}/a", "reason": emptying.NO_ROOT}]
        assert files_on(opened, "hot") == ["a"]
    opened.rest()
    assert state(opened)["state"] == "drained"


def test_a_target_that_goes_away_is_replaced_by_another(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"a")
    opened.settle()
    cold, hot = root(opened, "cold"), root(opened, "hot")
    opened.drain("hot")
    number = opened.find(f"{HOT}/a")
    opened.drainer.want(hot, [number], {number: set()})
    assert opened.replicas(f"{HOT}/a") == {"cold": "wanted"}
    cold.online = False
    opened.rest()
    cold.online = True
    opened.rest()
    assert state(opened)["state"] == "drained"
    place = opened.store.root_of(number)
    assert place is not None
    assert place.name in ("warm", "main")


def test_a_target_that_refuses_a_file_is_replaced_by_another(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.write(f"{HOT}/a", b"a")
    opened.settle()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(root(opened, "cold"), "incoming", refuse)
    opened.drain("hot")
    opened.rest()
    assert state(opened)["state"] == "drained"
    place = opened.store.root_of(opened.find(f"{HOT}/a"))
    assert place is not None
    assert place.name in ("warm", "main")


def test_a_writer_delays_its_own_file_and_a_reader_none(opened: Opened) -> None:
    for name in "abc":
        opened.write(f"{HOT}/{name}", name.encode())
    opened.settle()
    writing = opened.open_file(f"{HOT}/a", write=True)
    reading = opened.open_file(f"{HOT}/b")
    opened.drain("hot")
    opened.write_at(writing, b"longer", 0)
    opened.rest()
    assert files_on(opened, "hot") == ["a"]
    assert state(opened)["held"] == [{"path": f"{HOT}/a", "reason": OPEN_FOR_WRITING}]
    assert opened.read_at(reading, 10, 0) == b"b"
    opened.release(writing)
    opened.release(reading)
    opened.rest()
    assert state(opened)["state"] == "drained"
    assert opened.read(f"{HOT}/a") == b"longer"


def test_what_is_not_in_the_index_is_adopted_first_and_what_cannot_be_is_named(shared: Opened) -> None:
    shared.write(f"{HOT}/a", b"a")
    shared.settle()
    disk = shared.disks["hot"]
    (disk / "sub").mkdir()
    (disk / "sub" / "unseen").write_bytes(b"never listed")
    shared.drain("hot")
    shared.rest()
    assert state(shared)["state"] == "drained"
    assert shared.read(f"{HOT}/sub/unseen") == b"never listed"
    (disk / "a").write_bytes(b"in the place of what has left")
    assert finish(remains.look_through(shared.store, root(shared, "hot"))).hidden == [b"resources/hot/a"]
    (disk / "a").unlink()
    (disk / "late").write_bytes(b"put there when it was empty")
    shared.names(HOT)
    assert state(shared)["state"] == "draining"
    shared.rest()
    assert state(shared)["state"] == "drained"
    assert shared.read(f"{HOT}/late") == b"put there when it was empty"


def test_what_else_is_on_the_disk_is_named_and_whether_the_disk_is_needed(keeping: Opened) -> None:
    opened = keeping
    for top in (HOT, COLD):
        opened.write(f"{top}/removed", b"removed")
        opened.settle()
        opened.unlink(f"{top}/removed")
    opened.rest()
    for name in ("hot", "cold"):
        area = opened.disks[name] / ".fusestore"
        for own in ("manifest", "manifest.new", "incoming/staged"):
            (area / own).parent.mkdir(exist_ok=True)
            (area / own).write_bytes(b"the daemon's")
    for stranger in (b"notes", b"trash/b", b"trash/c", b"\xff"):
        with open(os.path.join(os.fsencode(opened.disks["cold"]), b".fusestore", stranger), "wb"):
            pass
    opened.drain("hot")
    opened.rest()
    opened.drain("cold")
    opened.rest()
    hot, cold = str(state(opened)["proof"]), str(state(opened, "cold")["proof"])
    assert "1 file in its trash goes" in hot
    assert "did not put there" not in hot
    assert "its disk can be pulled" not in hot  # warm is on it
    assert "warm" in hot
    assert "4 files that fusestore did not put there" in cold
    assert ".fusestore/notes" in cold
    assert "and 1 more" in cold
    assert cold.endswith("its disk can be pulled")


def test_a_file_of_the_same_name_on_the_disk_keeps_it_from_being_called_empty(shared: Opened) -> None:
    shared.write(f"{HOT}/a", b"a")
    shared.settle()
    shared.drain("hot")
    shared._empty(root(shared, "hot"))
    shared.stop_draining("hot")
    (shared.disks["hot"] / "a").write_bytes(b"somebody's")
    shared.drain("hot")
    shared.rest()
    assert state(shared)["held"] == [{"path": f"{HOT}/a", "reason": emptying.HIDDEN}]
    assert (shared.disks["hot"] / "a").read_bytes() == b"somebody's"
    (shared.disks["hot"] / "a").unlink()
    shared.rest()
    assert state(shared)["state"] == "drained"


def test_the_only_good_copy_never_leaves(opened: Opened) -> None:
    """The file's place was damaged on its disk; the replica on the root that is drained is what is left of it."""
    opened.write(f"{WARM}/w", b"precious")
    opened.settle()
    opened.replicate(f"{WARM}/w", "hot")
    opened.rest()
    (opened.disks["warm"] / "w").write_bytes(b"damaged!")
    opened.drain("hot")
    opened.rest()
    assert state(opened)["held"] == [{"path": f"{WARM}/w", "reason": emptying.NOT_WHOLE}]
    assert opened.replicas(f"{WARM}/w") == {"hot": "current"}
    (opened.disks["warm"] / "w").write_bytes(b"precious")
    opened.rest()
    assert state(opened)["state"] == "drained"


def test_a_copy_that_went_bad_is_made_again_before_the_one_here_goes(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"precious")
    opened.settle()
    opened.replicate(f"{HOT}/a", "cold")
    opened.rest()
    cold, number = root(opened, "cold"), opened.find(f"{HOT}/a")
    opened.path_aside(cold.number, number).write_bytes(b"damaged!")
    opened.drain("hot")
    hot = root(opened, "hot")
    assert opened.drainer.want(hot, [number], {number: set()})[number].needs is Needs.NOTHING
    with pytest.raises(LastCopy):
        opened.drop(f"{HOT}/a", "hot")
    record = opened.store.index.replica(number, cold.number)
    assert record is not None
    assert record.state is ReplicaState.BAD
    opened.rest()
    assert state(opened)["state"] == "drained"
    assert opened.read(f"{HOT}/a") == b"precious"


def test_copies_that_a_root_asks_for_are_kept_elsewhere(opened: Opened) -> None:
    opened.close()
    opened.ask_for_copies({"warm": 2})
    opened.open()
    opened.write(f"{WARM}/w", b"twice")
    opened.settle()
    opened.make_replicas()
    (holder,) = opened.replicas(f"{WARM}/w")
    opened.drain(holder)
    opened.rest()
    assert state(opened, holder)["state"] == "drained"
    (other,) = opened.replicas(f"{WARM}/w")
    assert other != holder
    opened.assert_at_home()


def test_moves_that_leave_it_go_on_and_those_to_it_wait(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"leaves")
    opened.write(f"{WARM}/b", b"comes")
    opened.write(f"{COLD}/c", b"comes too")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.drain("hot")
    opened.rename(f"{WARM}/b", f"{HOT}/b")
    opened.rename(f"{COLD}/c", f"{HOT}/c")
    for _ in range(20):
        opened.step()
    waiting = opened.store.index.moves(open_only=True)
    assert {move.reason for move in waiting} == {str(RootDrained("hot"))}
    assert [opened.read(f"{HOT}/{name}") for name in "bc"] == [b"comes", b"comes too"]
    opened.settle()
    opened.empty()
    assert state(opened)["state"] == "drained"
    assert opened.stop_draining("hot")
    opened.rest()
    assert files_on(opened, "hot") == ["b", "c"]
    opened.assert_at_home()


@pytest.mark.parametrize("what", ["moved", "replicated"])
@pytest.mark.parametrize("steps", range(1, 9))
def test_a_copy_that_is_being_made_when_it_begins_does_not_land(opened: Opened, what: str, steps: int) -> None:
    opened.write(f"{COLD}/a", b"on its way when the disk is to be empty")
    opened.settle()
    if what == "moved":
        opened.rename(f"{COLD}/a", f"{HOT}/a")
        opened.step(steps)
        making = None
    else:
        opened.replicate(f"{COLD}/a", "hot")
        making = Job(opened.replicator.make(root(opened, "hot").number, [opened.find(f"{COLD}/a")]))
        for _ in range(steps):
            if not making.is_over:
                making.step()
    opened.drain("hot")
    opened.empty()
    drained = state(opened)["state"] == "drained"
    opened.step(20)
    if making is not None:
        while not making.is_over:
            making.step()
    left = [path for path in files_on(opened, "hot") if "incoming" not in path]
    assert not (drained and left)
    assert opened.read(f"{HOT}/a" if what == "moved" else f"{COLD}/a") == b"on its way when the disk is to be empty"
    opened.stop_draining("hot")
    opened.rest()
    opened.assert_at_home()


def test_stopping_leaves_everything_where_it_is_and_wants_no_further_copies(opened: Opened) -> None:
    for name in "ab":
        opened.write(f"{HOT}/{name}", name.encode())
    opened.settle()
    opened.drain("hot")
    hot, numbers = root(opened, "hot"), [opened.find(f"{HOT}/{name}") for name in "ab"]
    opened.drainer.want(hot, numbers, {number: set() for number in numbers})
    finish(opened.replicator.make(root(opened, "cold").number, numbers[:1]))
    finish(opened.drainer.give_up(hot, iter(numbers[:1])))
    assert opened.stop_draining("hot")
    assert not opened.stop_draining("hot")
    opened.drainer.withdraw(hot, numbers, {number: set() for number in numbers}, every=True)
    opened.rest()
    assert files_on(opened, "hot") == ["b"]
    assert opened.store.root_of(numbers[0]) is root(opened, "cold")
    assert opened.replicas(f"{HOT}/b") == {}
    opened.write(f"{HOT}/c", b"c")
    opened.settle()
    assert files_on(opened, "hot") == ["b", "c"]


def test_it_outlives_the_daemon(opened: Opened) -> None:
    furnish(opened)
    before = opened.snapshot()
    opened.drain("hot", "cold")
    opened.crash()
    opened.open()
    assert state(opened)["to"] == ["cold"]
    opened.rest()
    assert opened.snapshot() == before
    opened.close()
    opened.open()
    assert state(opened)["state"] == "drained"
    assert draining.takes(opened.store, root(opened, "hot")) is False
    assert not any(
        dropping.has_copy(opened.store, number, root(opened, "hot").number)
        for _, number in opened.walk(HOT)
        if opened.store.inode(number).is_regular
    )


def test_a_disk_is_let_go_of_when_its_root_is_drained_and_not_missed_until_that_is_stopped(opened: Opened) -> None:
    furnish(opened)
    with pytest.raises(InvalidRequest, match="not drained"):
        opened.let_go("hot")
    opened.drain("hot")
    with pytest.raises(InvalidRequest, match="not drained"):
        opened.let_go("hot")
    opened.rest()
    before = opened.snapshot()
    opened.let_go("hot")
    opened.let_go("hot")
    assert not root(opened, "hot").is_open
    assert opened.snapshot() == before
    opened.write(f"{HOT}/new", b"elsewhere")
    with pytest.raises(RootOffline):
        opened.mkdir(f"{HOT}/e")
    opened.settle()
    hidden = opened.disks["hot"].rename(opened.disks["hot"].with_name("hidden"))
    for stop in (opened.close, opened.crash):
        stop()
        opened.open()
        shown = describing.root(opened.store, root(opened, "hot"))
        assert (shown["state"], shown["reason"]) == ("drained", "")
    assert not opened.drain("hot")
    hidden.rename(opened.disks["hot"])
    assert opened.stop_draining("hot")
    finish(absence.come_back(opened.store, root(opened, "hot")))
    opened.mkdir(f"{HOT}/e")
    opened.assert_at_home()


def test_a_drain_to_other_roots_takes_a_disk_that_was_let_go_of_into_use_again(opened: Opened) -> None:
    opened.drain("hot", "warm")
    opened.rest()
    opened.let_go("hot")
    assert opened.drain("hot", "cold")
    assert not draining.is_released(opened.store, root(opened, "hot").number)


def test_a_disk_is_not_let_go_of_while_a_removed_file_on_it_is_open(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"a")
    opened.settle()
    fh = opened.open_file(f"{HOT}/a")
    opened.unlink(f"{HOT}/a")
    opened.drain("hot")
    opened.rest()
    with pytest.raises(InvalidRequest, match="was removed"):
        opened.let_go("hot")
    opened.release(fh)
    opened.let_go("hot")
