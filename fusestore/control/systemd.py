"""Telling systemd how the daemon is (sd_notify(3)): a datagram to the socket that it names, or nothing without one."""

from __future__ import annotations

import contextlib
import os
import socket


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


def watchdog_s() -> float | None:
    """How often systemd wants to hear `WATCHDOG=1`, halved for safety; None when it does not."""
    interval_us = os.environ.get("WATCHDOG_USEC")
    for_us = os.environ.get("WATCHDOG_PID")
    if not interval_us or (for_us and int(for_us) != os.getpid()):
        return None
    return int(interval_us) / 2e6
