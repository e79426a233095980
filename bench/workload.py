"""The same tight loops of system calls for every file system, in a process of its own; prints one JSON object of rates.

`python -m bench.workload DIRECTORY COUNT MEGABYTES`: operations a second, or MB/s where the name says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = bytes(4096)
MEGABYTE = os.urandom(1 << 20)


def rate(count: int, call: Callable[[int], object]) -> float:
    start = time.perf_counter()
    for number in range(count):
        call(number)
    return count / (time.perf_counter() - start)


def once(count: float, call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return count / (time.perf_counter() - start)


def create(number: int) -> None:
    os.close(os.open(f"f{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def write_4k(number: int) -> None:
    handle = os.open(f"f{number}", os.O_WRONLY)
    os.write(handle, BLOCK)
    os.close(handle)


def read_4k(number: int) -> None:
    handle = os.open(f"f{number}", os.O_RDONLY)
    os.read(handle, 4096)
    os.close(handle)


def write_big(megabytes: int) -> None:
    handle = os.open("big", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for _ in range(megabytes):
        os.write(handle, MEGABYTE)
    os.close(handle)


def read_big() -> None:
    handle = os.open("big", os.O_RDONLY)
    while os.read(handle, 1 << 20):
        pass
    os.close(handle)


def listing(*command: str) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    directory, count, megabytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.mkdir(directory)
    os.chdir(directory)
    rates = {
        "create": rate(count, create),
        "open + write 4 KiB": rate(count, write_4k),
    }
    for number in range(count):
        os.stat(f"f{number}")
    os.sync()  # for some peers everything is on the disk already, and freeing blocks takes its time
    rates |= {
        "stat, warm": rate(count, lambda n: os.stat(f"f{n}")),
        "open + read 4 KiB": rate(count, read_4k),
        "ls -l, entries": once(count, lambda: listing("ls", "-l", ".")),
        "find, entries": once(count, lambda: listing("find", ".", "-type", "f")),
        "rename": rate(count, lambda n: os.rename(f"f{n}", f"g{n}")),
        "unlink": rate(count, lambda n: os.unlink(f"g{n}")),
        "mkdir": rate(count, lambda n: os.mkdir(f"d{n}")),
        "rmdir": rate(count, lambda n: os.rmdir(f"d{n}")),
        "write 1 MiB, MB/s": once(megabytes * 1.048576, lambda: write_big(megabytes)),
        "read 1 MiB, MB/s": once(megabytes * 1.048576, read_big),
    }
    os.unlink("big")
    os.chdir("..")
    os.rmdir(directory)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
