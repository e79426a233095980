"""Works for the process that copies (`copier`), which is started when there is something for it to do."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from msgspec import convert, msgpack

from fusestore.errors import FusestoreError
from fusestore.roots.copier import GO, MESSAGE_BYTES, STOP, WORKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fusestore.roots.copier import Work


PATIENCE_S: Final = 1.0


class Aside:
    """The daemon's end of the control socket; to be used from any thread."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def do(self, works: Sequence[Work], progress: Sequence[Callable[[int], None]]) -> list[Any]:
        """Have works done, and wait for them; once more from the start if somebody kills the process meanwhile.

        Args:
            progress: for each, called now and then, and at its end, with how far it is; what it raises ends the work.

        Returns:
            for each what it returned, or what it or its `progress` raised.

        Raises:
            OSError: nobody can do them.
        """
        try:
            return self._do(works, progress)
        except ConnectionError:
            return self._do(works, progress)

    def _do(self, works: Sequence[Work], progress: Sequence[Callable[[int], None]]) -> list[Any]:
        files = list(dict.fromkeys(fd for work in works for fd in work.files))
        request = [(work.name, [files.index(fd) for fd in work.files], work.arguments) for work in works]
        raised: dict[int, FusestoreError] = {}

        def goes_on(number: int, size: int) -> bool:
            try:
                progress[number](size)
            except FusestoreError as error:
                raised[number] = error
            return number not in raised

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                socket.send_fds(self._running(), [msgpack.encode(request)], [theirs.fileno(), *files])
            while isinstance((said := _received(ours))[0], int):
                ours.send(GO if goes_on(*said) else STOP)
        for number, (_, _, size) in enumerate(said):
            if number not in raised:
                goes_on(number, size)
        return [raised.get(number) or _result(work, *said[number][:2]) for number, work in enumerate(works)]

    def _running(self) -> socket.socket:
        """The control socket of a process that lives."""
        with self._starting:
            if self._control is None or self._process is None or self._process.poll() is not None:
                self.close()
                self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    command = (sys.executable, "-P", "-m", "fusestore.roots.copier", str(theirs.fileno()))
                    self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            return self._control

    def close(self) -> None:
        """End the process, if it was ever started."""
        if self._control is not None and self._process is not None:
            self._control.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a disk that hangs has hold of it
                self._process.wait(PATIENCE_S)


def _received(connection: socket.socket) -> Any:  # a message
    message = connection.recv(MESSAGE_BYTES)
    if not message:
        raise ConnectionResetError(errno.ECONNRESET, "the process that copies was killed")
    return msgpack.decode(message)


def _result(work: Work, kind: int, found: Any) -> Any:  # as in `do`
    if kind == 2:
        raise RuntimeError(f"a bug in the process that copies:\n{found}")
    if kind == 1:
        number, text = found
        return OSError(number, text or os.strerror(number))
    return convert(found, WORKS[work.name][1])
