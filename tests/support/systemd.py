"""What systemd does for a service: holds its socket, listens to what it tells, and passes both on to its process."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from tests.support.daemon import COMMAND, PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# In the process that becomes the daemon: its own pid is not known before.
_BECOME: Final = """
import os, sys
held, rest = int(sys.argv[1]), sys.argv[2:]
if held >= 0:
    os.dup2(held, 3)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="fusestore@lab.socket")
os.execvp(rest[0], rest)
"""


class Manager:
    """Plays systemd for one service.

    Attributes:
        told: every line that came, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(folder / "notify"))
        self._environment = {**os.environ, "PYTHONPATH": str(PROJECT), "NOTIFY_SOCKET": str(folder / "notify")}

    def start(
        self,
        *arguments: str | Path,
        log: Path,
        held: socket.socket | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start `fusestore` with these arguments as a service's main process."""
        given = held.fileno() if held is not None else -1
        with open(log, "ab") as output:
            return subprocess.Popen(
                [sys.executable, "-c", _BECOME, str(given), *COMMAND, *(os.fspath(each) for each in arguments)],
                env={**self._environment, **(extra or {})},
                pass_fds=[given] * (held is not None),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def hear(self, wanted: str, timeout_s: float = 20) -> str:
        """Wait for a line that begins so, also one that has come already; returns it."""
        limit = time.monotonic() + timeout_s
        heard = len(self.told)
        found = next((line for line in self.told if line.startswith(wanted)), None)
        while found is None:
            self._listen(limit - time.monotonic())
            found = next((line for line in self.told[heard:] if line.startswith(wanted)), None)
        return found

    def last(self, wanted: str) -> str:
        """The last line so far that begins so."""
        self._catch_up()
        return next(line for line in reversed(self.told) if line.startswith(wanted))

    def forget(self) -> None:
        """Wait only for what comes from now on."""
        self._catch_up()
        self.told.clear()

    def _catch_up(self) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                self._listen(0.001)

    def _listen(self, timeout_s: float) -> None:
        self._ear.settimeout(max(timeout_s, 0.001))
        try:
            self.told += self._ear.recv(4096).decode().split("\n")
        except TimeoutError:
            raise TimeoutError(f"systemd was told only this: {self.told}") from None

    def close(self) -> None:
        self._ear.close()


@contextlib.contextmanager
def manager(folder: Path) -> Iterator[Manager]:
    playing = Manager(folder)
    try:
        yield playing
    finally:
        playing.close()
