"""Whatever is on its way between roots can be removed, renamed, replaced, moved back and added to.

Every file has a writer, so its bytes go while it is open, before, between and after what is done to it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.daemon import Mounted, Root, mounted
from tests.support.disks import bytes_below
from tests.support.tools import python, scripts, tool

if TYPE_CHECKING:
    from tests.support.pair import Disks

pytestmark = pytest.mark.timeout(180)
NO_TIMES = frozenset({"mtime_ns"})


def make_tree(top: Path) -> Path:
    for name in ("a", "b", "a/deep", "a/deep/deeper", "hollow"):
        (top / name).mkdir(parents=True)
    for number in range(8):
        (top / "a" / f"f{number}").write_bytes(f"file {number}".encode() * 1000)
        (top / "a" / "deep" / "deeper" / f"g{number}").write_bytes(f"deep {number}".encode() * 1000)
    os.link(top / "a" / "f0", top / "b" / "linked")
    os.symlink("../a/f1", top / "b" / "symlink")
    os.mkfifo(top / "b" / "fifo")
    return top


@contextlib.contextmanager
def writers(top: Path) -> Iterator[None]:
    """Hold every regular file below `top` open for writing, in this process."""
    with contextlib.ExitStack() as stack:
        for directory, _, files in os.walk(top):
            for name in files:
                path = Path(directory, name)
                if path.is_file() and not path.is_symlink():
                    stack.callback(close, os.open(path, os.O_WRONLY | os.O_APPEND))
        yield


def close(handle: int) -> None:
    with contextlib.suppress(OSError):  # a handle that outlived its daemon answers ENOTCONN
        os.close(handle)


Change = Callable[[Path, Path], None]  # (the directory on its way, a directory on the root where it came from)


def remove_a_file(tree: Path, before: Path) -> None:
    (tree / "a" / "f3").unlink()


def remove_all(tree: Path, before: Path) -> None:
    shutil.rmtree(tree)


def remove_and_make_anew(tree: Path, before: Path) -> None:
    shutil.rmtree(tree / "a")
    (tree / "a").mkdir()
    (tree / "a" / "f1").write_bytes(b"another f1")


def remove_one_hard_link(tree: Path, before: Path) -> None:
    (tree / "a" / "f0").unlink()


def remove_an_empty_directory(tree: Path, before: Path) -> None:
    (tree / "hollow").rmdir()


def rename_a_file(tree: Path, before: Path) -> None:
    os.rename(tree / "a" / "f2", tree / "b" / "renamed")


def rename_a_directory(tree: Path, before: Path) -> None:
    os.rename(tree / "a" / "deep", tree / "shallow")


def replace_a_file(tree: Path, before: Path) -> None:
    (tree / "new").write_bytes(b"replacement")
    os.replace(tree / "new", tree / "a" / "f4")


def replace_one_by_another(tree: Path, before: Path) -> None:
    os.replace(tree / "a" / "f5", tree / "a" / "f6")


def create_in_it(tree: Path, before: Path) -> None:
    (tree / "a" / "deep" / "deeper" / "new").write_bytes(b"new")
    (tree / "a" / "deep" / "fresh").mkdir()
    (tree / "a" / "deep" / "fresh" / "x").write_bytes(b"x")
    os.symlink("x", tree / "hollow" / "s")
    os.link(tree / "a" / "f1", tree / "hollow" / "h")


def write_to_it(tree: Path, before: Path) -> None:
    with open(tree / "a" / "f1", "r+b") as file:
        file.seek(500)
        file.write(b"changed on its way")
        file.truncate(6000)
    os.chmod(tree / "a" / "f2", 0o600)
    os.setxattr(tree / "a" / "f2", "user.late", b"yes")


def move_a_part_back(tree: Path, before: Path) -> None:
    os.rename(tree / "a" / "deep", before / "back")


def move_a_file_back_and_forth(tree: Path, before: Path) -> None:
    os.rename(tree / "a" / "f7", before / "f7")
    os.rename(before / "f7", tree / "b" / "f7")


def move_all_back(tree: Path, before: Path) -> None:
    os.rename(tree, before / "tree")


def reuse_the_old_name(tree: Path, before: Path) -> None:
    (before / "tree").mkdir()
    (before / "tree" / "a").mkdir()
    (before / "tree" / "a" / "f1").write_bytes(b"a newcomer under the old name")


def reuse_and_remove_the_old_name(tree: Path, before: Path) -> None:
    reuse_the_old_name(tree, before)
    shutil.rmtree(before / "tree")


CHANGES: list[Change] = [
    remove_a_file, remove_all, remove_and_make_anew, remove_one_hard_link, remove_an_empty_directory, rename_a_file,
    rename_a_directory, replace_a_file, replace_one_by_another, create_in_it, write_to_it, move_a_part_back,
    move_a_file_back_and_forth, move_all_back, reuse_the_old_name, reuse_and_remove_the_old_name,
]  # fmt: skip


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory, disks: Disks) -> Iterator[Mounted]:
    """A store with roots on two disks, shared by the module's many small cases."""
    roots = {"hot": Root(disks.hot / "road"), "cold": Root(disks.cold / "road")}
    with mounted(tmp_path_factory.mktemp("road"), roots) as subject:
        yield subject


