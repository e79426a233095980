"""The public client in Python: `Client` blocks, `AsyncClient` is for trio (the protocol: docs/control-protocol.md).

    wire       what is sent, and which request or stream each line that comes belongs to; no I/O
    following  where a watcher stands, through restarts and losses; no I/O
    blocking   `Client`                    concurrent   `AsyncClient`

It knows `control.address`, `control.protocol` and `errors`, nothing else of the daemon. trio is imported only when
`AsyncClient` is asked for, because most commands end sooner than that import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusestore.client.blocking import Client
from fusestore.client.following import CursorStore, Lost
from fusestore.client.wire import Event, Progress, StreamLost
from fusestore.errors import ControlError, NoDaemon

if TYPE_CHECKING:
    from fusestore.client.concurrent import AsyncClient

__all__ = [
    "AsyncClient",
    "Client",
    "ControlError",
    "CursorStore",
    "Event",
    "Lost",
    "NoDaemon",
    "Progress",
    "StreamLost",
]


def __getattr__(name: str) -> Any:
    if name != "AsyncClient":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fusestore.client.concurrent import AsyncClient

    return AsyncClient
