"""What others made of a file is known before we change it ourselves, and does not pass for our own change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from fusestore.model import InodeNo, Owner
from fusestore.service import attributes, creating, finalizing, removing, xattrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.opened import Opened

HOT = "resources/hot"
ME = Owner(0, 0, 1)


def chmod(opened: Opened, number: InodeNo) -> None:
    attributes.setattr(opened.store, number, attributes.Wanted(mode=0o600), ME)


def set_attribute(opened: Opened, number: InodeNo) -> None:
    xattrs.put(opened.store, number, b"user.x", b"y", ME)


def link(opened: Opened, number: InodeNo) -> None:
    creating.link(opened.store, number, opened.find(HOT), b"b", ME)


def unlink(opened: Opened, _: InodeNo) -> None:
    removing.unlink(opened.store, opened.find(HOT), b"c", ME)


@pytest.mark.parametrize("change", [chmod, set_attribute, link, unlink])
def test_bytes_appended_by_others_are_a_new_version_whatever_we_do_next(
    shared: Opened, change: Callable[[Opened, InodeNo], None]
) -> None:
    number = shared.write(f"{HOT}/a", b"content")
    shared.link(f"{HOT}/a", f"{HOT}/c")
    shared.settle()
    before = shared.stat(f"{HOT}/a").version
    with (shared.disks["hot"] / "a").open("ab") as file:
        file.write(b"more")
    change(shared, number)
    shared.settle()
    after = shared.stat(f"{HOT}/a")
    assert after.version == before + 1
    assert after.current_hash == blake3(b"contentmore").digest()


def test_what_others_write_as_soon_as_it_is_closed_here_has_its_own_hash(shared: Opened) -> None:
    shared.write("resources/hot/file", b"ours..")
    time.sleep(0.02)  # the kernel's clock of files ticks every few milliseconds
    (shared.disks["hot"] / "file").write_bytes(b"theirs")
    shared.settle()
    assert shared.stat("resources/hot/file").hash == blake3(b"theirs").digest()


def test_times_that_are_set_here_after_closing_do_not_have_it_read_again(
    shared: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.write("resources/hot/file", b"ours")
    shared.set("resources/hot/file", mtime_ns=1_700_000_000_000_000_000)
    number = shared.find("resources/hot/file")
    work = finalizing.take(shared.store, number)
    assert work is not None
    assert work.digest == blake3(b"ours").digest()
    shared.settle()
