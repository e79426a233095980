"""The client's rules without a socket: which line answers what, and where a watcher stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from typing import Any

import pytest

from fusestore.client.following import EVERY, LONGEST_PAUSE_S, Following, Lost, pauses, place_of
from fusestore.client.wire import FENCE, PING, StreamLost, Wire
from fusestore.control.protocol import LINE_MAX
from fusestore.errors import ControlError

LOG = {"epoch": 3, "last_seq": 50}


def line(**message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


def event(seq: int, kind: str = "created", epoch: int = 3) -> dict[str, Any]:
    return {"seq": seq, "epoch": epoch, "kind": kind}


def following(cursor: tuple[int, int] | None = (3, 7), *, snapshot: bool = False) -> Following:
    state = Following({"paths": ["a"]}, snapshot=snapshot)
    state.begin(cursor, LOG)
    return state


def test_each_reply_and_each_progress_goes_to_the_request_with_its_tid() -> None:
    wire = Wire()
    first, second = wire.request("moves.wait"), wire.request("files.get", {"path": "a"})
    progress = {"done": 1, "total": 2, "unit": "files"}
    error = {"code": "not_found", "errno": 2, "path": "a", "text": "no", "hint": ""}
    lines = line(tid=1, progress=progress) + line(tid=2, success=False, error=error) + line(tid=1, success=True, data=0)
    for byte in lines:
        wire.feed(bytes([byte]))
    told: list[tuple[int, int, str]] = []
    first.tell(lambda *said: told.append(said))
    assert told == [(1, 2, "files")]
    assert first.is_answered
    assert first.result() == 0
    with pytest.raises(ControlError, match="no"):
        second.result()


def test_a_request_carries_its_method_in_two_fields_and_is_no_longer_than_the_daemon_reads() -> None:
    sent = json.loads(Wire().request("jobs.cancel", {"tid": 4}).line)
    assert (sent["collectionName"], sent["methodName"], sent["data"]) == ("jobs", "cancel", {"tid": 4})
    with pytest.raises(ControlError, match="longer than"):
        Wire().request("files.get", {"path": "x" * LINE_MAX})


def test_what_nobody_waits_for_is_dropped_and_pings_are_no_events() -> None:
    wire = Wire()
    pending = wire.request("moves.wait")
    wire.forget(pending)
    wire.feed(line(tid=1, success=True, data=None) + line(tid="alive", success=True, data="pong"))
    wire.feed(line(collectionName="dispatcher", ping=True))
    assert not pending.is_answered
    assert wire.is_read


def test_an_answer_without_a_tid_is_one_to_all_requests() -> None:
    wire = Wire()
    both = [wire.request("moves.wait"), wire.request("dispatcher.ping")]
    wire.feed(line(tid=None, success=False, error={"code": "too_many", "text": "too many connections"}))
    for pending in both:
        with pytest.raises(ControlError, match="too many connections"):
            pending.result()


def test_what_a_newer_daemon_says_of_an_error_is_left_out() -> None:
    wire = Wire()
    pending = wire.request("files.get")
    wire.feed(line(tid=1, success=False, error={"code": "not_found", "text": "no", "since": "a newer daemon"}))
    with pytest.raises(ControlError, match="no") as caught:
        pending.result()
    assert caught.value.code == "not_found"


def test_events_come_in_order_and_the_stop_message_after_them() -> None:
    wire = Wire()
    wire.feed(line(operation="insert", collectionName="files", data={"kind": "created"}, seq=8, epoch=1))
    wire.feed(line(collectionName="events", stopped={"lost": True, "reason": "cut", "snapshotSeq": 90, "epoch": 2}))
    assert wire.event() == {"operation": "insert", "kind": "created", "seq": 8, "epoch": 1}
    with pytest.raises(StreamLost) as caught:
        wire.event()
    assert (caught.value.snapshot_seq, caught.value.epoch) == (90, 2)
    assert wire.event() is None


def listen(wire: Wire) -> None:
    wire.feed(line(tid=wire.request("events.listen").tid, success=True, data=None))


def test_what_came_before_the_reply_is_of_the_stream_before_it() -> None:
    wire = Wire()
    broadcast = line(operation="insert", collectionName="files", data={"kind": "created"}, seq=8, epoch=1)
    listen(wire)
    wire.feed(broadcast)
    refused = wire.request("events.listen")
    wire.feed(line(tid=refused.tid, success=False, error={"code": "bad_data", "text": "no"}))
    assert not wire.is_read
    again = wire.request("events.listen")
    wire.feed(broadcast + line(tid=again.tid, success=True, data=None) + broadcast.replace(b"8", b"9"))
    event = wire.event()
    assert event is not None
    assert event["seq"] == 9
    assert wire.event() is None


def test_a_fence_comes_behind_the_events_before_it_and_never_into_another_stream() -> None:
    wire = Wire()
    assert wire.sign_of_life() == PING
    listen(wire)
    asked = json.loads(wire.sign_of_life().splitlines()[1])
    assert asked["methodName"] == "fence"
    assert wire.sign_of_life() == PING  # one at a time
    stop = line(collectionName="events", stopped={"lost": True, "reason": "cut", "snapshotSeq": 90, "epoch": 2})
    reply = line(tid=asked["tid"], success=True, data={"seq": 95, "epoch": 2})
    broadcast = line(operation="insert", collectionName="files", data={"kind": "created"}, seq=8, epoch=1)
    wire.feed(broadcast + reply)
    assert wire.event() == {"operation": "insert", "kind": "created", "seq": 8, "epoch": 1}
    assert wire.event() == {"kind": FENCE, "seq": 95, "epoch": 2}
    asked = json.loads(wire.sign_of_life().splitlines()[1])
    wire.feed(stop)
    with pytest.raises(StreamLost):
        wire.event()
    listen(wire)
    wire.feed(line(tid=asked["tid"], success=True, data={"seq": 99, "epoch": 2}))
    assert wire.event() is None
    asked = json.loads(wire.sign_of_life().splitlines()[1])
    wire.feed(line(tid=asked["tid"], success=False, error={"code": "too_many", "text": "too many"}))
    assert wire.event() is None


def test_a_watcher_goes_on_behind_what_it_has_handled() -> None:
    state = following()
    assert state.lost is None
    assert state.arguments() == {"since": 7, "epoch": 3, "paths": ["a"]}
    assert state.handled(event(9, epoch=4), is_read=True) == (4, 9)
    assert state.arguments() == {"since": 9, "epoch": 4, "paths": ["a"]}


def test_a_watcher_saves_now_and_then_and_when_no_event_waits() -> None:
    state = following()
    saved = [state.handled(event(seq), is_read=False) for seq in range(1, 2 * EVERY + 1)]
    assert [each for each in saved if each] == [(3, EVERY), (3, 2 * EVERY)]
    assert state.handled(event(900), is_read=True) == (3, 900)


def test_who_knows_nothing_yet_is_told_so_and_saves_once_it_has_looked() -> None:
    state = following(None)
    assert state.lost == Lost("nothing is known yet", 3, 50)
    assert state.looked() == (3, 50)
    assert state.arguments()["since"] == 50


def test_after_a_loss_a_watcher_goes_on_from_before_it_looked() -> None:
    state = following()
    state.lose(StreamLost("the log begins at 80", 90, 4))
    assert state.lost == Lost("the log begins at 80", 4, 90)
    assert state.looked() == (4, 90)
    assert state.arguments() == {"since": 90, "epoch": 4, "paths": ["a"]}


@pytest.mark.parametrize("snapshot", [True, False])
def test_a_loss_is_told_once_as_long_as_nothing_comes(snapshot: bool) -> None:
    state = following(snapshot=snapshot)
    for reason in ("the disk is full", "the disk is still full"):
        state.lose(StreamLost(reason, 90, 4))
        assert (state.lost is None) == (reason != "the disk is full")
        state.looked()
    state.lose(StreamLost("the log begins at 95", 99, 4))
    assert state.lost == Lost("the log begins at 95", 4, 99)
    state.looked()
    state.handled(event(100, epoch=4), is_read=True)
    assert state.lost is None


def test_a_loss_is_told_again_when_a_snapshot_was_cut_short() -> None:
    state = following(None, snapshot=True)
    state.looked()
    assert state.lost is None
    state.handled(event(60, "present"), is_read=True)
    assert state.lost == Lost("nothing is known yet", 3, 50)


def test_pauses_begin_anew_with_an_event_and_nothing_else() -> None:
    state = following(None, snapshot=True)
    first, second = state.pause(), state.pause()
    assert first < second
    state.looked()
    state.handled(event(60, "present"), is_read=True)
    state.handled(event(60, FENCE), is_read=True)
    state.lose(StreamLost("the disk is full", 90, 4))
    assert state.pause() > second
    state.handled(event(60, "whole"), is_read=True)
    assert state.pause() == first


def test_a_snapshot_is_a_cursor_only_once_it_is_whole() -> None:
    state = following(None, snapshot=True)
    assert state.looked() is None
    assert state.handled(event(60, "present"), is_read=True) is None
    assert state.handled(event(70, FENCE), is_read=True) is None
    assert state.arguments() == {"snapshot": True, "paths": ["a"]}  # as after a connection that ended too early
    assert state.handled(event(60, "whole"), is_read=True) == (3, 60)
    assert state.arguments() == {"since": 60, "epoch": 3, "paths": ["a"]}
    assert state.handled(event(60, FENCE), is_read=True) is None
    assert state.handled(event(70, FENCE), is_read=True) == (3, 70)


def test_a_consumer_is_registered_with_the_first_that_it_acknowledges() -> None:
    state = following(None)
    ack = {"consumer": "backup", "epoch": 3, "seq": 50}
    expected = [("events.register", {"consumer": "backup", "since": 50}), ("events.ack", ack)]
    assert list(state.acknowledging("backup", 3, 50)) == expected
    assert list(state.acknowledging("backup", 3, 50)) == expected[1:]
    assert list(following().acknowledging("backup", 3, 50)) == expected[1:]


def test_a_consumer_that_is_forgotten_is_registered_again_once() -> None:
    state = following()
    assert not state.refused(ControlError("lost", "the log begins at 80"))
    assert state.refused(ControlError("not_found", "there is no consumer"))
    assert [method for method, _ in state.acknowledging("backup", 3, 50)] == ["events.register", "events.ack"]
    with pytest.raises(ControlError, match="another role"):
        state.refused(ControlError("permission", "the method needs another role"))
    assert state.refused(ControlError("not_found", "there is no consumer"))
    with pytest.raises(ControlError, match="nor can there be"):
        state.refused(ControlError("not_found", "nor can there be"))


def test_the_place_of_a_consumer_is_what_the_daemon_keeps() -> None:
    known = [{"consumer": "a", "epoch": 1, "seq": 2}, {"consumer": "b", "epoch": 3, "seq": 4}]
    assert place_of("b", known) == (3, 4)
    assert place_of("c", known) is None


def test_pauses_grow_to_a_limit() -> None:
    found = list(islice(pauses(), 40))
    assert found == sorted(found)
    assert found[-1] == LONGEST_PAUSE_S


def test_the_client_costs_no_more_than_it_needs() -> None:
    heavy = {"trio", "pyfuse3", "lmdb", "msgspec", "structlog", "fusestore.service", "fusestore.control.server"}
    script = f"import sys, fusestore.client as c; assert not {heavy} & set(sys.modules); print(c.AsyncClient.__name__)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("AsyncClient\n", "")


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\n", b"[]\n", b"\xff\n"])
def test_what_is_no_daemon_is_told_in_one_error(said: bytes) -> None:
    with pytest.raises(ControlError, match="no fusestore daemon"):
        Wire().feed(said)


def test_a_request_is_no_longer_than_its_text() -> None:
    text = "ü" * 400_000
    sent = Wire().request("files.register", {"name": "a", "text": text}).line
    assert len(sent) < LINE_MAX
    assert json.loads(sent)["data"]["text"] == text
    name = os.fsdecode(b"\xff")
    assert json.loads(Wire().request("files.get", {"path": name}).line)["data"]["path"] == name
