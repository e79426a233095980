"""Going through a tree whose names change meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.service import walking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.model import Inode
    from tests.support.opened import Opened

HOT = "resources/hot"


def plant(opened: Opened) -> None:
    for directory in ("t", "t/u", "t/u/v", "t/w"):
        opened.mkdir(f"{HOT}/{directory}")
    for file in ("t/a", "t/u/b", "t/u/v/c", "t/w/d"):
        opened.write(f"{HOT}/{file}", b"x")


def names(opened: Opened, walk: Iterator[Inode]) -> list[str]:
    return [(opened.store.path(inode.number) or b"").decode().removeprefix(f"{HOT}/") for inode in walk]


def test_everything_is_given_once_and_a_directory_before_what_is_in_it(opened: Opened) -> None:
    plant(opened)
    for number in range(2 * walking.PAGE):
        opened.symlink(f"{HOT}/t/w/{number}", "nowhere")
    found = names(opened, walking.below(opened.store, opened.find(f"{HOT}/t")))
    links = {f"t/w/{number}" for number in range(2 * walking.PAGE)}
    assert sorted(found) == sorted({"t", "t/a", "t/u", "t/u/b", "t/u/v", "t/u/v/c", "t/w", "t/w/d"} | links)
    for path in found[1:]:
        assert found.index(path.rpartition("/")[0]) < found.index(path)


def test_a_file_is_a_tree_of_its_own_and_what_is_gone_is_none(opened: Opened) -> None:
    plant(opened)
    number = opened.find(f"{HOT}/t/a")
    assert names(opened, walking.below(opened.store, number)) == ["t/a"]
    opened.unlink(f"{HOT}/t/a")
    assert list(walking.below(opened.store, number)) == []


def test_what_happens_between_two_is_seen(opened: Opened) -> None:
    plant(opened)
    walk = walking.below(opened.store, opened.find(f"{HOT}/t"))
    assert names(opened, iter([next(walk)])) == ["t"]
    opened.write(f"{HOT}/t/new", b"x")
    opened.unlink(f"{HOT}/t/w/d")
    opened.rmdir(f"{HOT}/t/w")
    assert sorted(names(opened, walk)) == ["t/a", "t/new", "t/u", "t/u/b", "t/u/v", "t/u/v/c"]
