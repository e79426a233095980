"""Programs that ask much of a file system do in the mount what they do on a plain directory."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.support.compare import assert_same
from tests.support.tools import library, python, tool

pytestmark = pytest.mark.timeout(300)
AUTHOR = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "gc.auto=0", "-c", "safe.directory=*")


def git(*arguments: str | Path, cwd: Path) -> str:
    return tool("git", *AUTHOR, *arguments, cwd=cwd, timeout_s=200)


def test_git_clones_commits_collects_and_finds_no_fault(area: Path, plain: Path) -> None:
    origin = library(plain / "origin")
    git("init", "-q", cwd=origin)
    git("add", ".", cwd=origin)
    git("commit", "-qm", "first", cwd=origin)

    git("clone", "-q", "--no-local", origin, area / "clone", cwd=plain)
    clone = area / "clone"
    assert git("status", "--porcelain", cwd=clone) == ""
    (clone / "json" / "new.py").write_text("answer = 42\n")
    git("mv", "email", "post", cwd=clone)
    git("add", ".", cwd=clone)
    git("commit", "-qm", "second", cwd=clone)
    git("gc", "-q", "--prune=now", "--aggressive", cwd=clone)
    git("fsck", "--full", "--strict", cwd=clone)
    assert git("status", "--porcelain", cwd=clone) == ""
    git("checkout", "-q", "HEAD~1", cwd=clone)
    tool("diff", "-r", "--exclude=.git", origin, clone)


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
def test_sqlite_keeps_what_it_committed(area: Path, journal: str) -> None:
    path = area / "data.db"
    with sqlite3.connect(path) as base:
        base.execute(f"pragma journal_mode={journal}")
        base.execute("create table reads (n integer primary key, text text)")
    base.close()
    for start in range(0, 2000, 500):
        with sqlite3.connect(path) as base:
            base.executemany("insert into reads values (?, ?)", ((n, f"{n:0200}") for n in range(start, start + 500)))
        base.close()
    base = sqlite3.connect(path)
    base.execute("delete from reads")
    base.rollback()
    base.close()
    assert tool("sqlite3", path, "pragma integrity_check; select count(*), sum(n), max(text) from reads") == (
        f"ok\n2000|{sum(range(2000))}|{1999:0200}\n"
    )


def test_sed_i_edits_in_place(area: Path, plain: Path) -> None:
    for place in (area, plain):
        library(place / "in")
        tool("find", place / "in", "-name", "*.py", "-exec", "sed", "-i", "s/import/export/g", "{}", "+")
    assert_same(plain / "in", area / "in", ignore=frozenset({"mtime_ns"}))


MMAP = """
import mmap, os, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
    view[4090:4106] = b"across two pages"
    view[-4:] = b"tail"
    view.flush()
    os.lseek(file.fileno(), 4090, 0)
    assert os.read(file.fileno(), 16) == b"across two pages"
"""


def test_shared_mmap_writes_reach_the_file(area: Path, plain: Path) -> None:
    for place in (area, plain):
        (place / "mapped").write_bytes(bytes(range(256)) * 64)
        python(MMAP, place / "mapped")
    assert_same(plain, area, ignore=frozenset({"mtime_ns"}))


def test_a_compiler_cache_and_an_archive_work(area: Path) -> None:
    library(area / "in")
    python("import compileall, sys; assert compileall.compile_dir(sys.argv[1], quiet=1, force=True)", area / "in")
    tool("zip" if Path("/usr/bin/zip").exists() else "true", "-qr", area / "in.zip", ".", cwd=area / "in")
    answer = python("import sys; sys.path.insert(0, sys.argv[1]); import json; print(json.__file__)", area / "in")
    assert answer.strip() == str(area / "in" / "json" / "__init__.py")
