"""What README.md shows of Python does what it says there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.daemon import PROJECT, Mounted, eventually

if TYPE_CHECKING:
    from pathlib import Path


def test_the_watcher_tells_of_files_through_a_restart(own: Mounted, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    seen = tmp_path / "seen"
    with open(seen, "wb") as file:
        command = [sys.executable, "-c", example, str(own.socket)]
        watcher = subprocess.Popen(command, stdout=file, env={**os.environ, "PYTHONPATH": str(PROJECT)})
    try:
        eventually(lambda: "look at the tree anew: nothing is known yet" in seen.read_text(), "it has begun")
        (own.uploads / "a").write_bytes(b"x")
        eventually(lambda: "finalized uploads/a" in seen.read_text(), "the file's event")
        own.remount()
        (own.uploads / "a").unlink()
        eventually(lambda: "removed uploads/a" in seen.read_text(), "the event after the restart")
        assert watcher.poll() is None
        assert seen.read_text().count("look at the tree") == 1
    finally:
        watcher.kill()
        watcher.wait(timeout=10)
