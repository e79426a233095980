"""Brings home what renames across roots have left behind.

A move walks the names below its object (`walk`), and its files are carried (`carrier`). It keeps no state of its own
that matters: interrupted anywhere, it starts again and skips what is home. What is held up (no room, a root that is
away, a conflict) makes the move wait; it is tried again soon.

Nobody waits behind a huge move: what is new gets a place in the quick lane, which it has to leave when its slice of
time is over, or before its first huge file. What goes on in the long lane goes to its end after each slice, with its
walk where it was.

    begun ──► quick lane ──► place ──► over
       ▲          │ a slice is over, a huge file comes
       │          ▼
       │      long lane ◄──► place ──► over
       ├─ waiting ◄─ held up
       └─ paused  ◄─ at the next safe point: between files, or in the middle of one
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Never

import structlog
import trio

from fusestore.core.moves import ACTIVE, BUG, NOT_ALL_THERE, MoveEvent, may
from fusestore.errors import FusestoreError
from fusestore.jobs import counting
from fusestore.jobs.carrier import Carrier
from fusestore.jobs.held import Held, held_by
from fusestore.jobs.lanes import Lane
from fusestore.jobs.waiting import Waiting
from fusestore.jobs.walk import HANDFUL_BYTES, Walk
from fusestore.model import MoveNo, MoveState
from fusestore.service import draining, moving, syncing, walking

if TYPE_CHECKING:
    from fusestore.jobs.lanes import Pair
    from fusestore.jobs.walk import Beside
    from fusestore.model import InodeNo, Move
    from fusestore.service.store import Store

log = structlog.get_logger()

ARRIVED_AT_ONCE: Final = 8  # share one sync
FLOW_S: Final = 0.3  # how often a move that has waited is looked at, whether its bytes flow again
SLICE_S: Final = 1.0


class _Turn:
    """A move's place in a lane, and until when it may keep it."""

    __slots__ = ("again", "lane", "until")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.until = trio.current_time() + SLICE_S
        self.again: trio.Event | None = None  # what a move that has given its place up waits for


