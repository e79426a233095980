"""Single files anywhere in a tree of many: every request goes to another directory, and the kernel remembers none."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Final

from bench import caches

if TYPE_CHECKING:
    from bench.clock import Clock
    from bench.peers import Place
    from bench.sizes import Size

PER_DIRECTORY: Final = 1000
_CONTENT: Final = b"x" * 100


def path(number: int) -> str:
    return f"d{number // PER_DIRECTORY}/f{number}"


def fill(directory: str, files: int) -> None:
    """Make `files` files of 100 bytes."""
    for number in range(files):
        if number % PER_DIRECTORY == 0:
            os.makedirs(f"{directory}/d{number // PER_DIRECTORY}")
        fd = os.open(f"{directory}/{path(number)}", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(fd, _CONTENT)
        os.close(fd)


def read(name: str) -> None:
    fd = os.open(name, os.O_RDONLY)
    os.read(fd, 4096)
    os.close(fd)


def run(place: Place, size: Size, clock: Clock) -> None:
    """Every line of the part; `place` was filled with `size.many` files, and the names are the same afterwards."""
    os.chdir(place.directory)
    some = [path(number) for number in random.Random(1).sample(range(size.many), k=min(size.files, size.many))]
    caches.forget_names()
    clock.each("stat anywhere", len(some), lambda number: os.stat(some[number]))
    clock.each("open + read anywhere", len(some), lambda number: read(some[number]))
    clock.each("chmod anywhere", len(some), lambda number: os.chmod(some[number], 0o600))
    clock.each("rename anywhere", len(some), lambda number: os.rename(some[number], some[number] + "x"))
    for name in some:
        os.rename(name + "x", name)
