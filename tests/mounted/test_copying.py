"""Copying trees into and out of the mount gives what a plain directory gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.compare import assert_same
from tests.support.tools import library, tool

if TYPE_CHECKING:
    from pathlib import Path

SIZES = [pytest.param(False, id="part"), pytest.param(True, id="full", marks=pytest.mark.long)]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=SIZES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("source") / "library", full=request.param)


def test_cp_a_into_the_mount_and_back_keeps_everything(source: Path, area: Path, plain: Path) -> None:
    tool("cp", "-a", source, area / "in", timeout_s=300)
    assert_same(source, area / "in")
    tool("cp", "-a", area / "in", plain / "out", timeout_s=300)
    assert_same(source, plain / "out")


def test_rsync_a_keeps_everything_and_finds_nothing_to_do_the_second_time(source: Path, area: Path) -> None:
    tool("rsync", "-aHX", f"{source}/", area / "in", timeout_s=300)
    assert_same(source, area / "in")
    assert tool("rsync", "-aHXi", f"{source}/", area / "in", timeout_s=300) == ""
    assert tool("rsync", "-aHXic", f"{source}/", area / "in", timeout_s=300) == ""


def test_tar_in_and_out_keeps_everything(source: Path, area: Path, plain: Path) -> None:
    tool("tar", "--format=posix", "-cf", plain / "in.tar", "-C", source, ".", timeout_s=300)
    (area / "in").mkdir()
    tool("tar", "-xpf", plain / "in.tar", "-C", area / "in", timeout_s=300)
    assert_same(source, area / "in")
    tool("tar", "--format=posix", "-cf", area / "out.tar", "-C", area / "in", ".", timeout_s=300)
    (plain / "out").mkdir()
    tool("tar", "-xpf", area / "out.tar", "-C", plain / "out", timeout_s=300)
    assert_same(source, plain / "out")


def test_find_and_diff_see_the_same_tree(source: Path, area: Path) -> None:
    tool("cp", "-a", source, area / "in", timeout_s=300)
    question = ("find", ".", "-printf", r"%P %y %m %U %G %T@ %l\n")
    seen = sorted(tool(*question, cwd=area / "in").splitlines())
    assert seen == sorted(tool(*question, cwd=source).splitlines())
    assert tool("diff", "-r", "--no-dereference", source, area / "in", timeout_s=300) == ""


def test_rm_r_of_a_big_tree_leaves_an_empty_directory(source: Path, area: Path) -> None:
    tool("cp", "-a", source, area / "in", timeout_s=300)
    tool("rm", "-r", area / "in", timeout_s=300)
    assert list(area.iterdir()) == []
