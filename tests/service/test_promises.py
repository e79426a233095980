"""Room that is promised to moves on their way, and what is left of it for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fusestore.core.ports import Space
from fusestore.errors import NoRoom
from fusestore.model import MoveState
from fusestore.roots import copy

if TYPE_CHECKING:
    from tests.support.opened import Opened

HOT, COLD = "resources/hot", "resources/cold"
SIZE = 1 << 20


def free(opened: Opened, root: str, size: int, files: int = 1000) -> None:
    """Let a root say that it has so many bytes free."""
    driver = opened.store.home_root(opened.find(root))
    driver.space = lambda: Space(1 << 30, size, size, 1000, files)  # type: ignore[method-assign]


def held(opened: Opened) -> list[str]:
    """Why the moves that wait do."""
    return [move.reason for move in opened.store.index.moves(open_only=True) if move.state is MoveState.WAITING]


def wait_until_held(opened: Opened) -> None:
    for _ in range(100):
        opened.step()
        if held(opened):
            return
    raise AssertionError("nothing is held up")


def test_what_is_promised_to_a_move_is_not_promised_again(opened: Opened) -> None:
    opened.write(f"{HOT}/a", bytes(SIZE))
    opened.write(f"{HOT}/b", bytes(SIZE))
    free(opened, COLD, SIZE + 100)
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    with pytest.raises(NoRoom):
        opened.rename(f"{HOT}/b", f"{COLD}/b")


def test_what_a_move_has_copied_is_not_counted_twice(opened: Opened) -> None:
    opened.write(f"{HOT}/a", bytes(SIZE))
    opened.write(f"{HOT}/b", bytes(100))
    free(opened, COLD, SIZE + 100)
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    while not any((opened.disks["cold"] / ".fusestore" / "incoming").iterdir()):
        opened.step()
    free(opened, COLD, 100)
    opened.rename(f"{HOT}/b", f"{COLD}/b")
    opened.rest()


def test_what_does_not_fit_is_not_copied_and_what_fits_arrives(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/huge", bytes(SIZE))
    opened.write(f"{HOT}/d/small", b"small")
    opened.settle()
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    free(opened, COLD, SIZE - 1)
    copied: list[bytes] = []
    copy_file = copy.copy_file

    def watched(source: int, incoming: int, name: bytes, **how: Any) -> copy.CopyResult:
        copied.append(name)
        return copy_file(source, incoming, name, **how)

    monkeypatch.setattr(copy, "copy_file", watched)
    wait_until_held(opened)
    opened.step(50)
    assert held(opened) == ["no room"]
    assert opened.on_disk("cold") == {"d": "directory", "d/small": b"small"}
    assert copied == [opened.store.inode(opened.find(f"{COLD}/d/small")).id.hex().encode()]
    assert opened.read(f"{COLD}/d/huge") == bytes(SIZE)
    free(opened, COLD, SIZE)
    opened.rest()
    opened.assert_at_home()


def test_a_directory_does_not_take_the_room_that_was_promised_to_a_file(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", bytes(SIZE))
    opened.write(f"{HOT}/b", bytes(SIZE))
    opened.settle()
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    free(opened, COLD, SIZE + 100)
    opened.mover._claimed.add(opened.find(f"{HOT}/b"))  # holds it up
    opened.rename(f"{HOT}/b", f"{COLD}/b")
    wait_until_held(opened)
    opened.step(50)
    assert sorted(held(opened)) == ["no room", "on its way with another move"]
    opened.mover._claimed.clear()
    while not any((opened.disks["cold"] / ".fusestore" / "incoming").iterdir()):
        opened.step()
    free(opened, COLD, 100)
    opened.step(50)
    assert opened.root_of(f"{COLD}/b") == "cold"
    assert opened.root_of(f"{COLD}/d/a") == "hot"
    free(opened, COLD, SIZE)
    opened.rest()


def test_a_promise_stands_again_when_its_copy_comes_to_nothing(opened: Opened) -> None:
    opened.write(f"{HOT}/a", bytes(SIZE))
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    reserved = opened.store.reserved[opened.store.home_root(opened.find(COLD)).number]
    assert reserved.total == SIZE
    while not any((opened.disks["cold"] / ".fusestore" / "incoming").iterdir()):
        opened.step()
    (opened.disks["cold"] / "a").write_bytes(b"in the way")
    opened.step()
    assert reserved.total == 0
    while any((opened.disks["cold"] / ".fusestore" / "incoming").iterdir()):
        opened.step()
    assert reserved.total == SIZE
    (opened.disks["cold"] / "a").unlink()
    opened.rest()
    assert reserved.total == 0


def test_holes_need_no_room(opened: Opened) -> None:
    opened.mkdir(f"{HOT}/d")
    opened.write(f"{HOT}/d/a", b"")
    opened.set(f"{HOT}/d/a", size=1 << 30)
    opened.settle()
    free(opened, COLD, 1 << 31)
    opened.rename(f"{HOT}/d", f"{COLD}/d")
    free(opened, COLD, SIZE)
    opened.step(100)
    assert opened.root_of(f"{COLD}/d/a") == "cold"
    opened.unlink(f"{COLD}/d/a")
    opened.rest()


def test_a_file_with_holes_is_sent_to_where_its_bytes_fit(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"begin")
    opened.set(f"{HOT}/a", size=1 << 24)
    opened.settle()
    free(opened, COLD, SIZE)
    opened.replicate(f"{HOT}/a", "cold")
    opened.make_replicas()
    assert opened.replicas(f"{HOT}/a") == {"cold": "current"}
    opened.drop(f"{HOT}/a", "cold")
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    opened.crash()
    opened.open()
    assert opened.store.reserved[opened.store.home_root(opened.find(COLD)).number].total <= SIZE
    opened.rest()
    assert opened.root_of(f"{COLD}/a") == "cold"


@pytest.mark.parametrize("name", ["a", "d"])
def test_what_has_a_replica_there_needs_no_room(opened: Opened, name: str) -> None:
    if name == "d":
        opened.mkdir(f"{HOT}/d")
    file = "a" if name == "a" else "d/a"
    opened.write(f"{HOT}/{file}", bytes(SIZE))
    opened.settle()
    opened.replicate(f"{HOT}/{file}", "cold")
    opened.make_replicas()
    free(opened, COLD, 1000)
    opened.rename(f"{HOT}/{name}", f"{COLD}/{name}")
    opened.rest()
    assert opened.root_of(f"{COLD}/{file}") == "cold"
    assert opened.read(f"{COLD}/{file}") == bytes(SIZE)


def test_a_disk_without_inodes_is_another_reason(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"x")
    opened.settle()
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    free(opened, COLD, SIZE, files=0)
    wait_until_held(opened)
    assert held(opened) == ["no inodes"]
    free(opened, COLD, SIZE, files=1)
    opened.rest()
