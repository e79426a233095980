"""A death at the n-th step for every n: before each change of the index and each effect on a disk, while scenarios run.

Whatever was interrupted is done or not done, never half; what was acknowledged is there, what was removed is not, and
the store goes on from there to the same end. The scenario that dies nowhere says what each state has to look like.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

import pytest

from fusestore.errors import IndexFull, InvalidRequest, LastCopy, NotFound
from fusestore.model import InodeNo, Outside
from fusestore.service import retrieving, trash
from fusestore.service.renaming import EXCHANGE, NOREPLACE
from tests.support.byhand import by_hand, finish
from tests.support.calls import ME
from tests.support.opened import Opened, two_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusestore.core.intents import Intent
    from fusestore.index.batch import Batch
    from fusestore.model import Trashed
    from fusestore.service.store import Store

    Step = Callable[[Opened], object]

EFFECTS: Final = (
    "create", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "exchange", "chmod", "chown", "utime",
    "setxattr", "removexattr", "sync",
)  # fmt: skip
State = dict[str, tuple[InodeNo, int, int, str | bytes]]  # see `Proofs.snapshot`


class Killed(BaseException):
    """The process ends here."""


class Death:
    """Counts the steps of a store and ends it before one of them; nothing is done any more from then on."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    def await_in(self, store: Store) -> None:
        """Stand between the store and its index and disks."""
        for name in ("begin", "apply", "sync_log"):
            setattr(store.index, name, self._counted(getattr(store.index, name)))
        for root in store.roots.values():
            for name in EFFECTS:
                setattr(root, name, self._counted(getattr(root, name)))

    def _counted(self, step: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **named: object) -> object:
            self.steps += 1
            if self.steps >= self.at:
                raise Killed
            return step(*args, **named)

        return counted


def touch(path: str) -> Step:
    return lambda opened: opened.write(path, b"")


def append(path: str, data: bytes) -> Step:
    """One write at the end: all of it or none of it."""

    def step(opened: Opened) -> None:
        fh = opened.open_file(path, write=True)
        opened.write_at(fh, data, opened.stat(path).size)
        opened.release(fh)

    return step


def mkdir(path: str) -> Step:
    return lambda opened: opened.mkdir(path)


def symlink(path: str) -> Step:
    return lambda opened: opened.symlink(path, "to/somewhere")


def link(old: str, new: str) -> Step:
    return lambda opened: opened.link(old, new)


def unlink(path: str) -> Step:
    return lambda opened: opened.unlink(path)


def rmdir(path: str) -> Step:
    return lambda opened: opened.rmdir(path)


def rename(old: str, new: str, flags: int = 0) -> Step:
    return lambda opened: opened.rename(old, new, flags)


def chmod(path: str, mode: int) -> Step:
    return lambda opened: opened.set(path, mode=mode)


def replicate(path: str, root: str) -> Step:
    """Refused where a death has kept the file from leaving that root."""

    def step(opened: Opened) -> None:
        with contextlib.suppress(InvalidRequest):
            opened.replicate(path, root)

    return step


def drop(path: str, root: str) -> Step:
    """Refused where a death has kept the copies from being made, or has come when this one was dropped."""

    def step(opened: Opened) -> None:
        with contextlib.suppress(LastCopy, NotFound):
            opened.drop(path, root)

    return step


def drain(root: str) -> Step:
    return lambda opened: opened.drain(root)


def stop_draining(root: str) -> Step:
    return lambda opened: opened.stop_draining(root)


def steps(count: int) -> Step:
    """The moves go on a little."""
    return lambda opened: opened.step(count)


def restore(name: str, path: str) -> Step:
    """What was removed or left by this name comes back from the trash."""

    def step(opened: Opened) -> None:
        above, _, last = path.rpartition("/")
        trashed = next(each for each in in_trash(opened) if each.path.endswith(name.encode()))
        finish(retrieving.restore(opened.store, trashed, opened.find(above), last.encode(), ME))

    return step


def in_trash(opened: Opened) -> list[Trashed]:
    return [each for root in opened.store.roots.values() for each in opened.store.index.trash(root.number)]


def empty(opened: Opened) -> None:
    for root in opened.store.roots.values():
        trash.empty(opened.store, root)


def rest(opened: Opened) -> None:
    opened.rest()


HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"

