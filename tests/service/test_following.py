"""Files written while they move: whatever is done to them at whatever step, nothing is lost and they arrive."""

from __future__ import annotations

import errno
import os
import random
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from fusestore.model import MoveState
from fusestore.roots import content
from fusestore.service import writing, xattrs
from tests.support.byhand import finish
from tests.support.calls import ME
from tests.support.disks import fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.opened import Opened

HOT, WARM, COLD = "resources/hot", "resources/warm", "resources/cold"
MIB: Final = 1 << 20
MANY: Final = 400  # steps; a file that is written at each of them arrives before


def begin(opened: Opened, data: bytes) -> int:
    """A file with these bytes whose move has begun; returns a writer's handle."""
    opened.write(f"{HOT}/a", data)
    opened.settle()
    fh = opened.open_file(f"{HOT}/a", write=True)
    opened.rename(f"{HOT}/a", f"{COLD}/a")
    return fh


def on_cold(opened: Opened) -> bool:
    return opened.root_of(f"{COLD}/a") == "cold"


class Model:
    """A file that is changed as a plain string of bytes is."""

    def __init__(self, opened: Opened, fh: int, data: bytes) -> None:
        self.opened, self.fh, self.data = opened, fh, bytearray(data)

    def write(self, data: bytes, offset: int) -> None:
        self.opened.write_at(self.fh, data, offset)
        self.data.extend(bytes(max(offset - len(self.data), 0)))
        self.data[offset : offset + len(data)] = data

    def cut(self, size: int) -> None:
        self.opened.set(f"{COLD}/a", size=size)
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))

    def random_change(self, chance: random.Random) -> None:
        if chance.random() < 0.2:
            self.cut(chance.randrange(6 * MIB))
        else:
            size = chance.choice((1, 100, 4096, 70_000, MIB))
            self.write(chance.randbytes(size), chance.randrange(5 * MIB))

    def assert_same(self) -> None:
        assert self.opened.read(f"{COLD}/a") == self.data


def test_a_file_that_is_appended_to_at_every_step_arrives_with_every_byte(opened: Opened) -> None:
    model = Model(opened, begin(opened, b"begun\n"), b"begun\n")
    for number in range(MANY):
        opened.step()
        model.write(b"%05d\n" % number, len(model.data))
        if on_cold(opened):
            break
    assert on_cold(opened)
    model.assert_same()
    opened.release(model.fh)
    opened.rest()
    opened.assert_at_home()
    assert (opened.disks["cold"] / "a").read_bytes() == model.data


