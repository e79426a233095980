"""Manifests whose disks are away, refuse, or have taken many changes; on a clock that jumps."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import trio

from fusestore.jobs import manifests
from fusestore.jobs.manifests import Manifests
from fusestore.roots.manifest import Manifest
from tests.support.byhand import run
from tests.support.manifests import entries, frames, said

if TYPE_CHECKING:
    import pytest

    from tests.support.opened import Opened

HOT = "resources/hot"
A_WHILE_S = 4 * manifests.FOLLOW_S
LONG_S = manifests.RETRY_S + A_WHILE_S


def test_a_root_that_was_away_gets_its_lines_when_it_is_back(running: Opened) -> None:
    job = Manifests(running.store)
    hot = next(root for root in running.store.roots.values() if root.name == "hot")

    async def away_and_back() -> None:
        running.write(f"{HOT}/first", b"1")
        await trio.sleep(A_WHILE_S)
        assert said(running.disks) == entries(running.store)
        running.write("resources/warm/second", b"2")
        running.rename(f"{HOT}/first", "resources/warm/first")
        running.write(f"{HOT}/third", b"3")
        hot.online = False
        await trio.sleep(A_WHILE_S)
        hot.online = True
        await trio.sleep(LONG_S)
        assert said(running.disks) == entries(running.store)

    run(away_and_back, job.run)


def test_a_disk_that_refuses_is_tried_again_and_delays_no_other(
    running: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Manifests(running.store)
    hot = (running.disks["hot"] / ".fusestore").stat().st_ino
    append = Manifest.append

    def refuse(self: Manifest, data: bytes, size: int, *, fresh: bool = False) -> int:
        if os.fstat(self._area).st_ino == hot:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return append(self, data, size, fresh=fresh)

    async def full_and_not() -> None:
        running.write(f"{HOT}/first", b"1")
        await trio.sleep(A_WHILE_S)
        with monkeypatch.context() as patch:
            patch.setattr(Manifest, "append", refuse)
            running.write(f"{HOT}/second", b"2")
            running.write("uploads/second", b"2")
            await trio.sleep(A_WHILE_S)
        wanted = entries(running.store)
        missing = wanted.keys() - said(running.disks).keys()
        assert missing == {running.find(f"{HOT}/second")}
        await trio.sleep(LONG_S)
        assert said(running.disks) == entries(running.store)

    run(full_and_not, job.run)


def test_one_that_grew_with_changes_is_written_anew(running: Opened) -> None:
    job = Manifests(running.store)
    directory = running.disks["uploads"]

    async def change_much() -> None:
        running.symlink("uploads/link", "x" * 4000)
        await trio.sleep(A_WHILE_S)
        sizes = []
        for turn in range(500):
            running.rename("uploads/link", "uploads/other")
            running.rename("uploads/other", "uploads/link")
            await trio.sleep(manifests.FOLLOW_S)
            sizes.append((directory / ".fusestore" / "manifest").stat().st_size)
            if turn and sizes[-1] < sizes[-2]:
                break
        assert max(sizes) > manifests.SMALL_BYTES
        assert sizes[-1] < 20_000
        assert sum(frame.anew for frame in frames(directory)) == 1
        assert said(running.disks) == entries(running.store)

    run(change_much, job.run)


def test_what_is_changed_while_it_is_written_anew_is_in_it(running: Opened) -> None:
    for number in range(200):
        running.write(f"{HOT}/{number}", b"x")
    job = Manifests(running.store)

    async def change_meanwhile() -> None:
        await trio.sleep(manifests.FOLLOW_S + manifests.PAUSE_S)
        running.rename(f"{HOT}/0", f"{HOT}/changed")
        running.unlink(f"{HOT}/199")
        running.rename(f"{HOT}/1", "uploads/1")
        await trio.sleep(A_WHILE_S)
        assert said(running.disks) == entries(running.store)

    run(change_meanwhile, job.run)


def test_one_that_was_written_anew_is_in_step_without_a_further_change(running: Opened) -> None:
    running.write(f"{HOT}/first", b"1")
    job = Manifests(running.store)

    async def wait() -> None:
        await trio.sleep(A_WHILE_S)
        assert {frames(disk)[-1].step for disk in running.disks.values()} == {running.store.index.changes}
        written = [len(frames(disk)) for disk in running.disks.values()]
        await trio.sleep(A_WHILE_S)
        assert [len(frames(disk)) for disk in running.disks.values()] == written  # disks at rest stay at rest

    run(wait, job.run)


def test_more_changes_than_one_round_takes_leave_them_in_step(running: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "ROUND", 3)
    job = Manifests(running.store)

    async def change_much() -> None:
        await trio.sleep(A_WHILE_S)
        for number in range(10):
            running.write(f"{HOT}/{number}", b"x")
        changed = ("hot", "warm", "cold", "uploads", "downloads")
        for name in changed[1:]:
            running.write(f"{name if name.endswith('loads') else f'resources/{name}'}/one", b"x")
        await trio.sleep(A_WHILE_S)
        assert said(running.disks) == entries(running.store)
        assert {frames(running.disks[name])[-1].step for name in changed} == {running.store.index.changes}
        assert all(sum(frame.anew for frame in frames(running.disks[name])) == 1 for name in changed)  # and followed

    run(change_much, job.run)


def test_an_orderly_end_leaves_them_in_step(running: Opened) -> None:
    running.write(f"{HOT}/first", b"1")
    run(Manifests(running.store).close)
    assert said(running.disks) == entries(running.store)
    changes = running.store.index.changes
    assert all(frames(disk)[-1].step == changes for disk in running.disks.values())