TRASH: Final = "what is kept"  # runs with a trash only
SCENARIOS: Final[dict[str, list[Step]]] = {
    TRASH: [
        touch(f"{HOT}/a"), append(f"{HOT}/a", b"first"), link(f"{HOT}/a", f"{HOT}/b"), unlink(f"{HOT}/a"),
        rename(f"{HOT}/b", f"{COLD}/b"), rest, unlink(f"{COLD}/b"), touch(f"{COLD}/c"), append(f"{COLD}/c", b"other"),
        rename(f"{COLD}/c", f"{WARM}/c"), rest, rename(f"{WARM}/c", f"{COLD}/c"), rest, restore("/b", f"{HOT}/b"),
        unlink(f"{HOT}/b"), empty, unlink(f"{COLD}/c"), touch(f"{COLD}/c"), append(f"{COLD}/c", b"last"),
        rename(f"{COLD}/c", f"{HOT}/c"), mkdir(f"{HOT}/d"), touch(f"{HOT}/d/e"), append(f"{HOT}/d/e", b"twice"),
        link(f"{HOT}/d/e", f"{HOT}/d/f"), rename(f"{HOT}/d", f"{COLD}/d"), rest,
    ],
    "names on one root": [
        mkdir(f"{HOT}/d"), touch(f"{HOT}/d/a"), append(f"{HOT}/d/a", b"first"), chmod(f"{HOT}/d/a", 0o600),
        link(f"{HOT}/d/a", f"{HOT}/b"), symlink(f"{HOT}/d/s"), rename(f"{HOT}/b", f"{HOT}/c"), touch(f"{HOT}/e"),
        append(f"{HOT}/e", b"other"), rename(f"{HOT}/e", f"{HOT}/c"), rename(f"{HOT}/c", f"{HOT}/d/s", EXCHANGE),
        mkdir(f"{HOT}/empty"), rename(f"{HOT}/d", f"{HOT}/empty"), rest, unlink(f"{HOT}/empty/a"),
        unlink(f"{HOT}/empty/s"), rmdir(f"{HOT}/empty"), unlink(f"{HOT}/c"),
    ],
    "uploads and back": [
        mkdir("uploads/d"), touch("uploads/d/a"), append("uploads/d/a", b"up"), link("uploads/d/a", "uploads/b"),
        touch("uploads/c"), append("uploads/c", b"replaced"), rename("uploads/b", "uploads/c"),
        rename("uploads/d", f"{HOT}/d", NOREPLACE), rest, touch(f"{HOT}/d/n"), append(f"{HOT}/d/n", b"new"),
        rename(f"{HOT}/d/n", "uploads/n"), rename("uploads/n", f"{WARM}/n"), symlink("uploads/s"),
        rename("uploads/s", f"{COLD}/s"), rest, rename(f"{COLD}/s", "uploads/s"), rest,
        rename(f"{HOT}/d", "uploads/e"), rest, unlink("uploads/e/a"), unlink("uploads/c"), rmdir("uploads/e"),
    ],
    "a tree on its way": [
        mkdir(f"{HOT}/t"), mkdir(f"{HOT}/t/u"), touch(f"{HOT}/t/a"), append(f"{HOT}/t/a", b"a"),
        link(f"{HOT}/t/a", f"{HOT}/t/u/b"), symlink(f"{HOT}/t/u/s"), touch(f"{HOT}/t/u/c"),
        append(f"{HOT}/t/u/c", b"ccc"), rename(f"{HOT}/t", f"{COLD}/t"), touch(f"{COLD}/t/u/new"),
        append(f"{COLD}/t/u/new", b"new"), steps(9), rename(f"{COLD}/t/u/c", f"{COLD}/t/u/new"),
        append(f"{COLD}/t/a", b"more"), steps(9), unlink(f"{COLD}/t/u/b"), rename(f"{COLD}/t/u", f"{HOT}/u"),
        steps(12), rename(f"{HOT}/u", f"{COLD}/t/u"), rest, rename(f"{COLD}/t", f"{WARM}/t"), rest,
        rename(f"{WARM}/t", f"{HOT}/t"), rest,
    ],
    "ghosts make way": [
        mkdir(f"{HOT}/d"), mkdir(f"{HOT}/d/e"), touch(f"{HOT}/d/e/a"), append(f"{HOT}/d/e/a", b"old"),
        rename(f"{HOT}/d/e", f"{COLD}/e"), rmdir(f"{HOT}/d"), touch(f"{HOT}/d"), mkdir(f"{COLD}/e/f"), steps(4),
        rename(f"{COLD}/e/a", f"{HOT}/a"), rmdir(f"{COLD}/e/f"), rmdir(f"{COLD}/e"), rest,
        link(f"{HOT}/a", f"{HOT}/b"), rename(f"{HOT}/a", f"{COLD}/a"), rest, touch(f"{HOT}/a"), unlink(f"{HOT}/b"),
        rest, mkdir(f"{COLD}/k"), rename(f"{COLD}/a", f"{COLD}/k/a"), rename(f"{COLD}/k", f"{HOT}/k"),
        mkdir(f"{COLD}/k"), rename(f"{HOT}/k/a", f"{COLD}/k/a"), rename(f"{COLD}/k", f"{HOT}/l"),
        rename(f"{HOT}/l", f"{WARM}/l"), steps(3), rmdir(f"{HOT}/k"),
    ],
    "replicas": [
        mkdir(f"{HOT}/d"), touch(f"{HOT}/d/a"), append(f"{HOT}/d/a", b"first"), touch(f"{HOT}/d/b"), rest,
        replicate(f"{HOT}/d", "cold"), rest, replicate(f"{HOT}/d/a", "warm"), append(f"{HOT}/d/a", b"more"), rest,
        rename(f"{HOT}/d/a", f"{WARM}/a"), rest, rename(f"{HOT}/d", f"{COLD}/d"), rest, unlink(f"{WARM}/a"),
        replicate(f"{COLD}/d/b", "hot"), append(f"{COLD}/d/b", b"b"), rest, unlink(f"{COLD}/d/b"), rest,
    ],
    "copies kept": [
        touch(f"{HOT}/a"), append(f"{HOT}/a", b"first"), mkdir("uploads/d"), touch("uploads/d/b"), rest,
        rename("uploads/d", f"{HOT}/d"), append(f"{HOT}/a", b"more"), rest, rename(f"{HOT}/a", f"{COLD}/a"), rest,
        rename(f"{COLD}/a", f"{HOT}/a"), rest, drop(f"{HOT}/a", "cold"), rest, unlink(f"{HOT}/d/b"), rest,
    ],
    "copies given up": [
        touch(f"{HOT}/a"), append(f"{HOT}/a", b"first"), link(f"{HOT}/a", f"{HOT}/b"), rest,
        replicate(f"{HOT}/a", "cold"), replicate(f"{HOT}/a", "warm"), rest, drop(f"{HOT}/a", "warm"),
        drop(f"{HOT}/a", "hot"), append(f"{HOT}/b", b"more"), replicate(f"{HOT}/a", "warm"), rest, unlink(f"{HOT}/b"),
        rename(f"{HOT}/a", f"{WARM}/a"), rest, replicate(f"{WARM}/a", "hot"), rest, drop(f"{WARM}/a", "warm"),
        rest, unlink(f"{WARM}/a"), rest,
    ],
    "a root emptied": [
        mkdir(f"{HOT}/d"), touch(f"{HOT}/d/a"), append(f"{HOT}/d/a", b"first"), link(f"{HOT}/d/a", f"{HOT}/b"),
        symlink(f"{HOT}/s"), touch(f"{HOT}/c"), touch(f"{WARM}/w"), rest, replicate(f"{WARM}/w", "hot"), rest,
        drain("hot"), touch(f"{HOT}/d/new"), append(f"{HOT}/d/new", b"new"), rest, rename(f"{HOT}/b", f"{HOT}/d/b"),
        unlink(f"{HOT}/d/a"), append(f"{HOT}/d/b", b"more"), rename(f"{HOT}/c", f"{COLD}/c"), rest,
        stop_draining("hot"), rename(f"{HOT}/d/new", f"{HOT}/new"), rest, unlink(f"{HOT}/d/b"), rest,
    ],
    "a root emptied of what goes home": [
        touch(f"{WARM}/a"), append(f"{WARM}/a", b"first"), link(f"{WARM}/a", f"{WARM}/b"), rest,
        replicate(f"{WARM}/a", "hot"), rest, drop(f"{WARM}/a", "warm"), drain("hot"), rest,
        append(f"{WARM}/b", b"more"), rest, unlink(f"{WARM}/a"), rest,
    ],
}  # fmt: skip


