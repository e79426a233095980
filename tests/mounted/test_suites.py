"""Suites that others wrote to find fault with file systems find none in a mount, as root and as an ordinary user."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.support.tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Mounted

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user, and open a mount to him"),
]

NOBODY: Final = 65534  # an ordinary user whom /etc/passwd knows: some of the suites look for their user there
FEW_FILE_TESTS: Final = ("test_os", "test_posix", "test_shutil", "test_tempfile", "test_mmap", "test_fcntl")
FILE_TESTS: Final = (
    *FEW_FILE_TESTS,
    *("test_zipfile", "test_tarfile", "test_pathlib", "test_glob", "test_sqlite3", "test_mailbox", "test_io"),
    "test_largefile",
)
CRASHES: Final = "test_find_does_not_access_beyond_buffer"  # ends some interpreters (3.11.7); it maps no file
THERE: Final = "import importlib.util as u, sys; print(*(m for m in sys.argv[1:] if u.find_spec(f'test.{m}')))"

ONE_BY_ONE: Final = pytest.param(("--sequential", "1", "--timeout", "1"), marks=pytest.mark.long)

_numbers = itertools.count(1)


class Place(NamedTuple):
    """A fresh directory in a mount, and the user whose it is."""

    path: Path
    uid: int


ALL: Final = [(root, uid) for root in ("uploads", "main", "open") for uid in (0, NOBODY)]


def places(short: list[tuple[str, int]]) -> pytest.MarkDecorator:
    """Have a test run in these kinds of root as these users, and in all of them as both when there is time."""
    rest = [pytest.param(each, marks=pytest.mark.long) for each in ALL if each not in short]
    return pytest.mark.parametrize("place", [*short, *rest], indirect=True, ids=lambda each: "-".join(map(str, each)))


@pytest.fixture
def place(request: pytest.FixtureRequest, shared: Mounted, deadline_s: float) -> Iterator[Place]:
    root, uid = request.param
    above = shared.uploads if root == "uploads" else shared.resources / root
    path = above / f"suite-{next(_numbers)}"
    with shared.deadline(deadline_s):
        path.mkdir()
        os.chown(path, uid, uid)
        yield Place(path, uid)


@places(ALL)
@pytest.mark.parametrize("engine", ["psync", "mmap", "direct"])
def test_fio_reads_what_it_wrote(place: Place, engine: str) -> None:
    how = ["--ioengine=psync", "--direct=1"] if engine == "direct" else [f"--ioengine={engine}"]
    job = ["--name=verify", "--rw=randrw", "--bsrange=4k-64k", "--size=8m", "--numjobs=2", "--fsync=50"]
    checks = ["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_backlog=100"]
    tool("fio", "--directory", place.path, *how, *job, *checks, uid=place.uid, cwd=place.path)


@places(ALL)
def test_dbench_does_the_work_of_an_office(place: Place) -> None:
    said = tool(
        "dbench", "--directory", place.path, "--timelimit=2", "--skip-cleanup", "4", uid=place.uid, cwd=place.path
    )
    assert "Throughput" in said


@places([("open", NOBODY)])
@pytest.mark.parametrize("how", [("--all", "1", "--timeout", "10"), ONE_BY_ONE], ids=["all at once", "one by one"])
def test_stress_ng_finds_that_what_it_calls_works(place: Place, how: tuple[str, ...]) -> None:
    calls = ("--class", "filesystem", "--exclude", "binderfs", *how, "--verify")  # most kernels have no binderfs
    tool("stress-ng", *calls, "--temp-path", place.path, uid=place.uid, cwd=place.path, timeout_s=600)


@places([("main", NOBODY)])
@pytest.mark.parametrize("tests", [FEW_FILE_TESTS, pytest.param(FILE_TESTS, marks=pytest.mark.long)], ids=len)
def test_python_s_own_tests_of_files_pass(place: Place, tests: tuple[str, ...], interpreter: Path) -> None:
    there = tool(interpreter, "-c", THERE, *tests).split()  # some distributions leave some out
    assert set(FEW_FILE_TESTS) <= set(there)
    run = ("-m", "test", "--timeout", "600", "--ignore", CRASHES, *there)
    tool("env", f"TMPDIR={place.path}", interpreter, *run, uid=place.uid, cwd=place.path, timeout_s=1400)
