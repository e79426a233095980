"""The process that copies and reads back: what takes long there never holds the interpreter that answers requests.

    daemon ─► control socket: works, the files they are about, a connection for these works
              connection: how far each is ─► go on, or stop ─► … ─► what came of each

Everything is done by open files; no path crosses, and nothing is decided here. When the daemon is gone, so is this
process, whatever it is doing: what it had staged is nobody's, and swept away at the next start. `aside` is the
daemon's end.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import msgpack

from fusestore.model import Backing, InodeNo, RootNo
from fusestore.roots import copy, syscalls
from fusestore.roots.copy import CopyResult
from fusestore.roots.identity import Label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = Callable[[int], None]

AT_ONCE: Final = 2  # of the works that came together; each waits for its disk now and then
MANY: Final = 8  # works that came together are small, and threads would take longer than they do
MESSAGE_BYTES: Final = 1 << 17
MOST_FILES: Final = 250  # with one message; the kernel takes 253
NICENESS: Final = 19  # safe here, where no lock is held that requests wait for
TELL_S: Final = 0.05  # between two words on how far a work is
GO, STOP = b"g", b"s"


class Work(NamedTuple):
    """One call of `WORKS`: its open files, and its other arguments."""

    name: str
    files: tuple[int, ...]
    arguments: tuple[Any, ...]


def _copy(
    files: Sequence[int],
    progress: Progress,
    name: bytes,
    root: int,
    algorithm: str,
    id: bytes,
    inode: int,
    root_uuid: bytes,
) -> CopyResult:
    source, incoming = files
    label = Label(id, InodeNo(inode), root_uuid, Backing(RootNo(root), 0, 0))
    return copy.copy_file(
        source, incoming, name, root=RootNo(root), algorithm=algorithm, label=label, progress=progress
    )


def _verify(files: Sequence[int], progress: Progress, name: bytes, size: int, digest: bytes, algorithm: str) -> bool:
    (incoming,) = files
    return copy.verify_file(incoming, name, size, digest, algorithm, progress=progress)


COPY, VERIFY = "copy", "verify"
WORKS: Final[dict[str, tuple[Callable[..., Any], type]]] = {COPY: (_copy, CopyResult), VERIFY: (_verify, bool)}


def do(work: Work, progress: Progress) -> Any:  # what the work returns
    """Do a work in this process."""
    return WORKS[work.name][0](work.files, progress, *work.arguments)


class _Stop(Exception):  # an answer, not an error
    """Nobody wants this work to be done any more."""


class _Works:
    """Works that came together, with their connection."""

    def __init__(self, message: bytes, files: Sequence[int]) -> None:
        self._connection = socket.socket(fileno=files[0])
        self._files = files[1:]
        self._works: list[tuple[str, list[int], list[Any]]] = msgpack.decode(message)
        self._turn = threading.Lock()

    def serve(self) -> None:
        with ExitStack() as stack, self._connection:
            for fd in self._files:
                stack.callback(os.close, fd)
            numbers = range(len(self._works))
            if len(numbers) < MANY:
                with ThreadPoolExecutor(AT_ONCE, "copy", initializer=syscalls.stand_back) as pool:
                    said = list(pool.map(self._one, numbers))
            else:
                syscalls.stand_back()
                self._read_ahead()
                said = [self._one(number) for number in numbers]
            with suppress(ConnectionError):  # the daemon is gone
                self._connection.send(msgpack.encode(said))

    def _read_ahead(self) -> None:
        """Have the disk fetch all that is to be copied while the first is."""
        for name, files, _ in self._works:
            if name == COPY:
                os.posix_fadvise(self._files[files[0]], 0, 0, os.POSIX_FADV_WILLNEED)

    def _one(self, number: int) -> tuple[int, Any, int]:
        name, files, arguments = self._works[number]
        told_at, last = time.monotonic(), 0

        def progress(size: int) -> None:
            nonlocal told_at, last
            last = size
            if time.monotonic() - told_at >= TELL_S:
                self._tell(number, size)
                told_at = time.monotonic()

        try:
            found = do(Work(name, tuple(self._files[each] for each in files), tuple(arguments)), progress)
        except _Stop:
            return (1, (0, ""), last)
        except OSError as error:
            return (1, (error.errno or 0, error.strerror or str(error)), last)
        except Exception:  # noqa: BLE001  # the daemon raises it
            return (2, traceback.format_exc(), last)
        return (0, found, last)

    def _tell(self, number: int, size: int) -> None:
        with self._turn:
            self._connection.send(msgpack.encode((number, size)))
            if self._connection.recv(len(GO)) != GO:
                raise _Stop


def main() -> None:
    """Serve until the daemon has closed its end of the control socket, whose number is the only argument."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the daemon
    os.nice(NICENESS)
    control = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, files, _, _ = socket.recv_fds(control, MESSAGE_BYTES, MOST_FILES)
        if not message:
            os._exit(0)
        threading.Thread(target=_Works(message, files).serve, daemon=True).start()


if __name__ == "__main__":
    main()
