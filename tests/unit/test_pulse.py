"""Peers that said that they answer: asked when they are silent, dropped when that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MemorySendStream

from fusestore.control.outbox import FULL_BYTES, PIECE_BYTES, Outbox
from fusestore.control.protocol import encode_ping
from fusestore.control.pulse import PATIENCE_S, PING_S, Pulse

if TYPE_CHECKING:
    from trio.testing import MockClock

pytestmark = pytest.mark.timeout(30)
SPARE_S = 0.1


class Wire:
    """What was sent to a peer; it takes as much as it is let."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.flows = trio.Event()
        self.flows.set()
        self.stream = MemorySendStream(send_all_hook=self._flow)
        self.outbox = Outbox(self.stream)
        self.dropped_at: float | None = None
        self.pulse = Pulse(self.outbox, nursery, self._drop)
        nursery.start_soon(self.outbox.run)

    async def _flow(self) -> None:
        await self.flows.wait()

    def _drop(self) -> None:
        self.dropped_at = trio.current_time()

    @property
    def pings(self) -> int:
        """How many came since the last look."""
        try:
            return bytes(self.stream.get_data_nowait()).count(encode_ping())
        except trio.WouldBlock:
            return 0


@pytest.fixture
def wire(nursery: trio.Nursery) -> Wire:
    return Wire(nursery)


async def test_who_sends_is_not_asked_and_who_answers_is_asked_again(wire: Wire, autojump_clock: MockClock) -> None:
    wire.pulse.start()
    for _ in range(3):
        await trio.sleep(PING_S - SPARE_S)
        wire.pulse.heard()
    assert wire.pings == 0
    for _ in range(3):
        await trio.sleep(PING_S + SPARE_S)
        assert wire.pings == 1
        wire.pulse.heard()
    assert wire.dropped_at is None


async def test_who_does_not_answer_is_dropped_and_is_asked_once(wire: Wire, autojump_clock: MockClock) -> None:
    wire.pulse.start()
    wire.pulse.start()
    began = trio.current_time()
    await trio.sleep(PING_S + PATIENCE_S + SPARE_S)
    assert wire.dropped_at == pytest.approx(began + PING_S + PATIENCE_S)
    assert wire.pings == 1


async def test_who_never_said_that_it_answers_is_left_alone(wire: Wire, autojump_clock: MockClock) -> None:
    await trio.sleep(3600)
    assert (wire.pings, wire.dropped_at) == (0, None)


async def test_who_cannot_answer_any_more_is_left_alone(wire: Wire, autojump_clock: MockClock) -> None:
    wire.pulse.start()
    await trio.sleep(PING_S + SPARE_S)
    wire.pulse.stop()
    await trio.sleep(3600)
    assert wire.dropped_at is None


async def test_who_reads_slowly_and_has_not_come_to_the_ping_is_kept(
    wire: Wire, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def trickle() -> None:
        while True:
            await trio.sleep(PATIENCE_S - 1)
            passing, wire.flows = wire.flows, trio.Event()
            passing.set()  # one piece

    wire.flows = trio.Event()
    nursery.start_soon(trickle)
    wire.outbox.offer(b"x" * FULL_BYTES)
    wire.pulse.start()
    await trio.sleep(3 * PATIENCE_S)
    assert wire.dropped_at is None


async def test_who_reads_all_that_there_is_and_answers_is_kept(
    wire: Wire, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def flood() -> None:
        while True:
            await wire.outbox.put(b"x" * FULL_BYTES)

    async def read() -> None:
        while True:
            await trio.sleep(0.1)
            passing, wire.flows = wire.flows, trio.Event()
            passing.set()
            if wire.pings:
                wire.pulse.heard()

    wire.flows = trio.Event()
    nursery.start_soon(flood)
    nursery.start_soon(read)
    wire.pulse.start()
    await trio.sleep(3 * (PING_S + PATIENCE_S))
    assert wire.dropped_at is None


async def test_who_reads_steadily_behind_a_slow_line_is_kept(
    wire: Wire, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def read() -> None:
        while True:
            await trio.sleep(0.9)  # a piece
            passing, wire.flows = wire.flows, trio.Event()
            passing.set()

    wire.flows = trio.Event()
    nursery.start_soon(read)
    wire.outbox.offer(b"x" * (80 * PIECE_BYTES))
    wire.pulse.start()
    await trio.sleep(60)
    assert wire.dropped_at is None


async def test_who_neither_reads_nor_sends_is_dropped_with_much_to_read(wire: Wire, autojump_clock: MockClock) -> None:
    wire.flows = trio.Event()
    wire.pulse.start()
    wire.outbox.offer(b"x" * FULL_BYTES)
    await trio.sleep(PING_S + PATIENCE_S + SPARE_S)
    assert wire.dropped_at is not None


async def test_lines_that_go_out_at_once_are_no_sign_of_life(
    wire: Wire, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def chatter() -> None:
        while True:
            wire.outbox.offer(b"x\n")
            await trio.sleep(1)

    wire.pulse.start()
    nursery.start_soon(chatter)
    await trio.sleep(PING_S + PATIENCE_S + SPARE_S)
    assert wire.dropped_at is not None
