"""What mounted tests start from: a store that a module shares, places in it of each kind, and two disks."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Mounted, Root, mounted
from tests.support.pair import Disks, two_disks

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def disks() -> Iterator[Disks]:
    """An ext4 and an xfs disk, shared by the whole session; take a folder of your own on each."""
    with two_disks() as pair:
        yield pair


@pytest.fixture
def deadline_s(request: pytest.FixtureRequest) -> float:
    """Shorter than the test's own timeout, so that a hang in the mount ends as an ordinary failure."""
    marker = request.node.get_closest_marker("timeout")
    return float(marker.args[0]) - 10 if marker else 100.0


@pytest.fixture(scope="module")
def shared() -> Iterator[Mounted]:
    """One mounted store for all tests of a module; its root `open` may be changed from outside, `main` may not."""
    base = Path(tempfile.mkdtemp(prefix="fusestore-shared-"))  # pytest's own folders are closed to other users
    base.chmod(0o755)
    try:
        with mounted(base, {"open": Root(base / "open-disk", "writers")}, allow_other=os.geteuid() == 0) as subject:
            yield subject
    finally:
        shutil.rmtree(base)


@pytest.fixture(params=["uploads", "main", "open"])
def area(request: pytest.FixtureRequest, shared: Mounted, deadline_s: float) -> Iterator[Path]:
    """A fresh directory inside the mount: by id, in a tree that is ours alone, in a tree that others may change."""
    above = shared.uploads if request.param == "uploads" else shared.resources / request.param
    place = above / f"place-{next(_numbers)}"
    with shared.deadline(deadline_s):
        place.mkdir()
        yield place


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The directory that the mount is compared with."""
    place = tmp_path / "plain"
    place.mkdir()
    return place


@pytest.fixture
def own(tmp_path: Path, deadline_s: float) -> Iterator[Mounted]:
    """A mounted store for one test alone."""
    with mounted(tmp_path / "own") as subject, subject.deadline(deadline_s):
        yield subject


@pytest.fixture
def travel(tmp_path: Path, disks: Disks, deadline_s: float) -> Iterator[Mounted]:
    """A mounted store with the roots `hot` and `cold` on two disks of their own."""
    folder = f"test-{next(_numbers)}"
    roots = {"hot": Root(disks.hot / folder), "cold": Root(disks.cold / folder)}
    with mounted(tmp_path / "travel", roots) as subject, subject.deadline(deadline_s):
        yield subject


@pytest.fixture
def interpreter() -> Iterator[Path]:
    """An interpreter that the ordinary user may run; root's own often lies in a closed home directory."""
    real = Path(sys.executable).resolve()
    prefix = real.parents[1]
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in real.parents):
        yield real
        return
    place = Path("/tmp") / f"fusestore-python-{os.getpid()}"
    place.mkdir()
    subprocess.run(["mount", "--bind", prefix, place], check=True)
    try:
        yield place / real.relative_to(prefix)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()