WITHOUT_TRASH: Final = [name for name in SCENARIOS if name != TRASH]


@pytest.fixture(scope="module")
def devices() -> Iterator[tuple[Path, Path]]:
    with two_devices() as folders, by_hand():
        yield folders


@contextlib.contextmanager
def founded(devices: tuple[Path, Path], outside: Outside, name: str, trash_s: int = 0) -> Iterator[Opened]:
    copies = {"hot": 2} if name == "copies kept" else None
    opened = Opened(*devices, outside=outside, copies=copies, trash_s=trash_s, trash_removed=True)
    try:
        yield opened
    finally:
        opened.close()
        opened.remove()


def states_of(name: str, devices: tuple[Path, Path], outside: Outside, trash_s: int = 0) -> list[State]:
    """What is to be seen before the first step of a scenario and after each."""
    scenario = SCENARIOS[name]
    with founded(devices, outside, name, trash_s) as opened:
        states = [opened.snapshot()]
        for step in scenario:
            step(opened)
            opened.check()
            states.append(opened.snapshot())
        opened.rest()
        opened.check()
        opened.assert_at_home()
        return states


def without_numbers(state: State) -> dict[str, tuple[int, int, str | bytes]]:
    return {path: what[1:] for path, what in state.items()}


def dies(opened: Opened, scenario: list[Step], at: int) -> int | None:
    """Run a scenario up to its death; returns the step that was cut off, None if it ran through."""
    death = Death(at)
    death.await_in(opened.store)
    for number, step in enumerate(scenario):
        try:
            step(opened)
        except Killed:
            return number
    death.at = sys.maxsize  # it lives on, and ends in order
    return None


