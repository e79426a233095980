"""What systemd hands to the daemon, and is told of it: a datagram to the socket that it names (sd_notify(3)).

Without a manager that asks for it, every call here does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

import trio

from fusestore.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_FD: Final = 3  # SD_LISTEN_FDS_START
LISTENER_NAME: Final = "control"  # FileDescriptorName= of the control socket, where several are passed
LOOK_S: Final = 1.0


def notify(*lines: str) -> None:
    """Send state lines such as `READY=1`; a manager that does not listen is no trouble."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker,
        contextlib.suppress(OSError),
    ):
        speaker.sendto("\n".join(lines).encode(), address)


async def tell_status(line: Callable[[], str]) -> None:
    """Say `line` whenever it is another one, until cancelled."""
    said = ""
    while os.environ.get("NOTIFY_SOCKET"):
        if (now := line()) != said:
            said = now
            notify(f"STATUS={now}")
        await trio.sleep(LOOK_S)


async def feed_watchdog() -> None:
    """Show systemd that the loop turns, until cancelled: a loop that hangs sends nothing."""
    interval_s = watchdog_s()
    while interval_s is not None:
        notify("WATCHDOG=1")
        await trio.sleep(interval_s)


def watchdog_s() -> float | None:
    """How often systemd wants to hear `WATCHDOG=1`, halved for safety; None when it does not."""
    interval_us = os.environ.get("WATCHDOG_USEC")
    for_us = os.environ.get("WATCHDOG_PID")
    if not interval_us or (for_us and int(for_us) != os.getpid()):
        return None
    return int(interval_us) / 2e6


def take_listener() -> socket.socket | None:
    """The listening socket that systemd holds for us (sd_listen_fds(3)), once; None when it has passed none.

    Raises:
        StoreError: what it has passed is something else.
    """
    given = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    count = int(given["LISTEN_FDS"] or 0) if given["LISTEN_PID"] == str(os.getpid()) else 0
    if not count:
        return None
    for fd in range(FIRST_FD, FIRST_FD + count):
        os.set_inheritable(fd, False)
    names = given["LISTEN_FDNAMES"].split(":")
    if count > 1 and LISTENER_NAME not in names:
        raise StoreError(f"systemd has passed {count} sockets, and none of them has FileDescriptorName={LISTENER_NAME}")
    fd = FIRST_FD + (names.index(LISTENER_NAME) if count > 1 else 0)
    listener = None
    try:
        listener = socket.socket(fileno=fd)
        is_ours = listener.family == socket.AF_UNIX and listener.type == socket.SOCK_STREAM
        if is_ours and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and listener.getsockname():
            return listener
    except OSError:
        pass
    raise StoreError("what systemd has passed is no Unix stream socket that listens; see ListenStream= and Accept=no")
