"""A program that writes one open file in one manner until its standard input ends, and knows what must be in it then.

    python -m tests.support.writer PATH MANNER SEED MODEL

It says `ready` when it has begun. At the end the bytes that the file must have are in the file MODEL, and a line of
JSON says how many calls it made, how long the longest of them took, and, if one failed, which bytes that one was to
write: of those nobody knows. MANNER is one of `MANNERS`.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tests.support.daemon import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SIZE: Final = 6 << 20
PAGE: Final = 4096


class Writer:
    """What is done to the file, and the same to a string of bytes; slow calls are remembered."""

    def __init__(self, path: str, seed: int, flags: int = 0) -> None:
        self.fd = os.open(path, os.O_RDWR | flags)
        self.chance = random.Random(seed)
        self.model = bytearray(Path(path).read_bytes())
        self.calls = 0
        self.longest_s = 0.0
        self.doubt: tuple[int, bytes] | None = None

    def timed(self, call: Callable[..., T], *arguments: Any) -> T:
        began = time.monotonic()
        result = call(*arguments)
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.calls += 1
        return result

    def write(self, data: bytes, offset: int, memory: bytes | mmap.mmap | None = None) -> None:
        """Write `data`, from `memory` if that has to be special."""
        while data:
            self.doubt = offset, data
            done = self.timed(os.pwritev, self.fd, [memory or data], offset)
            self.doubt = None
            self.model.extend(bytes(max(offset - len(self.model), 0)))
            self.model[offset : offset + done] = data[:done]
            data, offset, memory = data[done:], offset + done, None

    # -- manners ----------------------------------------------------------------------------------------------------

    def append(self) -> None:
        self.write(self.chance.randbytes(self.chance.randrange(1, 3000)), len(self.model))
        if self.chance.random() < 0.02:
            os.fsync(self.fd)

    def overwrite(self) -> None:
        size = self.chance.choice((1, 100, PAGE, 100_000))
        self.write(self.chance.randbytes(size), self.chance.randrange(SIZE))

    def cut(self) -> None:
        if self.chance.random() < 0.2:
            size = self.chance.randrange(SIZE)
            self.timed(os.ftruncate, self.fd, size)
            del self.model[size:]
            self.model.extend(bytes(size - len(self.model)))
        else:
            self.overwrite()

    def direct(self) -> None:
        """Past the kernel's cache; from memory that is aligned as that demands."""
        pages = self.chance.choice((1, 3, 64))
        data, offset = self.chance.randbytes(pages * PAGE), self.chance.randrange(SIZE // PAGE) * PAGE
        with mmap.mmap(-1, len(data)) as aligned:
            aligned[:] = data
            self.write(data, offset, aligned)

    def map(self) -> None:
        """By memory, of which the kernel writes back what and when it likes, and all at msync(2)."""
        with mmap.mmap(self.fd, len(self.model)) as mapped:
            for _ in range(20):
                offset = self.chance.randrange(len(self.model) - 100)
                data = self.chance.randbytes(100)
                mapped[offset : offset + 100] = data
                self.model[offset : offset + 100] = data
            self.timed(mapped.flush)


MANNERS: Final[dict[str, Callable[[Writer], None]]] = {
    "append": Writer.append,
    "overwrite": Writer.overwrite,
    "cut": Writer.cut,
    "direct": Writer.direct,
    "map": Writer.map,
}


def main(path: str, manner: str, seed: str, model: str) -> None:
    writer = Writer(path, int(seed), os.O_DIRECT if manner == "direct" else 0)
    os.write(1, b"ready\n")
    try:
        while not select.select([0], [], [], 0)[0]:
            MANNERS[manner](writer)
        os.close(writer.fd)
    except OSError:
        pass  # the daemon was killed
    Path(model).write_bytes(writer.model)
    doubt = [writer.doubt[0], writer.doubt[1].hex()] if writer.doubt is not None else None
    sys.stdout.write(json.dumps({"calls": writer.calls, "longest_ms": writer.longest_s * 1000, "doubt": doubt}))


class Writing:
    """A writer at work on a file, as its parent sees it.

    Attributes:
        report: what it said at its end.
    """

    def __init__(self, path: Path, manner: str, seed: int, model: Path) -> None:
        self._model = model
        self.report: dict[str, Any] = {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.writer", str(path), manner, str(seed), str(model)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def stop(self, timeout_s: float = 60) -> None:
        """Let it come to its end."""
        said, _ = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0
        self.report = json.loads(said)

    def difference(self, found: bytes) -> str:
        """What is wrong with the bytes of its file; "" if they are as it left them."""
        wanted = self._model.read_bytes()
        if self.report["doubt"] is not None:
            offset, new = self.report["doubt"][0], bytes.fromhex(self.report["doubt"][1])
            end = offset + len(new)
            old = wanted[offset:end].ljust(len(found[offset:end]), b"\0")
            if any(byte not in pair for byte, *pair in zip(found[offset:end], old, new, strict=False)):
                return "bytes that neither the last call nor one before it has written"
            wanted = wanted.ljust(min(max(len(wanted), len(found)), end), b"\0")
            wanted = wanted[:offset] + found[offset:end] + wanted[end:]
        if found == wanted:
            return ""
        pairs = enumerate(zip(found, wanted, strict=False))
        first = next((at for at, (one, other) in pairs if one != other), min(len(found), len(wanted)))
        return f"{len(found)} bytes for {len(wanted)}, the first wrong one at {first}"


if __name__ == "__main__":
    main(*sys.argv[1:])
