"""A root's marker: found, made, locked, taken over, and never believed when somebody else may have put it there."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from fusestore.config import RootConfig
from fusestore.errors import RootUnavailable
from fusestore.model import Layout, Outside, RootNo
from fusestore.roots.local import LocalRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Attach = Callable[..., LocalRoot]

pytestmark = pytest.mark.timeout(60)

STORE, OTHER_STORE = uuid4().bytes, uuid4().bytes


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "hot"


@pytest.fixture
def attach(place: Path) -> Iterator[Attach]:
    opened: list[LocalRoot] = []

    def attach_it(
        *,
        store: bytes = STORE,
        name: str = "hot",
        layout: Layout = Layout.TREE,
        create: bool = False,
        take: bool = False,
    ) -> LocalRoot:
        spec = RootConfig(name, place, Outside.WRITERS)
        root = LocalRoot.attach(RootNo(1), spec, layout, store, create=create, take=take)
        opened.append(root)
        return root

    yield attach_it
    for root in opened:
        if root.online:
            root.close()


def refused(call: Callable[[], LocalRoot]) -> str:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RootUnavailable) as caught:
        call()
    assert len(os.listdir("/proc/self/fd")) == before
    message = str(caught.value)
    assert message.startswith("root ")
    assert "\n" not in message
    return message


def test_a_new_root_is_made_with_its_directory_and_found_again(attach: Attach, place: Path) -> None:
    first = attach(create=True)
    uuid = first.uuid
    first.close()
    again = attach()
    assert again.uuid == uuid
    assert (again.name, again.layout, again.outside, again.online) == ("hot", Layout.TREE, Outside.WRITERS, True)
    text = (place / ".fusestore" / "root.toml").read_text()
    assert all(fact in text for fact in (str(UUID(bytes=uuid)), str(UUID(bytes=STORE)), '"hot"', '"tree"'))
    assert stat.S_IMODE((place / ".fusestore").stat().st_mode) == 0o700
    assert os.listdir(place / ".fusestore") == ["root.toml"]


def test_existing_files_are_left_alone_when_a_root_is_made(attach: Attach, place: Path) -> None:
    place.mkdir(parents=True)
    (place / "file").write_bytes(b"old")
    attach(create=True)
    assert (place / "file").read_bytes() == b"old"


def test_a_missing_directory_or_marker_is_a_missing_disk(attach: Attach, place: Path) -> None:
    assert "does not exist; is its disk mounted?" in refused(attach)
    place.mkdir(parents=True)
    assert "has no marker (.fusestore/root.toml); is its disk mounted?" in refused(attach)
    (place / ".fusestore").mkdir()
    assert "has no marker (.fusestore/root.toml); is its disk mounted?" in refused(attach)
    assert os.listdir(place) == [".fusestore"]


def test_a_file_is_not_a_root(attach: Attach, place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_bytes(b"")
    assert "is not a directory" in refused(attach)
    assert "is not a directory" in refused(lambda: attach(create=True))


def test_a_root_in_use_is_refused_even_to_who_would_take_it(attach: Attach) -> None:
    held = attach(create=True)
    assert "is in use" in refused(attach)
    assert "is in use" in refused(lambda: attach(store=OTHER_STORE, take=True))
    held.close()
    attach()


def test_a_root_of_another_store_is_taken_only_when_told_to(attach: Attach, place: Path) -> None:
    first = attach(create=True)
    uuid = first.uuid
    first.close()
    before = (place / ".fusestore" / "root.toml").read_bytes()
    for create in (False, True):
        message = refused(lambda: attach(store=OTHER_STORE, create=create))  # noqa: B023
        assert "belongs to another store" in message
        assert "--take" in message
    assert (place / ".fusestore" / "root.toml").read_bytes() == before
    taken = attach(store=OTHER_STORE, name="cold", take=True)
    assert taken.uuid == uuid
    assert "is in use" in refused(attach)
    taken.close()
    assert "belongs to another store" in refused(attach)
    assert os.listdir(place / ".fusestore") == ["root.toml"]


def test_the_marker_of_a_sister_root_is_a_copy_or_a_mistake(attach: Attach) -> None:
    attach(create=True).close()
    assert "carries the marker of root hot" in refused(lambda: attach(name="cold", create=True, take=True))
    assert "has layout tree, expected id" in refused(lambda: attach(layout=Layout.ID))


def test_a_planted_marker_directory_is_refused(attach: Attach, place: Path, tmp_path: Path) -> None:
    place.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    planted = place / ".fusestore"
    planted.symlink_to(elsewhere)
    for create in (False, True):
        assert "is not a directory of its own" in refused(lambda: attach(create=create))  # noqa: B023
    planted.unlink()
    os.mkfifo(planted)
    assert "is not a directory of its own" in refused(lambda: attach(create=True))
    assert os.listdir(elsewhere) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_marker_directory_of_another_user_is_refused_unless_the_root_is_theirs(attach: Attach, place: Path) -> None:
    attach(create=True).close()
    os.chown(place / ".fusestore", 65534, 65534)
    assert "belongs to uid 65534" in refused(attach)
    os.chown(place, 65534, 65534)
    attach()


def test_a_planted_marker_is_refused_and_blocks_nobody(attach: Attach, place: Path, tmp_path: Path) -> None:
    attach(create=True).close()
    marker = place / ".fusestore" / "root.toml"
    marker.rename(tmp_path / "root.toml")
    marker.symlink_to(tmp_path / "root.toml")
    assert "cannot be opened" in refused(attach)
    marker.unlink()
    os.mkfifo(marker)
    assert "cannot be opened" in refused(attach)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "cannot be understood"),
        (b"\xff\x00", "cannot be understood"),
        (b"format = 1\n", "cannot be understood"),
        (b'format = 2\ncolour = "new"\n', "has format 2, this fusestore knows 1"),
    ],
)
def test_a_marker_that_means_nothing_is_named(attach: Attach, place: Path, text: bytes, words: str) -> None:
    attach(create=True).close()
    (place / ".fusestore" / "root.toml").write_bytes(text)
    assert words in refused(attach)
    assert words in refused(lambda: attach(create=True))
