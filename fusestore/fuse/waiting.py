"""How pyfuse3 waits for the kernel's next request: first a moment at the device itself, then in trio's event loop.

A busy client sends its next request a few microseconds after the last reply, and trio needs longer than that to go to
sleep and to wake up. pyfuse3 reaches trio through its module global `pyfuse3.trio`, the seam that its own asyncio
support uses; `install` puts a stand-in there that differs in this one wait. Other tasks get their turn at each request
all the same: pyfuse3 takes a `trio.Lock` before each wait, which is a checkpoint.
"""

from __future__ import annotations

import select
from types import SimpleNamespace
from typing import Final

import pyfuse3
import trio

MOMENT_S: Final = 50e-6  # about the time in which a program that does one call after the other comes back


async def wait_readable(fd: int) -> None:
    """Return when `fd` can be read.

    Raises:
        trio.ClosedResourceError: `notify_closing` was called for it.
    """
    # select(2), because poll(2) counts in milliseconds; its descriptors end at 1023, and the device is opened early.
    if fd < 1024 and select.select((fd,), (), (), MOMENT_S)[0]:
        return
    await trio.lowlevel.wait_readable(fd)


def install() -> None:
    """Have pyfuse3 wait this way; before `pyfuse3.main`."""
    lowlevel = SimpleNamespace(**vars(trio.lowlevel) | {"wait_readable": wait_readable})
    pyfuse3.trio = SimpleNamespace(**vars(trio) | {"lowlevel": lowlevel})  # type: ignore[attr-defined]
