"""Which processes have a file of the mount open, as far as /proc tells us.

The kernel tells the daemon of handles, not of who has them. Nothing here touches the mount: /proc gives paths and
numbers from memory. Processes of others are seen by root alone, and those that have only mapped the file not at all.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.model import InodeNo

SHOWN: Final = 8
_PROC: Final = Path("/proc")


class Holder(NamedTuple):
    """A process that has the file open."""

    pid: int
    command: str
    writes: bool


def holders(mountpoint: str, number: InodeNo) -> list[Holder]:
    """At most SHOWN of the processes that have the file `number` open. Blocks, for longer the more there are."""
    found: dict[int, Holder] = {}
    for process in _PROC.iterdir():
        if process.name.isdigit() and len(found) < SHOWN:
            with contextlib.suppress(OSError):
                writes = list(_handles(process, mountpoint, number))
                if writes:
                    command = (process / "comm").read_text(errors="replace").strip()
                    found[int(process.name)] = Holder(int(process.name), command, any(writes))
    return list(found.values())


def _handles(process: Path, mountpoint: str, number: InodeNo) -> Iterator[bool]:
    """Whether it may write, of each descriptor that a process has of the file."""
    for descriptor in os.listdir(process / "fd"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "fd" / descriptor).startswith(mountpoint + "/"):
                lines = (process / "fdinfo" / descriptor).read_text().splitlines()
                facts = dict(line.split(":", 1) for line in lines if ":" in line)
                if int(facts.get("ino", "0")) == number:
                    yield int(facts["flags"], 8) & os.O_ACCMODE != os.O_RDONLY
