"""Ordinary programs on a tree of source files with a git repository in it."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from bench.clock import Clock
    from bench.peers import Place
    from bench.sizes import Size

ARCHIVE: Final = "tree.tar"  # beside the mounts, on the same disk
_STATUSES: Final = 3
_PER_DIRECTORY: Final = 20
_WORDS: Final = ("the", "tree", "that", "every", "program", "here", "goes", "through", "has", "lines", "like", "this")
_QUIET: Final = {
    **os.environ,
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@example.org",
    "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@example.org",
}


def call(*command: str | Path, code: int = 0) -> None:
    """Run a program that must end with `code`."""
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_QUIET, check=False, text=True
    )
    if done.returncode != code:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")


def make_archive(folder: Path, files: int) -> Path:
    """A tar of `files` source files of 0.2 to 60 KiB, most of them small, and of a repository that has them all."""
    dice = random.Random(1)
    tree = folder / "tree"
    for number in range(files):
        directory = tree / f"part{number // _PER_DIRECTORY}"
        if number % _PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        lines = min(int(dice.lognormvariate(4, 1)) + 3, 1000)
        text = "\n".join(" ".join(dice.choices(_WORDS, k=10)) for _ in range(lines))
        (directory / f"module{number}.py").write_text(text)
    git = ("git", "-C", str(tree))
    call(*git, "init", "-q")
    call(*git, "add", ".")
    call(*git, "commit", "-qm", "all")
    call(*git, "gc", "-q")
    call("tar", "-C", folder, "-cf", folder / ARCHIVE, "tree")
    call("rm", "-r", tree)
    return folder / ARCHIVE


def run(place: Place, size: Size, clock: Clock) -> None:
    """Every line of the part, in a directory of its own below `place`."""
    os.chdir(place.directory)
    count, archive = size.tree, place.archive
    assert archive is not None

    def statuses() -> None:
        for _ in range(_STATUSES):
            call("git", "-C", "tree", "status", "--porcelain")

    clock.once("untar", count, lambda: call("tar", "-xf", archive))
    os.sync()
    call("git", "-C", "tree", "status", "--porcelain")  # the first one reads every file: all inode numbers are new
    clock.once("find", count, lambda: call("find", "tree", "-ls"))
    clock.once("grep -r", count, lambda: call("grep", "-r", "no such word", "tree", code=1))
    clock.once("git status", count * _STATUSES, statuses)
    clock.once("cp -a", count, lambda: call("cp", "-a", "tree", "copy"))
    os.sync()
    clock.once("rm -r", count, lambda: call("rm", "-r", "copy"))
    call("rm", "-r", "tree")
