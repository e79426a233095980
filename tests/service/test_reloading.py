"""Settings taken in again: all that can be counts at once, and what is wrong changes nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from fusestore import config
from fusestore.errors import FusestoreError, IndexFault, UsageError
from fusestore.jobs.scrubber import Scrubber
from fusestore.service.reloading import Reloading
from tests.support.byhand import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.opened import Opened

pytestmark = pytest.mark.timeout(60)


def change(opened: Opened, before: str, after: str) -> None:
    file = opened.path / config.CONFIG_NAME
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))


def reload(opened: Opened, *parts: Callable[[config.Config], Callable[[], None]]) -> dict[str, list[str]]:
    reloading = Reloading(opened.store)
    reloading.parts.extend(parts)
    told: dict[str, list[str]] = {}
    refused: list[FusestoreError] = []

    async def once() -> None:
        try:
            told.update(await reloading.reload())
        except FusestoreError as error:
            refused.append(error)

    run(once)
    if refused:
        raise refused[0]
    return told


def test_what_is_changed_counts_and_what_needs_a_mount_is_named(running: Opened) -> None:
    store = running.store
    change(
        running,
        "[roots.main]",
        '[moves]\nrate = 7\n[mount]\nprefer = ["cold"]\n[hash]\nalgorithm = "sha256"\n[roots.main]',
    )
    told = reload(running)
    assert told == {"applied": ["mount.prefer", "moves.rate"], "needs_remount": ["hash.algorithm"]}
    assert (store.pace.rate, store.config.hash.algorithm) == (7, "blake3")
    assert [store.roots[number].name for number in store.preference] == ["cold"]
    assert reload(running) == {"applied": [], "needs_remount": ["hash.algorithm"]}


def test_copies_asked_for_under_a_mount_are_wanted_of_what_is_there(running: Opened) -> None:
    running.write("resources/hot/f", b"content")
    run(partial(trio.sleep, 1), running.hasher.run)
    assert running.store.index.counts()["due"] == 0
    change(running, "[roots.hot]", "[roots.hot]\ncopies = 2")
    assert reload(running)["applied"] == ["roots.hot.copies"]
    assert running.store.index.counts()["due"] > 0


def test_one_part_that_refuses_leaves_everything_as_it_was(running: Opened) -> None:
    before = running.store.config
    taken: list[config.Config] = []
    change(running, "[roots.main]", "[moves]\nrate = 7\n[roots.main]")

    def refuse(_: config.Config) -> Callable[[], None]:
        raise UsageError("nobody of that name")

    with pytest.raises(UsageError):
        reload(running, lambda new: partial(taken.append, new), refuse)
    assert (running.store.config, running.store.pace.rate, taken) == (before, 0, [])


def test_an_index_that_takes_nothing_leaves_everything_as_it_was(
    running: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = running.store
    taken: list[config.Config] = []
    change(running, "[roots.hot]", "[moves]\nrate = 7\n[roots.hot]\ncopies = 2")

    def fail(_: object) -> None:
        raise IndexFault("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(store.index, "apply", fail)
        with pytest.raises(IndexFault):
            reload(running, lambda new: partial(taken.append, new))
    assert (store.copies, store.pace.rate, store.config.moves.rate, taken) == ({}, 0, 0, [])


@pytest.mark.parametrize("text", ["[moves", "moves.rate = -1", 'mount.prefer = ["nowhere"]', "roots = {}"])
def test_a_file_that_is_wrong_changes_nothing(running: Opened, text: str) -> None:
    before = running.store.config
    (running.path / config.CONFIG_NAME).write_text("moves.workers = 3\n" + text)
    with pytest.raises(UsageError):
        reload(running)
    assert running.store.config == before


def test_a_pass_that_reads_at_the_configured_rate_takes_the_new_one(running: Opened) -> None:
    scrubber = Scrubber(running.store)
    scrubber.start("", None, again=True)
    scrubber.change_rate(running.store.config.scrub.rate, 7)
    assert scrubber.status()["rate"] == 7
    scrubber.start("", 9, again=True)
    scrubber.change_rate(7, 5)
    assert scrubber.status()["rate"] == 9
