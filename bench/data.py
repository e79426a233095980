"""One program that writes and reads one big file, in order and at random."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Final

from bench import caches
from bench.names import BLOCK

if TYPE_CHECKING:
    from bench.clock import Clock
    from bench.peers import Place
    from bench.sizes import Size

NAME: Final = "big"
MIB: Final = 1 << 20


def write(megabytes: int, name: str = NAME) -> None:
    """Write the file in blocks of 1 MiB and sync it."""
    block = os.urandom(MIB)
    fd = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    for _ in range(megabytes):
        os.write(fd, block)
    os.fsync(fd)
    os.close(fd)


def read(name: str = NAME) -> None:
    fd = os.open(name, os.O_RDONLY)
    while os.read(fd, MIB):
        pass
    os.close(fd)


def run(place: Place, size: Size, clock: Clock) -> None:
    """Every line of the part, in a directory of its own below `place`."""
    os.chdir(place.directory)
    amount = size.megabytes * MIB / 1e6
    blocks = size.megabytes * MIB // 4096
    spots = [4096 * number for number in random.Random(1).choices(range(blocks), k=size.random)]
    clock.once("write 1 MiB + fsync", amount, lambda: write(size.megabytes))
    os.sync()
    caches.forget_content(place.directory, place.backing)
    clock.once("read, cold", amount, read)
    read()
    clock.once("read, warm", amount, read)
    caches.forget_content(place.directory, place.backing)
    fd = os.open(NAME, os.O_RDWR)
    clock.each("random read 4 KiB, cold", size.random, lambda number: os.pread(fd, 4096, spots[number]))
    read()
    clock.each("random read 4 KiB, warm", size.random, lambda number: os.pread(fd, 4096, spots[number]))
    clock.each("random write 4 KiB", size.random, lambda n: os.pwrite(fd, BLOCK, spots[n]), last=lambda: os.fsync(fd))
    os.close(fd)
    os.unlink(NAME)
