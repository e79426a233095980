"""Whether a peer is still there, if it has said that it answers: `dispatcher.hello {keep_alive: true}`.

The kernel tells when whoever holds the other end of a Unix socket is gone. Behind a forwarded one (ssh -L, socat) that
is the forwarder, which may stay when its own peer is long lost.

    heard ── nothing for PING_S ──► asked ── nothing for PATIENCE_S ──► dropped
      ▲                               │
      └──── it sends, or reads on ────┘

Who has not said so is never asked and never dropped: it may be suspended for a night, and costs a full outbox at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from fusestore.control.protocol import encode_ping

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusestore.control.outbox import Outbox

PING_S: Final = 10.0
PATIENCE_S: Final = 30.0
WAITED_S: Final = 1.0  # so long has who reads on held the daemon up meanwhile


class Pulse:
    """The signs of life of one peer.

    Args:
        drop: ends the conversation.
    """

    def __init__(self, outbox: Outbox, nursery: trio.Nursery, drop: Callable[[], None]) -> None:
        self._heard_at = trio.current_time()
        self._outbox = outbox
        self._nursery = nursery
        self._drop = drop
        self._sign = trio.Event()
        self._scope: trio.CancelScope | None = None

    def heard(self) -> None:
        """It has sent something."""
        self._heard_at = trio.current_time()
        self._sign.set()

    def start(self) -> None:
        """Ask from now on when nothing is heard; once is enough."""
        if self._scope is None:
            self._scope = trio.CancelScope()
            self._nursery.start_soon(self._mind, self._scope)

    def stop(self) -> None:
        """It cannot answer any more."""
        if self._scope is not None:
            self._scope.cancel()

    async def _mind(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await trio.sleep_until(self._heard_at + PING_S)
                if trio.current_time() >= self._heard_at + PING_S and not await self._answers():
                    self._drop()
                    return

    async def _answers(self) -> bool:
        """Ask; whether there was a sign of life."""
        self._sign = trio.Event()
        waited_s = self._outbox.waited_s
        self._outbox.add(encode_ping())
        with trio.move_on_after(PATIENCE_S):
            await self._sign.wait()
        # Whoever has much to read comes to the ping late. What went out at once may have got stuck anywhere.
        return self._sign.is_set() or self._outbox.waited_s >= waited_s + WAITED_S