class Mover:
    """The only owner of moves that run.

    Args:
        workers: so many moves are carried at a time, and as many more that have only begun.
        per_pair: at most so many of either between the same two roots.

    Attributes:
        running: the moves being worked on, with counts that are ahead of those in the index. One that was overtaken
            stays until its worker has nothing of it in hand.
    """

    def __init__(self, store: Store, workers: int, per_pair: int) -> None:
        self._store = store
        self._wake = trio.Event()
        self._known = MoveNo(0)  # the newest move that was taken up
        self._arrived = Lane(ARRIVED_AT_ONCE, ARRIVED_AT_ONCE)  # by rename(2); all that is left is to make that durable
        self._quick = Lane(workers, per_pair)
        self._long = Lane(workers, per_pair)
        self._turns: dict[MoveNo, _Turn] = {}
        self._waiting = Waiting(store)
        self._held: dict[MoveNo, Held] = {}  # what holds up a move that is worked on
        self._claimed: set[InodeNo] = set()
        self._again: set[MoveNo] = set()  # in hand, and to be tried once more at once
        self._queued: set[MoveNo] = set()  # wait for a place in a lane for the first time
        self.running = store.running
        store.on_move = self.wake
        store.on_retry = self.retry

    def wake(self) -> None:
        """There is a new move."""
        self._wake.set()

    def resize(self, workers: int, per_pair: int) -> None:
        """Carry so many moves at a time from now on; those in hand keep their places."""
        for lane in (self._quick, self._long):
            lane.resize(workers, per_pair)
        self._wake.set()

    def retry(self, move: MoveNo | None) -> None:
        """What held a move up has passed, or it shall go on; None: try all that wait."""
        if move is None:
            self._again.update(self.running)
            due = self._waiting.take_all()
        elif move in self.running:
            self._again.add(move)
            due = []
        else:
            due = self._waiting.take(move) or [move]
        for number in due:
            self._put(self._store.index.move(number))
        self._wake.set()

    async def run(self) -> None:
        index = self._store.index
        self._store.is_ending = False
        self._known = index.last_move
        for position, move in enumerate(index.moves(open_only=True), 1):
            self._put(move)
            if position % walking.PAGE == 0:
                await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            try:
                await self._begin_moves(nursery)
            except BaseException:
                self._store.is_ending = True  # what is in hand need not be brought to its end
                raise

    async def _begin_moves(self, nursery: trio.Nursery) -> Never:
        """See that moves are worked on, each when it is its turn."""
        index = self._store.index
        while True:
            self._wake = trio.Event()
            begun = index.moves_after(self._known)
            self._known = begun[-1] if begun else self._known
            for number in (*begun, *self._waiting.take_due(trio.current_time())):
                self._put(index.move(number))
            for lane in (self._arrived, self._quick, self._long):
                self._fill(nursery, lane)
            with trio.move_on_at(self._waiting.next_look()):
                await self._wake.wait()

    def _put(self, move: Move | None) -> None:
        """Have a move wait for its turn, if it is not over."""
        if move is None or move.state not in ACTIVE or move.number in self._queued or move.number in self.running:
            return
        self._waiting.take(move.number)
        self._queued.add(move.number)
        lane = self._quick
        inode = self._store.index.inode(move.inode)
        if inode is not None and not inode.is_dir:
            if self._store.placement.is_home(inode.number):
                lane = self._arrived
            elif counting.size_now(self._store, inode) >= HANDFUL_BYTES:
                lane = self._long
        lane.put(move.number, _pair(move))

    def _fill(self, nursery: trio.Nursery, lane: Lane) -> None:
        """Work on as many moves as there are places for."""
        while (number := lane.enter()) is not None:
            turn = self._turns.get(number)
            if turn is not None and turn.again is not None:
                turn.again.set()
                continue
            self._queued.discard(number)
            move = self._store.index.move(number)
            if move is None or move.state not in ACTIVE:
                lane.leave(number)
                continue
            self._again.discard(number)
            self.running[number] = move
            self._turns[number] = _Turn(lane)
            nursery.start_soon(self._work, move)

    async def _work(self, move: Move) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, move)
                await self.bring(move, nursery)
                nursery.cancel_scope.cancel()
        finally:
            del self.running[move.number]
            turn = self._turns.pop(move.number)
            if turn.again is None:
                turn.lane.leave(move.number)
            else:  # it waits for a place yet, and is begun anew when it gets that
                self._queued.add(move.number)
            self._come_back(move, self._held.pop(move.number, None))
            self._wake.set()

    def _come_back(self, move: Move, held: Held | None) -> None:
        """See that a move which is out of hand and not over is worked on again."""
        store = self._store
        recorded = store.index.move(move.number)
        if recorded is None or recorded.state not in ACTIVE:
            self._waiting.forget(move.number)
            store.tries.pop(move.number, None)
            store.holding.pop(move.number, None)
            return
        store.tries[move.number] += 1
        if move.number in self._again or move.state not in ACTIVE:  # not: it was paused, and has been resumed since
            self._put(recorded)
        else:
            self._waiting.hold(move.number, trio.current_time(), held)

    async def _watch(self, move: Move) -> None:
        """See that a move which has waited is called running once its bytes flow."""
        before = move.bytes_done
        while may(move, MoveEvent.RETRIED):
            await trio.sleep(FLOW_S)
            if may(move, MoveEvent.RETRIED) and move.bytes_done > before:
                self._advance(move, MoveEvent.STARTED)
            before = move.bytes_done

    def _must_give_way(self, move: Move, size: int) -> bool:
        """Whether a move has had its slice, or goes on with so many bytes that it does not belong in the quick lane."""
        turn = self._turns.get(move.number)
        if turn is None:
            return False
        return trio.current_time() >= turn.until or (turn.lane is self._quick and size >= HANDFUL_BYTES)

    async def _give_way(self, move: Move) -> None:
        """Let others have the place of a move until it is its turn again."""
        turn = self._turns[move.number]
        turn.lane.leave(move.number)
        turn.lane, turn.again = self._long, trio.Event()
        self._long.put(move.number, _pair(move))
        self._wake.set()
        await turn.again.wait()
        turn.again = None
        turn.until = trio.current_time() + SLICE_S

    async def bring(self, move: Move, beside: Beside) -> None:
        """Work on one move until it is over or held up; its trouble is in its state and reason.

        Args:
            beside: what parts of the work are done in.
        """
        try:
            await self._bring(move, beside)
        except (OSError, FusestoreError) as error:
            self._hold(move, held_by(self._store, move.inode, error))
        except Exception:  # a bug that one move meets must not hold up the others
            log.exception("a bug in a move", move=move.number)
            self._hold(move, Held(move.inode, BUG))
        try:
            moving.keep_counts(self._store, move)
        except FusestoreError as error:  # nor does it matter
            log.debug("a move's counts are not recorded", move=move.number, error=str(error))

    async def _bring(self, move: Move, beside: Beside) -> None:
        store = self._store
        if not self._goes_on(move):
            return
        if move.state is not MoveState.WAITING:
            moving.change(store, move, MoveEvent.STARTED)
        home = store.placement.home(move.inode)
        if home is not None and not store.placement.is_home(move.inode):
            draining.refuse(store, store.roots[home])
        # A power cut must not take the rename back and leave what is made for it.
        await trio.to_thread.run_sync(store.index.sync_log)
        await counting.count(store, move)
        walk = Walk(
            store,
            move,
            partial(Carrier, store, move, counting.Tally(move), self._claimed),
            beside,
            goes_on=partial(self._goes_on, move),
            must_give_way=partial(self._must_give_way, move),
            give_way=partial(self._give_way, move),
        )
        await walk.go(move.inode)
        if not self._goes_on(move):
            return
        if walk.held:
            self._hold(move, _all_in_all(walk.held))
            return
        home = store.placement.home(move.inode)
        # What is announced is there after a power cut.
        await syncing.sync_all(store, [store.roots[home]] if home is not None and store.unsynced[home] else [])
        if not self._goes_on(move):
            return
        inode = store.index.inode(move.inode)
        if inode is not None and store.placement.is_home(move.inode) and store.placement.home(move.inode) == home:
            batch = store.batch()
            moving.finish(store, batch, move, inode, store.path(inode.number) or move.path)
            store.index.apply(batch)

    def _hold(self, move: Move, held: Held) -> None:
        reason = held.reason
        self._held[move.number] = held
        if self._goes_on(move) and may(move, MoveEvent.HELD_UP):  # not: it could not even be called running
            if (move.state, move.reason) != (MoveState.WAITING, reason):
                log.info("a move waits", move=move.number, reason=reason, inode=held.number)
            if held.number != move.inode:
                self._store.holding[move.number] = held.number
            self._advance(move, MoveEvent.HELD_UP, reason)

    def _advance(self, move: Move, event: MoveEvent, reason: str = "") -> None:
        try:
            moving.change(self._store, move, event, reason)
        except FusestoreError as error:  # the index takes nothing now; the move is worked on all the same
            log.debug("a move's state is not recorded", move=move.number, error=str(error))

    def _goes_on(self, move: Move) -> bool:
        """Whether the index still wants this to be worked on: nobody has paused, cancelled or overtaken it."""
        recorded = self._store.index.move(move.number)
        return not self._store.is_ending and move.state in ACTIVE and recorded is not None and recorded.state in ACTIVE


def _all_in_all(held: list[Held]) -> Held:
    """What holds a move up: the first trouble; where it is only ever room, with the least that would help."""
    troubles = [each for each in held if each.reason != NOT_ALL_THERE]
    shortages = [each.shortage for each in troubles if each.shortage is not None]
    if not shortages or len(shortages) < len(troubles):
        return held[0]._replace(shortage=None)
    return held[0]._replace(shortage=min(shortages, key=lambda each: each.bytes))


def _pair(move: Move) -> Pair:
    return move.source, move.target
