"""What others made of a file is known before we change it ourselves, and does not pass for our own change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from fusestore.model import InodeNo, Owner
from fusestore.service import attributes, creating, removing, xattrs

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
