"""The store's own directories stay, its virtual ones tell the truth, and neither gets in anybody's way."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Mounted, fusestore
from tests.support.tools import failing, tool

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(60)
FIXED = ("uploads", "downloads", "resources", "resources/main")


def test_the_mount_shows_exactly_the_three_areas(shared: Mounted) -> None:
    assert sorted(os.listdir(shared.mountpoint)) == ["downloads", "resources", "uploads"]
    assert sorted(os.listdir(shared.resources)) == ["main", "open"]
    assert os.path.ismount(shared.mountpoint)


@pytest.mark.parametrize("name", FIXED)
def test_skeleton_directories_cannot_be_removed_renamed_or_replaced(shared: Mounted, name: str) -> None:
    top = shared.mountpoint
    (top / "uploads" / "d").mkdir(exist_ok=True)
    attempts: list[Callable[[], object]] = [
        lambda: os.rmdir(top / name),
        lambda: os.rename(top / name, top / f"{name}-renamed"),
        lambda: os.rename(top / name, top / "uploads" / "stolen"),
        lambda: os.rename(top / "uploads" / "d", top / name),
    ]
    for number, attempt in enumerate(attempts):
        if name == "uploads" and number in (2, 3):
            continue  # into or over its own parent: the kernel answers before us
        with pytest.raises(PermissionError):
            attempt()
    assert (top / name).is_dir()


@pytest.mark.parametrize("place", ["", "resources"])
def test_nothing_can_be_made_beside_the_skeleton(shared: Mounted, place: str) -> None:
    top = shared.mountpoint / place
    attempts: list[Callable[[], object]] = [
        (top / "new").mkdir,
        (top / "new").touch,
        lambda: (top / "new").symlink_to("x"),
        lambda: os.mkfifo(top / "new"),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionError):
            attempt()


def test_by_id_is_a_symlink_to_the_present_path(shared: Mounted) -> None:
    path = shared.uploads / "wanderer"
    path.write_bytes(b"found by id")
    identity = os.getxattr(path, "user.fusestore.id").decode()
    link = shared.mountpoint / ".fusestore" / "by-id" / identity
    assert link.is_symlink()
    assert link.read_bytes() == b"found by id"
    os.rename(path, shared.resources / "main" / "wanderer here")
    assert link.resolve() == (shared.resources / "main" / "wanderer here").resolve()
    assert link.read_bytes() == b"found by id"
    (shared.resources / "main" / "wanderer here").unlink()
    assert not os.path.lexists(link)


def test_by_hash_is_a_symlink_to_a_file_with_that_content(shared: Mounted) -> None:
    content = os.urandom(1000)
    twins = [shared.uploads / "one twin", shared.resources / "main" / "the other"]
    for twin in twins:
        twin.write_bytes(content)
    shared.wait("--all")
    algorithm, _, digits = shared.record(twins[0])["hash"].partition(":")
    hashes = shared.mountpoint / ".fusestore" / "by-hash"
    assert sorted(os.listdir(hashes)) == ["blake3", "sha256"]
    assert os.listdir(hashes / algorithm) == []
    link = hashes / algorithm / digits
    assert link.is_symlink()
    assert link.resolve() in twins
    with link.open("rb") as reader:
        assert reader.read() == content
    link.resolve().write_bytes(b"another content")
    assert link.read_bytes() == content  # the other one's
    for twin in twins:
        twin.unlink()
    other = "sha256" if algorithm == "blake3" else "blake3"
    for name in (
        f"{algorithm}/{digits}",
        f"{algorithm}/{digits.upper()}",
        f"{algorithm}/{digits[:-2]}",
        f"{other}/{digits}",
    ):
        assert not os.path.lexists(hashes / name)
    with failing(errno.EPERM):
        link.symlink_to("elsewhere")


def test_an_id_that_never_was_is_not_found(shared: Mounted) -> None:
    by_id = shared.mountpoint / ".fusestore" / "by-id"
    for name in (str(uuid.uuid4()), "x", "0" * 255):
        assert not os.path.lexists(by_id / name)
    with failing():
        (by_id / "new").touch()


def test_the_virtual_directory_is_hidden_but_can_be_entered(shared: Mounted) -> None:
    assert ".fusestore" not in os.listdir(shared.mountpoint)
    assert (shared.mountpoint / ".fusestore").is_dir()
    with pytest.raises(PermissionError):
        os.rmdir(shared.mountpoint / ".fusestore")


def test_the_markers_on_the_disks_are_hidden(shared: Mounted) -> None:
    for name in ("main", "open"):
        assert ".fusestore" not in os.listdir(shared.resources / name)
        with failing():
            (shared.resources / name / ".fusestore" / "root.toml").read_bytes()


def test_a_command_given_a_path_finds_its_daemon_from_any_directory(shared: Mounted) -> None:
    (shared.uploads / "f").write_bytes(b"x")
    assert fusestore("stat", shared.uploads / "f", "--json").code == 0
    identity = shared.record(shared.uploads / "f")["id"]
    assert shared.record(identity)["path"] == "uploads/f"


def test_find_names_every_file_once(shared: Mounted) -> None:
    place = shared.uploads / "counted"
    place.mkdir()
    for number in range(50):
        (place / f"{number}").touch()
    found = tool("find", shared.mountpoint, "-path", "*/counted/*").splitlines()
    assert len(found) == len(set(found)) == 50


def test_a_missing_name_is_missing_and_a_path_through_a_file_is_not_a_directory(shared: Mounted) -> None:
    assert not Path(shared.uploads / "none").exists()
    (shared.uploads / "plain").touch()
    with pytest.raises(NotADirectoryError):
        os.stat(shared.uploads / "plain" / "x")
