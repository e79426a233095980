"""fusestore as people run it: made, set up and mounted by its command line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT: Final = Path(__file__).resolve().parents[1]
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(PROJECT)}
_START: Final = "import sys; from fusestore.cli.main import main; sys.exit(main())"
_LIMIT_S: Final = 1800
_WRITEBACK: Final = "\n[mount]\nwriteback = true\n"


def fusestore(*arguments: str | Path) -> str:
    """One command of fusestore; returns what it printed."""
    command = [sys.executable, "-c", _START, *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=_LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"fusestore {arguments} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def store(base: Path, outside: str = "none", *, writeback: bool = False, **roots: Path) -> Iterator[Path]:
    """A mounted store below `base` with `roots` beside main; yields the mountpoint.

    Args:
        outside: who else touches `roots`; main is ours alone.
    """
    (base / "mnt").mkdir(parents=True)
    fusestore("init", base / "store")
    for name, directory in roots.items():
        fusestore("root", "add", base / "store", name, directory, "--outside", outside)
    if writeback:
        with open(base / "store" / "fusestore.toml", "a", encoding="utf-8") as config:
            config.write(_WRITEBACK)
    fusestore("mount", base / "store", base / "mnt")
    try:
        yield base / "mnt"
    finally:
        if os.path.ismount(base / "mnt"):
            fusestore("umount", base / "mnt")


def wait_for_all(base: Path) -> None:
    """Return when no move is on its way."""
    fusestore("wait", "--all", "--socket", base / "store" / "control.sock")


def status(base: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(fusestore("status", "--json", "--socket", base / "store" / "control.sock"))
    return told


def anonymous_mb(base: Path) -> float:
    """The daemon's own memory: anonymous pages; the index's map is page cache that the kernel takes back."""
    for line in Path(f"/proc/{status(base)['pid']}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel does not say RssAnon")
