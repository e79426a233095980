"""Names are bytes: any of them, up to 255, but those that the store keeps for itself."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.tools import failing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)
NO_TIMES = frozenset({"mtime_ns"})


def odd_names(count: int, seed: int) -> list[bytes]:
    """Names of 1 to 255 bytes, of all bytes but "/" and NUL."""
    chance = random.Random(seed)
    letters = bytes(b for b in range(1, 256) if b != ord("/"))
    found = {bytes([b]) for b in letters if b != ord(".")} | {
        b"...",
        b"-rf",
        b" ",
        b"\n",
        b"*",
        b"a" * 255,
        b"\xff" * 255,
    }
    while len(found) < count:
        found.add(bytes(chance.choices(letters, k=chance.choice((2, 3, 8, 30, 100, 255)))))
    return sorted(found - {b".", b"..", b".fusestore"})


@pytest.mark.parametrize("count", [2000, pytest.param(10_000, marks=pytest.mark.long)])
def test_odd_names_are_kept_renamed_and_removed_byte_for_byte(area: Path, plain: Path, count: int) -> None:
    names = odd_names(count, seed=count)
    chance = random.Random(count)
    fresh = iter([name for name in odd_names(count * 2, seed=count + 1) if name not in set(names)])
    victims = [(name, chance.random()) for name in names]
    spare = list(fresh)
    for place in (os.fsencode(area), os.fsencode(plain)):
        for name in names:
            with open(os.path.join(place, name), "wb") as file:
                file.write(name)
        assert sorted(os.listdir(place)) == names
        targets = iter(spare)
        for name, fate in victims:
            path = os.path.join(place, name)
            if fate < 0.3:
                os.unlink(path)
            elif fate < 0.6:
                os.rename(path, os.path.join(place, next(targets)))
    assert_same(plain, area, ignore=NO_TIMES)


def test_a_name_of_255_bytes_works_and_one_of_256_is_too_long(area: Path) -> None:
    (area / ("n" * 255)).write_bytes(b"x")
    (area / ("n" * 255)).rename(area / ("m" * 255))
    assert [p.name for p in area.iterdir()] == ["m" * 255]
    for attempt in (
        lambda: (area / ("n" * 256)).write_bytes(b"x"),
        (area / ("n" * 256)).mkdir,
        lambda: (area / ("n" * 256)).symlink_to("x"),
        lambda: os.stat(area / ("n" * 256)),
        lambda: (area / ("m" * 255)).rename(area / ("n" * 256)),
    ):
        with failing(errno.ENAMETOOLONG):
            attempt()


def test_a_name_that_is_not_utf8_is_listed_read_and_found_as_it_is(area: Path) -> None:
    path = os.path.join(os.fsencode(area), b"caf\xe9 \xff\xfe")
    with open(path, "wb") as file:
        file.write(b"latin")
    assert os.listdir(os.fsencode(area)) == [b"caf\xe9 \xff\xfe"]
    with open(path, "rb") as file:
        assert file.read() == b"latin"
    assert os.getxattr(path, "user.fusestore.path").endswith(b"caf\xe9 \xff\xfe")


def test_a_directory_can_be_emptied_while_it_is_read(area: Path) -> None:
    names = {f"entry-{n:05}" for n in range(3000)}
    for name in names:
        (area / name).touch()
    seen: list[str] = []
    with os.scandir(area) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert sorted(seen) == sorted(names)
    assert list(area.iterdir()) == []


def test_entries_that_stay_are_seen_exactly_once_while_others_come_and_go(area: Path) -> None:
    steady = {f"steady-{n:05}" for n in range(2000)}
    for name in steady:
        (area / name).touch()
    seen: list[str] = []
    with os.scandir(area) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            (area / f"passing-{number}").touch()
            if number % 3 == 2:
                (area / f"passing-{number - 1}").unlink()
            if number > 10_000:
                break
    assert sorted(name for name in seen if name in steady) == sorted(steady)


@pytest.mark.parametrize("action", ["touch", "mkdir", "symlink", "rename"])
def test_the_reserved_name_is_refused_at_the_top_of_a_root(shared_top: Path, action: str) -> None:
    target = shared_top / ".fusestore"
    (shared_top / "ordinary").touch()
    attempts: dict[str, Callable[[], object]] = {
        "touch": target.touch,
        "mkdir": target.mkdir,
        "symlink": lambda: target.symlink_to("x"),
        "rename": lambda: (shared_top / "ordinary").rename(target),
    }
    with failing():
        attempts[action]()
    assert ".fusestore" not in os.listdir(shared_top)
    assert (shared_top / "ordinary").exists()


@pytest.fixture
def shared_top(area: Path) -> Path:
    return area.parent