class Shortage:
    """Refuses one batch that makes the index grow, the n-th, as an index without room does."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.batches = 0

    def begin_in(self, store: Store) -> None:
        begin, apply = store.index.begin, store.index.apply

        def short(intent: Intent, *, grows: bool = False) -> int:
            self._count(grows=grows)
            return begin(intent, grows=grows)

        def short_batch(batch: Batch) -> None:
            self._count(grows=batch.grows)
            apply(batch)

        store.index.begin, store.index.apply = short, short_batch  # type: ignore[method-assign]

    def _count(self, *, grows: bool) -> None:
        self.batches += grows
        if grows and self.batches == self.at:
            raise IndexFull


@pytest.mark.parametrize("name", WITHOUT_TRASH)
def test_an_index_that_is_full_for_a_moment_refuses_a_change_as_a_whole(devices: tuple[Path, Path], name: str) -> None:
    scenario = SCENARIOS[name]
    states = states_of(name, devices, Outside.NONE)
    for at in range(1, 2000):
        with founded(devices, Outside.NONE, name) as opened:
            shortage = Shortage(at)
            shortage.begin_in(opened.store)
            for number, step in enumerate(scenario):
                try:
                    step(opened)
                except IndexFull:
                    opened.check()
                    assert opened.snapshot() == states[number], f"shortage {at} in step {number}"
                    step(opened)
            opened.rest()
            batches = shortage.batches
            opened.check()
            opened.assert_at_home()
            assert without_numbers(opened.snapshot()) == without_numbers(states[-1])
        if batches < at:
            return
    raise AssertionError("the scenario never ran through")


@pytest.mark.parametrize("outside", [Outside.NONE, pytest.param(Outside.WRITERS, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", WITHOUT_TRASH)
def test_a_death_at_any_step_leaves_the_state_before_or_after_it(
    devices: tuple[Path, Path], name: str, outside: Outside
) -> None:
    die_everywhere(name, devices, outside)


@pytest.mark.parametrize("outside", [Outside.NONE, pytest.param(Outside.WRITERS, marks=pytest.mark.long)])
def test_a_death_at_any_step_leaves_in_the_trash_what_its_rows_say(
    devices: tuple[Path, Path], outside: Outside
) -> None:
    die_everywhere(TRASH, devices, outside, trash_s=3600)


@pytest.mark.long
@pytest.mark.parametrize("name", WITHOUT_TRASH)
def test_a_death_at_any_step_with_a_trash_leaves_the_state_before_or_after_it(
    devices: tuple[Path, Path], name: str
) -> None:
    die_everywhere(name, devices, Outside.NONE, trash_s=3600)


def die_everywhere(name: str, devices: tuple[Path, Path], outside: Outside, trash_s: int = 0) -> None:
    """Run a scenario with a death before each of its steps, and see what the next start makes of it."""
    scenario = SCENARIOS[name]
    states = states_of(name, devices, outside, trash_s)
    for at in range(1, 2000):
        with founded(devices, outside, name, trash_s) as opened:
            cut_off = dies(opened, scenario, at)
            if cut_off is None:
                return
            opened.crash()
            with contextlib.suppress(Killed):  # recovery may die too
                opened.open(wrap=Death(at % 6 + 1).await_in)
            opened.crash()
            opened.open()
            opened.check()
            seen = opened.snapshot()
            before, after = states[cut_off], states[cut_off + 1]
            assert seen in (before, after), f"death {at} in step {cut_off}"
            rest_of_it = scenario[cut_off + (seen == after) :]
            if at % 2:  # half of the time the moves end first
                opened.rest()
                opened.assert_at_home()
                assert opened.snapshot() == seen, f"death {at} in step {cut_off}"
            for step in rest_of_it:
                step(opened)
            opened.rest()
            opened.check()
            opened.assert_at_home()
            assert without_numbers(opened.snapshot()) == without_numbers(states[-1])
    raise AssertionError("the scenario never ran through")