@pytest.mark.parametrize("seed", range(12))
def test_random_changes_at_every_step_are_all_there(opened: Opened, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(3 * MIB + 77)
    model = Model(opened, begin(opened, data), data)
    for _ in range(MANY):
        opened.step()
        model.random_change(chance)
        if on_cold(opened):
            break
    assert on_cold(opened)
    for _ in range(5):
        model.random_change(chance)
        opened.step()
    model.assert_same()
    opened.release(model.fh)
    opened.rest()
    opened.assert_at_home()
    assert (opened.disks["cold"] / "a").read_bytes() == model.data


@pytest.mark.parametrize("steps", range(1, 60, 3))
def test_after_a_crash_at_any_step_all_that_was_written_is_there(opened: Opened, steps: int) -> None:
    chance = random.Random(steps)
    data = chance.randbytes(2 * MIB + 77)
    model = Model(opened, begin(opened, data), data)
    for _ in range(steps):
        opened.step()
        model.random_change(chance)
    opened.crash()
    opened.open()
    model.assert_same()
    opened.rest()
    opened.assert_at_home()
    assert (opened.disks["cold"] / "a").read_bytes() == model.data


def chmod(opened: Opened) -> None:
    opened.set(f"{COLD}/a", mode=0o600)


def set_times(opened: Opened) -> None:
    opened.set(f"{COLD}/a", atime_ns=1_000_000_000, mtime_ns=2_000_000_000)


def set_xattrs(opened: Opened) -> None:
    number = opened.find(f"{COLD}/a")
    xattrs.put(opened.store, number, b"user.late", b"yes", ME)
    xattrs.remove(opened.store, number, b"user.early", ME)


@pytest.mark.parametrize("steps", range(1, 40, 2))
@pytest.mark.parametrize("change", [chmod, set_times, set_xattrs])
def test_attributes_changed_at_any_step_arrive(shared: Opened, change: Callable[[Opened], None], steps: int) -> None:
    shared.write(f"{HOT}/a", b"x" * 1000)
    xattrs.put(shared.store, shared.find(f"{HOT}/a"), b"user.early", b"yes", ME)
    shared.settle()
    fh = shared.open_file(f"{HOT}/a", write=True)
    shared.rename(f"{HOT}/a", f"{COLD}/a")
    for step in range(steps):
        shared.step()
        shared.write_at(fh, b"y", step)
    change(shared)
    before = shared.stat(f"{COLD}/a")
    names = xattrs.names(shared.store, before.number)
    shared.release(fh)
    shared.rest()
    after = shared.stat(f"{COLD}/a")
    assert (after.mode, after.mtime_ns, after.size) == (before.mode, before.mtime_ns, before.size)
    assert xattrs.names(shared.store, after.number) == names
    shared.assert_at_home()
    assert shared.read(f"{COLD}/a") == b"y" * steps + b"x" * (1000 - steps)


def unlink(opened: Opened) -> None:
    opened.unlink(f"{COLD}/a")


def replace(opened: Opened) -> None:
    opened.write(f"{COLD}/b", b"another")
    opened.rename(f"{COLD}/b", f"{COLD}/a")


def rename_on(opened: Opened) -> None:
    opened.rename(f"{COLD}/a", "uploads/a")


def rename_there(opened: Opened) -> None:
    opened.rename(f"{COLD}/a", f"{COLD}/b")


def rename_back(opened: Opened) -> None:
    opened.rename(f"{COLD}/a", f"{HOT}/a")


def link(opened: Opened) -> None:
    opened.link(f"{COLD}/a", f"{COLD}/b")


def reuse_the_old_name(opened: Opened) -> None:
    opened.write(f"{HOT}/a", b"a newcomer")


@pytest.mark.parametrize("steps", range(1, 40, 2))
@pytest.mark.parametrize("change", [unlink, replace, rename_on, rename_there, rename_back, link, reuse_the_old_name])
def test_names_changed_at_any_step_end_where_they_should(
    shared: Opened, change: Callable[[Opened], None], steps: int
) -> None:
    model = Model(shared, begin(shared, b"x" * 1000), b"x" * 1000)
    number = shared.find(f"{COLD}/a")
    for step in range(steps):
        shared.step()
        model.write(b"y", step)
    change(shared)
    for step in range(4):
        shared.step()
        model.write(b"z", step)
        assert shared.read_at(model.fh) == model.data
    shared.release(model.fh)
    shared.rest()
    shared.assert_at_home()
    found = [path for path, each in shared.walk() if each == number]
    assert len(found) == {"unlink": 0, "replace": 0, "link": 2}.get(change.__name__, 1)
    assert [bytes(shared.read(path)) for path in found] == [bytes(model.data)] * len(found)


# -- trouble on the way -----------------------------------------------------------------------------------------------


def level(opened: Opened, model: Model) -> None:
    """Step until writes go to both sides."""
    number = opened.find(f"{COLD}/a")
    for step in range(MANY):
        opened.step()
        model.write(b"y", step)
        following = opened.store.files.followed.get(number)
        if following is not None and following.is_level:
            return
    raise AssertionError("it is never level")


def fail_on(opened: Opened, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    device = opened.disks["cold"].stat().st_dev
    for name in ("write", "truncate", "sync"):
        whole = getattr(content, name)

        def failing(fd: int, *rest: object, whole: Callable[..., object] = whole, **named: object) -> object:
            if os.fstat(fd).st_dev == device:
                raise OSError(code, os.strerror(code))
            return whole(fd, *rest, **named)

        monkeypatch.setattr(content, name, failing)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_target_that_refuses_a_write_ends_the_copy_and_not_the_write(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, code: int, size: int
) -> None:
    model = Model(opened, begin(opened, b"x" * 1000), b"x" * 1000)
    level(opened, model)
    (move,) = opened.store.index.moves(open_only=True)
    with monkeypatch.context() as failing:
        fail_on(opened, failing, code)
        model.write(b"z" * size, 5)
        model.cut(size // 2)
        assert not on_cold(opened)
        model.assert_same()
        opened.jobs.pop(move.number).finish()
    after = opened.store.index.move(move.number)
    assert after is not None
    assert after.state is MoveState.WAITING
    model.assert_same()
    opened.release(model.fh)
    opened.rest()
    opened.assert_at_home()
    assert (opened.disks["cold"] / "a").read_bytes() == model.data


def test_a_target_that_is_full_ends_the_copy_and_not_the_write(opened: Opened) -> None:
    model = Model(opened, begin(opened, b"x" * 1000), b"x" * 1000)
    level(opened, model)
    if os.statvfs(opened.disks["cold"]).f_blocks > 20_000:
        pytest.skip("too large to be filled")
    ballast = fill(opened.disks["cold"].parent)
    model.write(b"z" * 100_000, 0)
    ballast.unlink()
    opened.release(model.fh)
    opened.rest()
    opened.assert_at_home()
    assert (opened.disks["cold"] / "a").read_bytes() == model.data


def test_a_target_that_goes_away_ends_the_copy_and_not_the_write(opened: Opened) -> None:
    model = Model(opened, begin(opened, b"x" * 1000), b"x" * 1000)
    level(opened, model)
    cold = next(each for each in opened.store.roots.values() if each.name == "cold")
    cold.online = False
    model.write(b"z", 0)
    opened.step(20)
    cold.online = True
    opened.release(model.fh)
    opened.rest()
    opened.assert_at_home()
    assert (opened.disks["cold"] / "a").read_bytes() == model.data


@pytest.mark.parametrize("steps", range(2, 40, 3))
def test_what_others_write_on_the_disk_meanwhile_is_kept(shared: Opened, steps: int) -> None:
    fh = begin(shared, b"x" * 1000)
    for step in range(steps):
        shared.step()
        shared.write_at(fh, b"y", step)
    if not on_cold(shared):
        with (shared.disks["hot"] / "a").open("r+b") as file:
            file.seek(500)
            file.write(b"by others")
    shared.step(2)
    shared.write_at(fh, b"z", 999)
    kept = shared.read(f"{COLD}/a")
    shared.release(fh)
    shared.rest()
    shared.assert_at_home()
    assert shared.read(f"{COLD}/a") == kept
    assert stat.S_ISREG((shared.disks["cold"] / "a").stat().st_mode)


def test_a_sync_reaches_both_sides_once_writes_do(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(opened, begin(opened, b"x" * 1000), b"x" * 1000)
    level(opened, model)
    synced: set[int] = set()

    def sync(fd: int, **_: object) -> None:
        synced.add(os.fstat(fd).st_dev)

    with monkeypatch.context() as watched:
        watched.setattr(content, "sync", sync)
        finish(writing.sync(opened.store, model.fh, data_only=False))
    assert synced == {opened.disks[name].stat().st_dev for name in ("hot", "cold")}


def test_nothing_keeps_the_old_bytes_of_a_file_that_is_still_open(opened: Opened) -> None:
    fh = begin(opened, b"x" * 1000)
    reader = opened.open_file(f"{COLD}/a")
    opened.rest()
    held = [os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert [path for path in held if path.startswith(os.fspath(opened.disks["hot"] / "a"))] == []
    opened.write_at(fh, b"y")
    assert opened.read_at(reader)[:2] == b"yx"
