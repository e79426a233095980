"""How pyfuse3 waits for a request: on a pipe instead of the device."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from typing import TYPE_CHECKING

import pytest
import trio

from fusestore.fuse.waiting import wait_readable

if TYPE_CHECKING:
    from collections.abc import Iterator

HIGH = 1100  # beyond what select(2) can hold


@contextlib.contextmanager
def pipe(lowest: int) -> Iterator[tuple[int, int]]:
    """A pipe whose reading end has a number from `lowest` on."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2 * HIGH), limits[1]))
    low, write = os.pipe()
    read = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, lowest)
    os.close(low)
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("lowest", [0, HIGH])
async def test_what_is_there_is_found_and_what_comes_later_is_waited_for(lowest: int) -> None:
    with pipe(lowest) as (read, write), trio.fail_after(10):
        os.write(write, b"x")
        await wait_readable(read)
        os.read(read, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_readable, read)
            await trio.sleep(0.01)
            os.write(write, b"x")


async def test_a_wait_ends_when_the_session_is_over() -> None:
    with pipe(0) as (read, _), trio.fail_after(10), pytest.RaisesGroup(trio.ClosedResourceError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_readable, read)
            await trio.sleep(0.01)
            trio.lowlevel.notify_closing(read)
