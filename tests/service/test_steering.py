"""What an operator does with moves: pause, resume, retry, cancel; and what is to be seen of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from fusestore.errors import FusestoreError, MoveRefused, NoMove
from fusestore.jobs.scrubber import Scrubber
from fusestore.model import Move, MoveState
from fusestore.roots import copy
from fusestore.roots.hashing import BLOCK_BYTES, Hasher
from fusestore.service import cancelling, moving
from fusestore.service.queries import Queries
from tests.support.byhand import finish
from tests.support.calls import ME

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.model import Event, MoveNo
    from tests.support.opened import Opened

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"


async def nothing() -> None:
    """There is no hasher to wait for."""


def queries(opened: Opened) -> Queries:
    return Queries(opened.store, opened.path, opened.store.running, nothing, Scrubber(opened.store), lambda: None)


def on_its_way(opened: Opened, content: bytes = b"content") -> MoveNo:
    opened.write(f"{HOT}/a", content)
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    return opened.store.index.last_move


def tree_on_its_way(opened: Opened, files: int = 6) -> MoveNo:
    opened.mkdir(f"{HOT}/t")
    opened.mkdir(f"{HOT}/t/u")
    for number in range(files):
        opened.write(f"{HOT}/t/u/{number}", b"x" * (number + 1))
    opened.settle()
    opened.rename(f"{HOT}/t", f"{COLD}/t")
    return opened.store.index.last_move


def move(opened: Opened, number: MoveNo) -> Move:
    found = opened.store.index.move(number)
    assert found is not None
    return moving.current(opened.store, found)


def steer(opened: Opened, verb: str, what: str | int | None = None) -> None:
    steered(opened, verb, what)


def steered(opened: Opened, verb: str, what: str | int | None = None) -> list[dict[str, Any]]:
    return finish(queries(opened).steer(verb, what, ME))


def cancel(opened: Opened, number: MoveNo) -> None:
    finish(cancelling.cancel(opened.store, move(opened, number), ME))


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def news(opened: Opened, since: int) -> list[Event]:
    """The events after `since`."""
    return opened.store.index.events(since, 1000)


def outcomes(opened: Opened, path: str) -> list[str]:
    entries = opened.store.index.journal(opened.stat(path).id)
    return [entry.outcome for entry in entries if entry.command == "move"]


def test_a_paused_move_stands_still_and_goes_on_where_it_was(opened: Opened) -> None:
    number = tree_on_its_way(opened)
    opened.step(8)
    steer(opened, "pause", number)
    opened.step(60)
    still = opened.on_disk("cold"), opened.on_disk("hot")
    opened.step(60)
    assert (opened.on_disk("cold"), opened.on_disk("hot")) == still
    assert (move(opened, number).state, move(opened, number).reason) == (MoveState.PAUSED, "paused")
    assert opened.read(f"{COLD}/t/u/3") == b"xxxx"
    steer(opened, "resume", number)
    opened.rest()
    opened.assert_at_home()
    assert move(opened, number).state is MoveState.DONE


def test_a_move_can_be_paused_and_resumed_at_any_step(opened: Opened) -> None:
    for steps in range(1, 60):
        number = on_its_way(opened)
        opened.step(steps)
        if move(opened, number).state is MoveState.DONE:
            return
        steer(opened, "pause", number)
        opened.step(steps % 3)  # resumed before its worker noticed, or after
        steer(opened, "resume", number)
        opened.rest()
        opened.assert_at_home()
        opened.unlink(f"{COLD}/a")
    raise AssertionError("the move never ended by itself")


def test_a_copy_in_the_middle_stops_at_its_next_block(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    number = on_its_way(opened, b"x" * (5 * BLOCK_BYTES))
    seen: list[int] = []

    def pause_after_two(size: int) -> None:
        seen.append(size)
        if len(seen) == 2:
            steer(opened, "pause", number)

    copy_bytes = copy._copy_bytes

    def watched_copy(source: int, target: int, size: int, hasher: Hasher, progress: Callable[[int], None]) -> None:
        def both(done: int) -> None:
            pause_after_two(done)
            progress(done)

        copy_bytes(source, target, size, hasher, both)

    monkeypatch.setattr(copy, "_copy_bytes", watched_copy)
    opened.step(40)
    assert seen == [BLOCK_BYTES, 2 * BLOCK_BYTES]
    assert move(opened, number).state is MoveState.PAUSED
    assert move(opened, number).bytes_done == 0
    assert os.listdir(opened.disks["cold"] / ".fusestore" / "incoming") == []


def test_a_pause_survives_a_crash_and_an_orderly_end(opened: Opened) -> None:
    number = tree_on_its_way(opened)
    opened.step(5)
    steer(opened, "pause", number)
    opened.crash()
    opened.open()
    assert move(opened, number).state is MoveState.PAUSED
    opened.close()
    opened.open()
    assert move(opened, number).state is MoveState.PAUSED
    steer(opened, "resume", "resources/cold/t")
    opened.rest()
    opened.assert_at_home()


def test_each_step_of_a_moves_life_is_an_event_and_what_people_did_is_history(opened: Opened) -> None:
    number = on_its_way(opened)
    steer(opened, "pause", number)
    steer(opened, "resume", number)
    opened.rest()
    of_move = [event for event in news(opened, 0) if event.move == number]
    assert kinds(of_move) == ["move-queued", "move-paused", "move-queued", "move-running", "arrived", "moved"]
    assert [event.uid for event in of_move[1:3]] == [ME.uid, ME.uid]
    assert outcomes(opened, f"{COLD}/a") == ["begun", "paused", "resumed", "done"]


def test_a_tree_has_one_event_for_each_object_and_three_for_its_move(opened: Opened) -> None:
    number = tree_on_its_way(opened, files=20)
    opened.rest()
    of_move = kinds([event for event in news(opened, 0) if event.move == number])
    assert of_move.count("arrived") == 22
    assert [kind for kind in of_move if kind != "arrived"] == ["move-queued", "move-running", "moved"]


def until_it_waits(opened: Opened, number: MoveNo) -> Move:
    for _ in range(500):
        opened.step()
        if number not in opened.jobs and move(opened, number).state is MoveState.WAITING:
            return move(opened, number)
    raise AssertionError("the move does not come to wait")


def test_what_waits_can_be_tried_now(opened: Opened) -> None:
    (opened.disks["cold"] / "a").write_bytes(b"theirs")
    number = on_its_way(opened)
    until_it_waits(opened, number)
    since, asked = opened.store.index.last_seq, list[object]()
    opened.store.on_retry = asked.append
    steer(opened, "retry")
    assert asked == [number]
    assert kinds(news(opened, since)) == ["move-queued"]
    (opened.disks["cold"] / "a").unlink()
    opened.rest()
    opened.assert_at_home()


def test_all_of_a_kind_can_be_steered_at_once(opened: Opened) -> None:
    for name in "abc":
        opened.write(f"{HOT}/{name}", b"x")
    opened.settle()
    for name in "abc":
        opened.rename(f"{HOT}/{name}", f"{COLD}/{name}")
    steer(opened, "pause", f"{COLD}/b")
    assert [each["number"] for each in steered(opened, "pause")] == [1, 3]
    assert len(steered(opened, "resume")) == 3
    assert steered(opened, "resume") == []
    opened.rest()


@pytest.mark.parametrize(
    ("verb", "what", "error", "sentence"),
    [
        ("resume", 1, MoveRefused, "move 1 is queued, and cannot be resumed"),
        ("retry", 1, MoveRefused, "move 1 is queued, and cannot be tried again"),
        ("pause", 9, NoMove, "There is no such move: 9"),
        ("pause", f"{COLD}/t/u/1", NoMove, "is on its way with 'resources/cold/t', which is move 1"),
        ("pause", HOT, NoMove, "'resources/hot' is not on its way"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    opened: Opened, verb: str, what: str | int, error: type[FusestoreError], sentence: str
) -> None:
    tree_on_its_way(opened)
    log = opened.store.index.last_seq
    with pytest.raises(error, match=sentence):
        steer(opened, verb, what)
    assert opened.store.index.last_seq == log
    opened.rest()
    with pytest.raises(MoveRefused, match="is done, and cannot be paused"):
        steer(opened, "pause", 1)


def test_a_cancelled_move_that_had_not_begun_moves_nothing(opened: Opened) -> None:
    for begun in (on_its_way, tree_on_its_way):
        number = begun(opened)
        before = opened.snapshot()
        since = opened.store.index.last_seq
        cancel(opened, number)
        assert kinds(news(opened, since)) == ["renamed", "move-cancelled"]
        assert move(opened, number).state is MoveState.CANCELLED
        assert not opened.store.index.has_open_moves()
        opened.assert_at_home()
        assert {what[0] for what in opened.snapshot().values()} == {what[0] for what in before.values()}
        assert opened.on_disk("cold") == {}
        name = move(opened, number).old_path.decode()
        assert outcomes(opened, name) == ["begun", "cancelled"]


@pytest.mark.parametrize("steps", [1, 6, 12, 24, 40])
def test_what_had_arrived_of_a_cancelled_move_goes_home_again(opened: Opened, steps: int) -> None:
    number = tree_on_its_way(opened)
    want = {path[len(COLD) :]: what for path, what in opened.snapshot().items()}
    opened.step(steps)
    if move(opened, number).state is MoveState.DONE:
        return
    cancel(opened, number)
    assert {path[len(HOT) :]: what for path, what in opened.snapshot().items()} == want
    assert move(opened, number).state is MoveState.CANCELLED
    opened.rest()
    opened.assert_at_home()
    assert {path[len(HOT) :]: what for path, what in opened.snapshot().items()} == want
    assert opened.on_disk("cold") == {}


def test_mv_back_is_a_cancel_too(opened: Opened) -> None:
    number = on_its_way(opened)
    opened.rename(f"{COLD}/a", f"{HOT}/a")
    assert move(opened, number).state is MoveState.CANCELLED


def test_a_paused_move_can_be_cancelled_and_overtaken(opened: Opened) -> None:
    number = on_its_way(opened)
    steer(opened, "pause", number)
    cancel(opened, number)
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    steer(opened, "pause", f"{COLD}/a")
    opened.rename(f"{COLD}/a", f"{WARM}/a")
    opened.rest()
    opened.assert_at_home()
    states = [each.state for each in opened.store.index.moves()]
    assert states == [MoveState.CANCELLED, MoveState.SUPERSEDED, MoveState.DONE]


def test_a_cancel_is_refused_when_the_old_name_cannot_be_had(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"mine")
    opened.settle()
    opened.rename(f"{HOT}/d/a", f"{COLD}/a")
    number = opened.store.index.last_move
    steer(opened, "pause", number)
    opened.write(f"{HOT}/d/a", b"another")
    opened.settle()
    seen, log = opened.snapshot(), opened.store.index.last_seq
    with pytest.raises(MoveRefused, match="cannot go back to 'resources/hot/d/a': there is something of that name"):
        cancel(opened, number)
    assert (opened.snapshot(), opened.store.index.last_seq) == (seen, log)
    opened.unlink(f"{HOT}/d/a")
    opened.rmdir(f"{HOT}/d")
    with pytest.raises(MoveRefused, match="the directory it was in is gone"):
        cancel(opened, number)
    assert move(opened, number).state is MoveState.PAUSED
    steer(opened, "resume", number)
    opened.rest()
    with pytest.raises(MoveRefused, match="is done, and cannot be cancelled"):
        cancel(opened, number)


def test_a_tree_that_waits_says_how_much_it_is_and_what_failed_is_not_done(shared: Opened) -> None:
    (shared.disks["hot"] / "t").mkdir()
    (shared.disks["cold"] / "t").mkdir()
    for name in "abc":
        (shared.disks["hot"] / "t" / name).write_bytes(b"x" * 100)  # nobody has listed it yet
    shared.find(f"{HOT}/t")
    shared.mkdir(f"{COLD}/new")
    shared.rename(f"{HOT}/t", f"{COLD}/new/t")
    number = shared.store.index.last_move
    (shared.disks["cold"] / "new" / "t").mkdir()
    (shared.disks["cold"] / "new" / "t" / "b").write_bytes(b"theirs")
    for _ in range(2):
        waiting = until_it_waits(shared, number)
        assert (waiting.files_total, waiting.bytes_total) == (3, 300)
        assert (waiting.files_done, waiting.bytes_done) == (0, 0)
    for name in ("b", ""):
        path = shared.disks["cold"] / "new" / "t" / name
        path.unlink() if name else path.rmdir()
    shared.rest()
    shared.assert_at_home()


@pytest.mark.parametrize("at", ["t/big", "big"])
def test_a_file_that_has_just_been_written_counts_with_all_its_bytes(opened: Opened, at: str) -> None:
    opened.mkdir(f"{HOT}/t")
    fh = opened.create(f"{HOT}/{at}")
    opened.write_at(fh, b"x" * 1000)
    opened.release(fh)
    opened.rename(f"{HOT}/{at.partition('/')[0]}", f"{COLD}/t")
    number = opened.store.index.last_move
    opened.step()
    live = opened.store.running[number]
    while not live.files_total:
        opened.step()
    assert live.bytes_total == 1000
    opened.rest()
    done = move(opened, number)
    assert (done.bytes_done, done.bytes_total) == (1000, 1000)


def test_what_another_move_has_in_hand_is_not_counted_as_done(opened: Opened) -> None:
    number = tree_on_its_way(opened)
    opened.mover._claimed.add(opened.find(f"{COLD}/t/u/3"))
    waiting = until_it_waits(opened, number)
    assert (waiting.files_done, waiting.files_total) == (5, 6)
    assert (waiting.bytes_done, waiting.bytes_total) == (21 - 4, 21)
    opened.mover._claimed.clear()
    opened.rest()
