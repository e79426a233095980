"""`copies = 2`: a verified copy of every settled file of a root is kept on another one, whichever way the file came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fusestore.model import InodeNo, Outside, State
from fusestore.service import keeping, replicating
from fusestore.service.replicas import ANY
from tests.support.byhand import by_hand
from tests.support.opened import Opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"


@pytest.fixture
def kept(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """A store whose root hot asks for two copies; hot, warm and main are one device, cold is another."""
    with by_hand():
        opened = Opened(*devices, outside=Outside.WRITERS, copies={"hot": 2})
        try:
            yield opened
            opened.check()
            opened.close()
        finally:
            opened.remove()


def ask(opened: Opened, **copies: int) -> None:
    """Start again with other numbers of copies."""
    opened.close()
    opened.ask_for_copies(copies)
    opened.open()


def online(opened: Opened, root: str, *, is_online: bool = True) -> None:
    replicating.named(opened.store, root).online = is_online


def test_a_new_file_gets_its_copy_on_another_device_when_it_has_settled(kept: Opened) -> None:
    fh = kept.create(f"{HOT}/a")
    kept.write_at(fh, b"new")
    kept.rest()
    assert kept.replicas(f"{HOT}/a") == {}
    kept.release(fh)
    kept.rest()
    assert kept.replicas(f"{HOT}/a") == {"cold": "current"}
    kept.write(f"{COLD}/b", b"not asked for")
    kept.rest()
    assert kept.replicas(f"{COLD}/b") == {}
    assert kept.store.index.counts()["due"] == 0


def test_what_is_left_of_an_upload_that_was_cut_off_gets_its_copy_too(kept: Opened) -> None:
    fh = kept.create("uploads/a")
    kept.write_at(fh, b"all there is")
    kept.crash()
    kept.open()
    assert kept.stat("uploads/a").state is State.INTERRUPTED
    kept.rename("uploads/a", f"{HOT}/a")
    kept.rest()
    assert kept.replicas(f"{HOT}/a") == {"cold": "current"}
    assert kept.stat(f"{HOT}/a").state is State.INTERRUPTED


def test_a_file_that_was_open_for_writing_and_not_written_gets_its_copy_when_it_is_closed(kept: Opened) -> None:
    kept.write(f"{HOT}/a", b"content")
    kept.settle()
    fh = kept.open_file(f"{HOT}/a", write=True)
    kept.make_replicas()
    kept.release(fh)
    kept.rest()
    assert kept.replicas(f"{HOT}/a") == {"cold": "current"}
    assert kept.store.index.counts()["due"] == 0


def test_what_is_renamed_to_such_a_root_gets_copies(kept: Opened) -> None:
    kept.mkdir(f"{COLD}/d")
    for path in (f"{COLD}/d/a", "uploads/b", f"{WARM}/c"):
        kept.write(path, path.encode())
    kept.rest()
    kept.rename(f"{COLD}/d", f"{HOT}/d")
    kept.rename("uploads/b", f"{HOT}/b")
    kept.rename(f"{WARM}/c", f"{HOT}/c")
    kept.rest()
    for name in ("d/a", "b", "c"):
        assert kept.replicas(f"{HOT}/{name}") == {"cold": "current"}
    kept.assert_at_home()


def test_the_root_that_a_file_leaves_may_have_its_copy_when_it_has_arrived(kept: Opened) -> None:
    for root in ("main", "warm"):
        online(kept, root, is_online=False)
    kept.write(f"{COLD}/a", b"x")
    kept.mkdir(f"{COLD}/d")
    kept.write(f"{COLD}/d/b", b"y")
    kept.settle()
    for name in ("a", "d"):
        kept.rename(f"{COLD}/{name}", f"{HOT}/{name}")
    kept.make_replicas()
    assert kept.store.troubles == {}  # so whoever waits goes on waiting
    told: list[InodeNo] = []
    kept.store.on_due = lambda root, number: told.append(number) if root == ANY else None
    while kept.store.index.has_open_moves():
        kept.step()
    assert {kept.find(f"{HOT}/a"), kept.find(f"{HOT}/d/b")} <= set(told)
    kept.rest()
    for name in ("a", "d/b"):
        assert kept.replicas(f"{HOT}/{name}") == {"cold": "current"}


def test_a_copy_that_a_move_takes_over_is_made_up_for(kept: Opened) -> None:
    ask(kept, hot=2, cold=2)
    kept.write(f"{HOT}/a", b"x")
    kept.rest()
    kept.rename(f"{HOT}/a", f"{COLD}/a")
    kept.rest()
    (root,) = kept.replicas(f"{COLD}/a").items()
    assert root[1] == "current"
    assert root[0] != "cold"
    kept.assert_at_home()


def test_what_lies_on_the_disk_already_gets_copies(kept: Opened) -> None:
    (kept.disks["hot"] / "tree").mkdir()
    (kept.disks["hot"] / "tree" / "theirs").write_bytes(b"theirs")
    kept.names(f"{HOT}/tree")
    kept.rest()
    assert kept.replicas(f"{HOT}/tree/theirs") == {"cold": "current"}


def test_raising_the_number_looks_at_every_file_once_and_a_crash_does_not_stop_it(kept: Opened) -> None:
    kept.mkdir(f"{HOT}/d")
    for number in range(5):
        kept.write(f"{HOT}/d/{number}", b"%d" % number)
    kept.rest()
    ask(kept, hot=3)
    assert kept.store.index.due(ANY, InodeNo(0), 10) == [kept.find(HOT)]
    kept.crash()
    kept.open()
    kept.rest()
    for number in range(5):
        replicas = kept.replicas(f"{HOT}/d/{number}")
        assert len(replicas) == 2
        assert set(replicas.values()) == {"current"}
    ask(kept, hot=3)
    assert kept.store.index.counts()["due"] == 0
    ask(kept, hot=2)
    assert kept.store.index.counts()["due"] == 0


def test_a_copy_that_was_dropped_is_made_again_and_may_lie_elsewhere(kept: Opened) -> None:
    kept.write(f"{HOT}/a", b"x")
    kept.rest()
    kept.drop(f"{HOT}/a", "cold")
    online(kept, "cold", is_online=False)
    kept.rest()
    (root,) = kept.replicas(f"{HOT}/a")
    assert root in ("warm", "main")
    online(kept, "cold")


def test_what_lacks_a_copy_stays_due_until_there_is_a_root_for_it(kept: Opened) -> None:
    for root in ("main", "warm", "cold"):
        online(kept, root, is_online=False)
    kept.write(f"{HOT}/a", b"x")
    kept.rest()
    assert kept.replicas(f"{HOT}/a") == {}
    assert kept.store.index.counts()["due"] == 1
    assert list(kept.store.troubles.values()) == [keeping.NO_ROOT]
    kept.crash()
    kept.open()
    for root in ("main", "warm"):
        online(kept, root, is_online=False)
    kept.rest()
    assert kept.replicas(f"{HOT}/a") == {"cold": "current"}
    assert kept.store.index.counts()["due"] == 0


def test_a_copy_asked_for_by_hand_counts(kept: Opened) -> None:
    kept.write(f"{HOT}/a", b"x")
    kept.replicate(f"{HOT}/a", "warm")
    kept.rest()
    assert kept.replicas(f"{HOT}/a") == {"warm": "current"}


def test_a_removed_file_is_due_no_more(kept: Opened) -> None:
    for root in ("main", "warm", "cold"):
        online(kept, root, is_online=False)
    kept.write(f"{HOT}/a", b"x")
    kept.rest()
    kept.unlink(f"{HOT}/a")
    assert kept.store.index.counts()["due"] == 0
