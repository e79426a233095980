"""The index is lost while things happen: rebuilt from manifests and disks, the store goes on from there.

With manifests that were in step, it is as if nothing had been lost; with manifests of before the step that was cut off,
no content that was there is lost, whatever the disks had got to.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from fusestore.model import Outside
from fusestore.service.rebuild.rebuilding import rebuild
from tests.crash.test_every_step import (
    COLD,
    HOT,
    SCENARIOS,
    TRASH,
    Death,
    Killed,
    State,
    append,
    devices,
    dies,
    founded,
    link,
    mkdir,
    rest,
    states_of,
    symlink,
    touch,
    without_numbers,
)
from tests.support.manifests import entries, note_down

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusestore.model import InodeNo
    from fusestore.service.rebuild.tally import Report
    from tests.crash.test_every_step import Step
    from tests.support.opened import Opened

__all__ = ["devices"]  # the fixture


def lose_index(opened: Opened) -> Report:
    """The daemon ends and the index is gone; returns what rebuilding it found."""
    opened.crash()
    shutil.rmtree(opened.path / "index")
    report = rebuild(opened.config)
    opened.open()
    opened.check()
    return report


def lasting(opened: Opened) -> dict[InodeNo, object]:
    """What must be the same for ever: id, names, attributes, version and hash, place and copies."""
    placement = opened.store.placement
    return {
        number: (
            entry.inode.id,
            set(entry.names),
            (entry.inode.mode, entry.inode.uid, entry.inode.gid, entry.inode.rdev, entry.inode.target),
            () if entry.inode.is_dir else (entry.inode.size, entry.inode.mtime_ns),
            (entry.inode.version, entry.inode.state, entry.inode.hash, entry.inode.hash_version),
            (set(placement.spots(number)), set(entry.skeletons), set(entry.replicas), entry.moving),
        )
        for number, entry in entries(opened.store).items()
    }


def clear_away(opened: Opened, report: Report) -> None:
    """Remove what a move has left and what is not what the file is now: it would be adopted where it is."""
    for root, what, path in report.told:
        assert what == "further copy", report.told
        place = opened.disks[root] / os.fsdecode(path)
        (place.rmdir if place.is_dir() else place.unlink)()


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != TRASH])
def test_an_index_that_is_lost_between_two_steps_comes_back_as_it_was(
    devices: tuple[Path, Path], name: str, stride: int
) -> None:
    scenario = SCENARIOS[name]
    states = states_of(name, devices, Outside.NONE)
    for at in range(1, len(scenario) + 1, stride):
        with founded(devices, Outside.NONE, name) as opened:
            for step in scenario[:at]:
                step(opened)
            opened.settle()
            known = lasting(opened)
            note_down(opened.store)
            clear_away(opened, lose_index(opened))
            assert opened.snapshot() == states[at], f"after step {at}"
            now = lasting(opened)
            assert not [(n, known[n], now[n]) for n in known if known[n] != now.get(n)], f"after step {at}"
            assert now.keys() == known.keys()
            for step in scenario[at:]:
                step(opened)
            opened.rest()
            opened.check()
            opened.assert_at_home()
            assert without_numbers(opened.snapshot()) == without_numbers(states[-1])


def contents(state: State) -> set[bytes]:
    return {what for *_, what in state.values() if isinstance(what, bytes) and what}


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != TRASH])
def test_no_content_is_lost_with_an_index_whatever_step_was_cut_off(
    devices: tuple[Path, Path], name: str, stride: int
) -> None:
    scenario = SCENARIOS[name]
    states = states_of(name, devices, Outside.NONE)
    for at in range(1, 2000, stride):
        with founded(devices, Outside.NONE, name) as opened:
            death = Death(at)
            death.await_in(opened.store)
            cut_off = None
            for number, step in enumerate(scenario):
                note_down(opened.store)
                try:
                    step(opened)
                except Killed:
                    cut_off = number
                    break
            death.at = sys.maxsize
            if cut_off is None:
                return
            lose_index(opened)
            wanted = contents(states[cut_off]) & contents(states[cut_off + 1])
            assert wanted <= contents(opened.snapshot()), f"death {at} in step {cut_off}"
            opened.rest()
            opened.check()
            assert wanted <= contents(opened.snapshot()), f"death {at} in step {cut_off}"
    raise AssertionError("the scenario never ran through")


def a_tree(at: str) -> list[Step]:
    return [
        mkdir(at), mkdir(f"{at}/u"), touch(f"{at}/a"), append(f"{at}/a", b"a"), link(f"{at}/a", f"{at}/u/b"),
        symlink(f"{at}/u/s"), touch(f"{at}/u/c"), append(f"{at}/u/c", b"ccc"), symlink(f"{at}/t"),
    ]  # fmt: skip


def a_file(at: str) -> list[Step]:
    return [touch(at), append(at, b"content")]


def seen_once(opened: Opened, old: str, new: str) -> dict[str, object]:
    """What is at one of two names, by what it is called below it; nothing is there under both."""
    found: dict[str, object] = {}
    state = opened.snapshot()
    twice = [path for path in state if path.startswith(old) and path.replace(old, new, 1) in state]
    if twice == [old] and not any(path.startswith(f"{new}/") for path in state):
        del state[new]  # a directory that was just made, and had not been told whose it is
        twice = []
    assert not twice
    for path, what in state.items():
        for top in (old, new):
            if path.startswith(top):
                found[path.removeprefix(top)] = what
    return found


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("noted", [False, True])
@pytest.mark.parametrize(
    ("make", "old", "new"),
    [
        (a_tree, f"{HOT}/old", f"{COLD}/new"),
        (a_tree, f"{COLD}/old", f"{HOT}/new"),
        (a_tree, "uploads/old", f"{COLD}/new"),
        (a_file, f"{HOT}/old", f"{COLD}/new"),
        (a_file, f"{COLD}/old", f"{HOT}/new"),
    ],
)
def test_what_is_on_its_way_is_there_once_though_the_manifests_are_older(
    devices: tuple[Path, Path], make: Callable[[str], list[Step]], old: str, new: str, noted: bool, stride: int
) -> None:
    for at in range(1, 2000, stride):
        with founded(devices, Outside.NONE, "") as opened:
            for step in make(old):
                step(opened)
            opened.settle()
            before = seen_once(opened, old, new)
            if not noted:
                note_down(opened.store)
            opened.rename(old, new)
            if noted:
                note_down(opened.store)
            has_died = dies(opened, [rest], at) is not None
            assert not lose_index(opened).told, f"death {at}"
            assert seen_once(opened, old, new) == before, f"death {at}"
            opened.rest()
            opened.check()
            opened.assert_at_home()
            assert seen_once(opened, old, new) == before, f"death {at}"
        if not has_died:
            return
    raise AssertionError("the move never ran through")
