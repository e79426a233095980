"""A copy that had taken its place when the daemon died: what counts is what happened to the original meanwhile."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from fusestore.core.intents import Arrive
from fusestore.model import Outside
from fusestore.service import absence
from tests.support.byhand import by_hand, finish
from tests.support.opened import Opened, two_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusestore.index.batch import Batch
    from fusestore.service.store import Store

HOT, COLD = "resources/hot", "resources/cold"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def devices() -> Iterator[tuple[Path, Path]]:
    with two_devices() as folders, by_hand():
        yield folders


@pytest.fixture
def dead(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """Killed when the copy of `a` and its further name had got to cold, and nobody had been told."""
    opened = Opened(*devices, outside=Outside.WRITERS)
    try:
        opened.write(f"{HOT}/a", b"original")
        opened.link(f"{HOT}/a", f"{HOT}/b")
        opened.settle()
        opened.rename(f"{HOT}/a", f"{COLD}/a")
        opened.rename(f"{HOT}/b", f"{COLD}/b")
        opened.store.index.commit()
        shutil.copytree(opened.path / "index", opened.path / "index-before")
        apply = opened.store.index.apply

        def killed(batch: Batch) -> None:
            if (opened.disks["cold"] / "b").exists() or (opened.disks["cold"] / "a").exists():
                raise Killed
            apply(batch)

        opened.store.index.apply = killed  # type: ignore[method-assign]
        with pytest.raises(Killed):
            opened.step(100)
        opened.crash()
        assert (opened.disks["cold"] / "a").read_bytes() == (opened.disks["hot"] / "a").read_bytes() == b"original"
        yield opened
        opened.check()
        opened.close()
    finally:
        opened.remove()


def test_an_original_that_stayed_as_it_was_is_released(dead: Opened) -> None:
    dead.open()
    assert dead.root_of(f"{COLD}/a") == "cold"
    dead.rest()
    dead.assert_at_home()
    assert dead.read(f"{COLD}/b") == b"original"


def set_online(store: Store, online: bool) -> None:
    for root in store.roots.values():
        if root.name == "hot":
            root.online = online


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" and more")


def write_and_put_the_time_back(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"ORIGINAL")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "content"), [(append, b"original and more"), (write_and_put_the_time_back, b"ORIGINAL")]
)
def test_what_others_wrote_to_the_original_before_the_next_start_is_kept(
    dead: Opened, change: Callable[[Path], None], content: bytes
) -> None:
    change(dead.disks["hot"] / "a")
    dead.open()
    assert dead.root_of(f"{COLD}/a") == "hot"
    assert not (dead.disks["cold"] / "a").exists()
    assert dead.read(f"{COLD}/a") == content
    dead.rest()
    dead.assert_at_home()
    assert dead.read(f"{COLD}/b") == content


def test_the_copy_stays_when_the_original_is_gone(dead: Opened) -> None:
    for name in ("a", "b"):
        (dead.disks["hot"] / name).unlink()
    dead.open()
    dead.rest()
    dead.assert_at_home()
    assert dead.read(f"{COLD}/a") == b"original"


def test_while_the_original_is_away_nothing_is_decided_and_then_the_move_goes_on(dead: Opened) -> None:
    hidden = dead.disks["hot"].rename(dead.disks["hot"].with_name("hidden"))
    dead.open(degraded=True)
    dead.crash()
    hidden.rename(dead.disks["hot"])
    append(dead.disks["hot"] / "a")
    dead.open()
    dead.rest()
    dead.assert_at_home()
    assert dead.read(f"{COLD}/a") == b"original and more"


def test_what_waited_for_a_root_is_settled_when_it_is_back(dead: Opened) -> None:
    hidden = dead.disks["hot"].rename(dead.disks["hot"].with_name("hidden"))
    dead.open(degraded=True)
    assert any(isinstance(intent, Arrive) and not intent.done for _, intent in dead.store.index.intents())
    hidden.rename(dead.disks["hot"])
    hot = next(root for root in dead.store.roots.values() if root.name == "hot")
    finish(absence.come_back(dead.store, hot))
    assert not any(isinstance(intent, Arrive) and not intent.done for _, intent in dead.store.index.intents())
    assert not dead.store.absent
    dead.rest()
    dead.assert_at_home()
    assert dead.read(f"{COLD}/a") == b"original"


def test_a_copy_nobody_decided_on_makes_way_when_the_original_comes_back(dead: Opened) -> None:
    """Its root was away at the start, and comes back while the daemon runs."""
    dead.open(wrap=lambda store: set_online(store, False))
    assert (dead.disks["cold"] / "a").exists()
    append(dead.disks["hot"] / "a")
    set_online(dead.store, True)
    dead.rest()
    dead.assert_at_home()
    assert dead.read(f"{COLD}/a") == b"original and more"


@pytest.fixture
def forgetful(dead: Opened) -> Opened:
    """A power cut: what the index knew of the last moments is lost, and the disks kept it."""
    dead.store.index._witness.remove()
    shutil.rmtree(dead.path / "index")
    (dead.path / "index-before").rename(dead.path / "index")
    return dead


def test_a_copy_whose_arrival_was_lost_is_known_again(forgetful: Opened) -> None:
    forgetful.open()
    assert forgetful.root_of(f"{COLD}/a") == "hot"
    forgetful.rest()
    forgetful.assert_at_home()
    assert forgetful.read(f"{COLD}/b") == b"original"


def test_what_others_made_of_a_copy_whose_arrival_was_lost_is_not_overwritten(forgetful: Opened) -> None:
    (forgetful.disks["cold"] / "a").write_bytes(b"by others")
    forgetful.open()
    forgetful.step(100)
    (held,) = forgetful.store.index.moves(open_only=True)
    assert "nothing was overwritten" in held.reason
    assert (forgetful.disks["cold"] / "a").read_bytes() == b"by others"
    assert forgetful.read(f"{COLD}/a") == b"original"
    (forgetful.disks["cold"] / "a").unlink()
    (forgetful.disks["cold"] / "b").unlink()
    forgetful.store.on_retry(None)
    forgetful.rest()
