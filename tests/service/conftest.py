"""A store without a kernel, with its disks proven clean afterwards; or a control socket without a store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from fusestore.config import Control
from fusestore.control.server import serve
from fusestore.model import Outside
from tests.service.served import World
from tests.support.byhand import by_hand, in_place
from tests.support.opened import Opened, two_devices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trio


@pytest.fixture(scope="session")
def devices() -> Iterator[tuple[Path, Path]]:
    with two_devices() as folders:
        yield folders


def _run(devices: tuple[Path, Path], outside: Outside, *, trash_s: int = 0) -> Iterator[Opened]:
    with by_hand():
        opened = Opened(*devices, outside=outside, trash_s=trash_s, trash_removed=trash_s > 0)
        try:
            yield opened
            opened.check()
            opened.close()
        finally:
            opened.remove()


@pytest.fixture
def opened(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """Nobody else writes on its roots."""
    yield from _run(devices, Outside.NONE)


@pytest.fixture
def shared(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """Others write on its roots hot, warm and cold."""
    yield from _run(devices, Outside.WRITERS)


@pytest.fixture
def keeping(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """Its resource roots keep for an hour what is not needed any more."""
    yield from _run(devices, Outside.NONE, trash_s=3600)


@pytest.fixture
def running(devices: tuple[Path, Path]) -> Iterator[Opened]:
    """A store whose test lets trio run its jobs, on a clock that jumps (`byhand.run`)."""
    with in_place():
        opened = Opened(*devices, outside=Outside.NONE)
        try:
            yield opened
            opened.store.close(clean=True)
        finally:
            opened.remove()


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.fixture
async def world(short_path: Path, nursery: trio.Nursery) -> World:
    world = World(short_path / "control.sock", nursery)
    await nursery.start(partial(serve, control=Control()), world.path, world.queries)
    return world
