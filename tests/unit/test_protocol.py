"""The wire format: whatever bytes come in, each line gives exactly one request or one complaint."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusestore.control.broadcasts import encode_broadcast
from fusestore.control.protocol import (
    LINE_MAX,
    VALUES_MAX,
    Decoder,
    Request,
    Unreadable,
    decode_request,
    encode_error,
    encode_progress,
    encode_reply,
    encode_request,
    encode_stopped,
    readable_name,
)
from fusestore.errors import ControlError

pytestmark = pytest.mark.timeout(60)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
REQUESTS = st.builds(Request, st.none() | st.integers() | st.text(), st.text(), st.text(), JSON)


def feed(data: bytes, step: int, line_max: int = LINE_MAX) -> list[Request | Unreadable]:
    decoder = Decoder(line_max)
    return [item for start in range(0, len(data), step) for item in decoder.feed(data[start : start + step])]


def code(item: Request | Unreadable) -> str:
    assert isinstance(item, Unreadable)
    return item.error.code


@given(st.lists(REQUESTS, max_size=6), st.integers(1, 50))
def test_requests_arrive_whole_and_in_order_however_the_stream_is_cut(requests: list[Request], step: int) -> None:
    assert feed(b"".join(map(encode_request, requests)), step) == requests


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=8), st.integers(1, 40))
def test_any_line_that_is_not_blank_gives_exactly_one_item(lines: list[bytes], step: int) -> None:
    items = feed(b"".join(line + b"\n" for line in lines), step, line_max=20)
    assert len(items) == sum(bool(line.strip()) or len(line) > 20 for line in lines)


LINES = st.binary(max_size=30) | REQUESTS.map(encode_request) | st.sampled_from([b"{", b"[" * 25, b"\xff\n", b"\r\n"])


@given(st.lists(LINES, max_size=8).map(b"".join), st.lists(st.integers(0, 60), min_size=1), st.integers(1, 80))
def test_any_bytes_cut_anywhere_give_an_item_a_line_and_no_more_than_a_line_is_held(
    stream: bytes, sizes: list[int], line_max: int
) -> None:
    decoder, items, start = Decoder(line_max), 0, 0
    for size in itertools.cycle([*sizes, 1]):
        items += len(list(decoder.feed(stream[start : start + size])))
        assert len(decoder._line) <= line_max
        start += size
        if start >= len(stream):
            break
    *lines, last = stream.split(b"\n")
    assert items == sum(bool(line.strip()) or len(line) > line_max for line in lines) + (len(last) > line_max)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_line_that_is_too_long_gives_one_complaint_and_the_next_line_is_read(step: int) -> None:
    good = encode_request(Request(2, "a", "b", None))
    items = feed(b"x" * 500 + b"\n" + good + b"y" * 101 + b"\n" + good, step, line_max=100)
    assert [code(items[0]), items[1], code(items[2]), items[3]] == [
        "line_too_long",
        Request(2, "a", "b", None),
        "line_too_long",
        Request(2, "a", "b", None),
    ]


def test_a_line_of_the_greatest_length_is_read() -> None:
    line = encode_request(Request(1, "a", "b", "x" * 40))
    assert len(feed(line, 10, line_max=len(line) - 1)) == 1
    assert isinstance(feed(line, 10, line_max=len(line) - 1)[0], Request)


def test_a_line_without_end_is_not_kept() -> None:
    decoder = Decoder()
    items = [item for _ in range(100) for item in decoder.feed(b"x" * 1_000_000)]
    assert [code(item) for item in items] == ["line_too_long"]
    assert not decoder._line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"nonsense", "bad_json"),
        (b"\xff\xfe\x00", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"tid": 1', "bad_json"),
        (b"7", "bad_request"),
        (b"[1]", "bad_request"),
        (b"{}", "bad_request"),
        (b'{"tid": [1], "collectionName": "a", "methodName": "b"}', "bad_request"),
        (b'{"tid": true, "collectionName": "a", "methodName": "b"}', "bad_request"),
        (b'{"tid": 1, "collectionName": 2, "methodName": "b"}', "bad_request"),
        (b'{"tid": 1, "collectionName": "a"}', "bad_request"),
        (b"9" * 10_000, "bad_json"),
    ],
)
def test_a_line_that_is_no_request_says_why(line: bytes, expected: str) -> None:
    assert code(decode_request(line)) == expected


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
def test_what_is_no_number_of_json_is_no_request(number: str) -> None:
    line = f'{{"tid": 1, "collectionName": "a", "methodName": "b", "data": {{"x": [{number}]}}}}'.encode()
    unreadable = decode_request(line)
    assert isinstance(unreadable, Unreadable)
    assert unreadable.error.code == "bad_json"
    assert isinstance(decode_request(line.replace(number.encode(), b"1e99")), Request)


@pytest.mark.parametrize("value", [b"[]", b"1.1", b'"a"', b'{"a":1}'])
def test_a_line_of_more_values_than_a_request_can_need_is_refused_unread(value: bytes) -> None:
    start = b'{"tid": 1, "collectionName": "a", "methodName": "b", "data": ['
    unreadable = decode_request(start + b",".join([value] * (VALUES_MAX + 2)) + b"]}")
    assert isinstance(unreadable, Unreadable)
    assert unreadable.error.code == "bad_request"
    text = b'a,\\"b,\\\\' * VALUES_MAX
    assert isinstance(decode_request(start + b'"' + text + b'"]}'), Request)


_PING = b' {"tid": 1, "collectionName": "dispatcher", "methodName": "ping"}\n'


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_blank_lines_are_nothing_wherever_they_are(step: int) -> None:
    stream = b"\n \r\n" * 1000 + _PING + b"\n\n\t\n" + _PING + b"\n" * 1000
    decoder = Decoder()
    items = [item for at in range(0, len(stream), step) for item in decoder.feed(stream[at : at + step])]
    assert [type(item) for item in items] == [Request, Request]


def test_a_complaint_carries_the_tid_where_the_line_said_it() -> None:
    item = decode_request(b'{"tid": 41, "methodName": 5}')
    assert isinstance(item, Unreadable)
    assert json.loads(encode_error(item.tid, item.error))["tid"] == 41


@pytest.mark.parametrize("data", [0, [], "", None, False, {}])
def test_an_answer_that_is_falsy_arrives_as_it_is(data: Any) -> None:
    assert json.loads(encode_reply(3, data)) == {"tid": 3, "success": True, "data": data}


@given(st.binary())
def test_a_name_of_any_bytes_travels_there_and_back(name: bytes) -> None:
    line = encode_request(Request(1, "files", "get", {"path": readable_name(name)}))
    assert line.index(b"\n") == len(line) - 1
    request = decode_request(line)
    assert isinstance(request, Request)
    assert request.data["path"].encode("utf-8", "surrogateescape") == name
    reply = encode_reply(1, {"name": name})
    assert reply.isascii()
    assert json.loads(reply)["data"]["name"] == readable_name(name)


@given(st.binary() | st.text().map(str.encode))
def test_a_broadcast_of_any_name_is_ascii_and_says_what_any_other_message_would(name: bytes) -> None:
    line = encode_broadcast(
        {"operation": "insert", "seq": 7, "epoch": 1, "path": readable_name(name), "kind": "created"}
    )
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    assert json.loads(line)["data"]["path"] == json.loads(encode_reply(1, name))["data"]


def test_raw_bytes_in_a_line_mean_the_same_as_their_escapes() -> None:
    raw = decode_request(b'{"tid":1,"collectionName":"a","methodName":"b","data":"\xff\xc3\xa9"}')
    escaped = decode_request(rb'{"tid":1,"collectionName":"a","methodName":"b","data":"\udcff\u00e9"}')
    assert raw == escaped


def test_the_other_messages_have_the_documented_shape() -> None:
    event = {"operation": "move", "seq": 7, "epoch": 1, "id": "0192", "path": "uploads/a", "kind": "renamed"}
    assert json.loads(encode_broadcast(event)) == {
        "operation": "move",
        "collectionName": "files",
        "data": {"id": "0192", "path": "uploads/a", "kind": "renamed"},
        "seq": 7,
        "epoch": 1,
    }
    assert json.loads(encode_progress("t", 5, 10, "bytes")) == {
        "tid": "t",
        "progress": {"done": 5, "total": 10, "unit": "bytes"},
    }
    assert json.loads(encode_stopped("gone", 9, 2)) == {
        "collectionName": "events",
        "stopped": {"lost": True, "reason": "gone", "snapshotSeq": 9, "epoch": 2},
    }
    error = ControlError("not_found", "No such file", "look again", errno=2, path="uploads/x")
    assert json.loads(encode_error(None, error)) == {
        "tid": None,
        "success": False,
        "error": {"code": "not_found", "errno": 2, "path": "uploads/x", "text": "No such file", "hint": "look again"},
    }
    assert all(
        b"\n" not in line[:-1] for line in (encode_reply(1, "a\nb"), encode_broadcast({**event, "path": "a\nb"}))
    )
