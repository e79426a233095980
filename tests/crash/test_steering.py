"""A death before each recorded step while moves are paused, resumed and cancelled: each is done or not done."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import pytest

from fusestore.model import Move, MoveState, Outside
from fusestore.service import cancelling, steering
from tests.crash.test_every_step import Death, Killed
from tests.support.byhand import by_hand, finish
from tests.support.calls import ME
from tests.support.opened import Opened, two_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(250)
HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"


@pytest.fixture(scope="module")
def devices() -> Iterator[tuple[Path, Path]]:
    with two_devices() as folders, by_hand():
        yield folders


@contextlib.contextmanager
def on_its_way(devices: tuple[Path, Path], target: str, steps: int) -> Iterator[Opened]:
    """A small tree whose names went from hot to `target`, some steps ago."""
    opened = Opened(*devices, outside=Outside.NONE)
    try:
        opened.mkdir(f"{HOT}/t")
        opened.mkdir(f"{HOT}/t/u")
        for name in ("t/a", "t/u/b"):
            opened.write(f"{HOT}/{name}", name.encode())
        opened.link(f"{HOT}/t/a", f"{HOT}/t/u/c")
        opened.settle()
        opened.rename(f"{HOT}/t", f"{target}/t")
        opened.step(steps)
        yield opened
    finally:
        opened.close()
        opened.remove()


def first_move(opened: Opened) -> Move:
    return opened.store.index.moves()[0]


def contents(opened: Opened) -> dict[str, object]:
    """What is in the tree, wherever it is called."""
    top = HOT if opened.exists(f"{HOT}/t") else COLD if opened.exists(f"{COLD}/t") else WARM
    return {path[len(top) :]: what for path, what in opened.snapshot().items() if path.startswith(f"{top}/t")}


def dies(opened: Opened, at: int, work: Callable[[], None]) -> bool:
    """Do `work` up to its death; False when it ran through."""
    death = Death(at)
    death.await_in(opened.store)
    try:
        work()
    except Killed:
        opened.crash()
        with contextlib.suppress(Killed):  # recovery may die too
            opened.open(wrap=Death(at % 5 + 1).await_in)
        opened.crash()
        opened.open()
        opened.check()
        return True
    death.at = sys.maxsize
    return False


def cancel(opened: Opened) -> None:
    finish(cancelling.cancel(opened.store, first_move(opened), ME))


@pytest.mark.parametrize("target", [COLD, WARM])
@pytest.mark.parametrize("steps", [0, 7, *(pytest.param(steps, marks=pytest.mark.long) for steps in (20, 34))])
def test_a_cancel_is_whole_or_has_not_happened(devices: tuple[Path, Path], target: str, steps: int) -> None:
    for at in range(1, 500):
        with on_its_way(devices, target, steps) as opened:
            want = contents(opened)
            if first_move(opened).state is MoveState.DONE:
                return

            def work(opened: Opened = opened) -> None:
                cancel(opened)
                opened.rest()

            died = dies(opened, at, work)
            assert contents(opened) == want
            went_back = opened.exists(f"{HOT}/t")
            assert went_back is (first_move(opened).state is MoveState.CANCELLED)
            assert went_back is not opened.exists(f"{target}/t")
            if not went_back:
                cancel(opened)
            opened.rest()
            opened.check()
            opened.assert_at_home()
            assert contents(opened) == want
            if not died:
                return
    raise AssertionError("the cancel never ran through")


@pytest.mark.parametrize("steps", [0, pytest.param(7, marks=pytest.mark.long)])
def test_a_pause_is_recorded_or_has_not_happened(devices: tuple[Path, Path], steps: int) -> None:
    for at in range(1, 500):
        with on_its_way(devices, COLD, steps) as opened:
            want = contents(opened)

            def work(opened: Opened = opened) -> None:
                steering.pause(opened.store, first_move(opened), ME)
                opened.step(3)
                steering.resume(opened.store, first_move(opened), ME)
                opened.step(9)
                steering.pause(opened.store, first_move(opened), ME)
                opened.step(9)

            died = dies(opened, at, work)
            assert contents(opened) == want
            if first_move(opened).state is MoveState.PAUSED:
                opened.step(30)
                disks = opened.on_disk("cold"), opened.on_disk("hot")
                opened.step(10)
                assert (opened.on_disk("cold"), opened.on_disk("hot")) == disks
                steering.resume(opened.store, first_move(opened), ME)
            opened.rest()
            opened.check()
            opened.assert_at_home()
            assert contents(opened) == want
            assert first_move(opened).state is MoveState.DONE
            if not died:
                return
    raise AssertionError("the pause never ran through")
