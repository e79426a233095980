"""One program that makes, changes and removes small files in one directory, a system call or two at a time."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Final

from bench import caches

if TYPE_CHECKING:
    from bench.clock import Clock
    from bench.peers import Place
    from bench.sizes import Size

BLOCK: Final = bytes(range(256)) * 16
_LISTINGS: Final = 5  # `ls` takes most of a short time to start


def create(number: int) -> None:
    os.close(os.open(f"f{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def write_4k(number: int) -> None:
    fd = os.open(f"f{number}", os.O_WRONLY)
    os.write(fd, BLOCK)
    os.close(fd)


def write_and_sync(number: int) -> None:
    fd = os.open(f"s{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    os.write(fd, BLOCK)
    os.fsync(fd)
    os.close(fd)


def stat(number: int) -> None:
    os.stat(f"f{number}")


def read_4k(number: int) -> None:
    fd = os.open(f"f{number}", os.O_RDONLY)
    os.read(fd, 4096)
    os.close(fd)


def list_all() -> None:
    for _ in range(_LISTINGS):
        subprocess.run(["ls", "-l", "."], stdout=subprocess.DEVNULL, check=True)


def warm_up() -> None:
    """Have every line's code run once in the daemon, which may be a minute old or a second."""
    for number in range(100):
        create(number)
        write_4k(number)
        read_4k(number)
        os.chmod(f"f{number}", 0o600)
        os.rename(f"f{number}", f"g{number}")
        os.unlink(f"g{number}")
        os.mkdir(f"d{number}")
        os.rmdir(f"d{number}")


def run(place: Place, size: Size, clock: Clock) -> None:
    """Every line of the part, in a directory of its own below `place`."""
    os.chdir(place.directory)
    warm_up()
    count = size.files
    clock.each("create", count, create)
    clock.each("open + write 4 KiB", count, write_4k)
    os.sync()  # what one peer has on the disk already another still owes: that must not fall on the next line
    clock.each("write + fsync", size.synced, write_and_sync)
    if caches.forget_names():
        clock.each("stat, forgotten", count, stat)
    for number in range(count):
        stat(number)
    clock.each("stat", count, stat)
    for number in range(count):
        read_4k(number)
    clock.each("open + read 4 KiB", count, read_4k)
    clock.once("ls -l", (count + size.synced) * _LISTINGS, list_all)
    clock.each("chmod", count, lambda number: os.chmod(f"f{number}", 0o600))
    clock.each("rename", count, lambda number: os.rename(f"f{number}", f"g{number}"))
    os.sync()
    clock.each("unlink", count, lambda number: os.unlink(f"g{number}"))
    clock.each("mkdir", count, lambda number: os.mkdir(f"d{number}"))
    clock.each("rmdir", count, lambda number: os.rmdir(f"d{number}"))
    for number in range(size.synced):
        os.unlink(f"s{number}")