@pytest.mark.parametrize(
    ("start", "crash"), [("uploads", False), ("resources/hot", False), ("resources/hot", True)],
    ids=["from-uploads", "from-hot", "from-hot-and-a-crash"],
)  # fmt: skip
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changing_a_tree_on_its_way(
    road: Mounted, tmp_path: Path, deadline_s: float, change: Change, start: str, crash: bool
) -> None:
    case = f"{change.__name__}-{start.replace('/', '-')}-{crash}"
    here, there, plain = road.mountpoint / start / case, road.resources / "cold" / case, tmp_path / "plain"
    for before, after in ((plain / "before", plain / "after"), (here, there)):
        before.mkdir(parents=True)
        after.mkdir()
        make_tree(before / "tree")
    os.rename(plain / "before" / "tree", plain / "after" / "tree")
    change(plain / "after" / "tree", plain / "before")

    with road.deadline(deadline_s):
        with writers(here / "tree"):
            os.rename(here / "tree", there / "tree")
            change(there / "tree", here)
            if crash:
                road.kill9()
                road.mount()
            assert_same(plain / "after", there, ignore=NO_TIMES)
            assert_same(plain / "before", here, ignore=NO_TIMES)
        road.wait(there)
        road.wait(here)
        assert_same(plain / "after", there, ignore=NO_TIMES)
        assert_same(plain / "before", here, ignore=NO_TIMES)
        assert_same(plain / "after", road.roots["cold"].directory / case, ignore=NO_TIMES)
        if start == "resources/hot":
            assert_same(plain / "before", road.roots["hot"].directory / case, ignore=NO_TIMES)


def test_hard_links_that_end_on_two_roots_stay_one_file(travel: Mounted) -> None:
    hot, cold = travel.resources / "hot", travel.resources / "cold"
    (hot / "one").write_bytes(b"bytes")
    os.link(hot / "one", hot / "two")
    os.rename(hot / "two", cold / "two")
    travel.wait("--all")
    assert os.stat(hot / "one").st_ino == os.stat(cold / "two").st_ino
    assert os.stat(hot / "one").st_nlink == 2
    (cold / "two").write_bytes(b"changed through the other")
    assert (hot / "one").read_bytes() == b"changed through the other"
    (hot / "one").unlink()
    travel.wait("--all")
    assert (cold / "two").read_bytes() == b"changed through the other"
    assert (travel.roots["cold"].directory / "two").read_bytes() == b"changed through the other"


def test_a_writer_with_an_open_handle_goes_on_on_the_disk_where_its_file_has_gone(travel: Mounted) -> None:
    old, new = travel.resources / "hot" / "log", travel.resources / "cold" / "log"
    there = travel.roots["cold"].directory / "log"
    with open(old, "wb", buffering=0) as writer:
        writer.write(b"before ")
        os.rename(old, new)
        writer.write(b"during ")
        assert new.read_bytes() == b"before during "
        travel.wait("--all")
        assert there.read_bytes() == b"before during "
        assert not (travel.roots["hot"].directory / "log").exists()
        writer.write(b"after")
        assert there.read_bytes() == new.read_bytes() == b"before during after"
    assert there.read_bytes() == b"before during after"


APPENDER = """
import sys
with open(sys.argv[1], "ab", buffering=0) as file:
    for number in range(3000):
        file.write(b"%08d\\n" % number)
"""


def test_a_program_that_appends_throughout_many_moves_loses_no_byte(travel: Mounted) -> None:
    places = [travel.resources / "hot" / "log", travel.resources / "cold" / "log"]
    places[0].touch()
    for turn in range(6):
        with scripts(APPENDER, (places[turn % 2],)) as [writer]:
            while writer.poll() is None and os.stat(places[turn % 2]).st_size <= turn * 27_000:
                pass
            os.rename(places[turn % 2], places[(turn + 1) % 2])
            assert writer.wait(60) == 0
    travel.wait("--all")
    expected = b"".join(b"%08d\n" % n for n in range(3000)) * 6
    assert places[0].read_bytes() == expected
    assert (travel.roots["hot"].directory / "log").read_bytes() == expected


READER = """
import hashlib, sys
with open(sys.argv[1], "rb") as file:
    print(hashlib.sha256(file.read()).hexdigest())
"""


def test_reading_a_tree_over_and_over_while_it_moves_gives_the_same_bytes(travel: Mounted, tmp_path: Path) -> None:
    plain = make_tree(tmp_path / "tree")
    with open(plain / "big", "wb") as file:
        file.write(os.urandom(32 << 20))
    tool("cp", "-a", plain, travel.uploads / "tree")
    travel.wait("--all")
    os.rename(travel.uploads / "tree", travel.resources / "cold" / "tree")
    while travel.moves():
        assert python(READER, travel.resources / "cold" / "tree" / "big") == python(READER, plain / "big")
        assert_same(plain, travel.resources / "cold" / "tree")
    assert_same(plain, travel.roots["cold"].directory / "tree")


def test_many_small_files_can_be_removed_while_they_move(travel: Mounted) -> None:
    top = travel.uploads / "many"
    top.mkdir()
    for number in range(1500):
        (top / f"{number:04}").write_bytes(b"x" * 2000)
    os.rename(top, travel.resources / "cold" / "many")
    tool("rm", "-r", travel.resources / "cold" / "many")
    travel.wait("--all")
    assert os.listdir(travel.resources / "cold") == []
    assert bytes_below(travel.roots["cold"].directory) == []
    assert bytes_below(travel.store / "uploads") == []


def test_many_small_files_bounced_between_roots_end_where_their_last_name_says(travel: Mounted, tmp_path: Path) -> None:
    plain = make_tree(tmp_path / "tree")
    tool("cp", "-a", plain, travel.uploads / "tree")
    places = [travel.uploads, travel.resources / "hot", travel.resources / "cold", travel.resources / "main"]
    for turn in range(21):
        os.rename(places[turn % 4] / "tree", places[(turn + 1) % 4] / "tree")
    travel.wait("--all")
    assert_same(plain, places[21 % 4] / "tree")
    assert_same(plain, travel.roots["hot"].directory / "tree")
    for place in (*places[2:], places[0]):
        assert os.listdir(place) == []
