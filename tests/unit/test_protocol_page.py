"""docs/control-protocol.md names what there is: every method, error code and limit, and its examples are JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from fusestore.control import connection, crowd, events, files, known, methods, outbox, protocol, pulse
from fusestore.control.table import COLLECTIONS
from fusestore.model import KINDS

pytestmark = pytest.mark.timeout(30)
PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "control-protocol.md").read_text()


def test_every_method_is_described_with_its_role_and_arguments_and_no_other() -> None:
    rows = {row[0]: row for row in re.findall(r"^\| `(\w+\.\w+)` \|(.*?)\| (\w+) \|", PAGE, re.MULTILINE)}
    table = {f"{name}.{verb}": method for name, of in COLLECTIONS.items() for verb, method in of.items()}
    assert set(rows) == set(table)
    for name, method in table.items():
        _, arguments, role = rows[name]
        assert role == method.role.name.lower(), name
        for field in msgspec.structs.fields(method.arguments):
            assert f"`{field.name}`" in arguments, name


def test_every_error_code_is_listed() -> None:
    raised = set(methods.CODES.values())
    for source in (PROJECT / "fusestore" / "control").glob("*.py"):
        raised |= set(re.findall(r'ControlError\(\s*"(\w+)"', source.read_text()))
    rows = PAGE.partition("| code | meaning |")[2].partition("## Roles")[0].splitlines()
    listed = {code for row in rows for code in re.findall(r"`(\w+)`", "".join(row.split("|")[:2]))}
    assert raised == listed


def test_every_kind_of_event_is_listed() -> None:
    rows = PAGE.partition("| operation | kind |")[2].partition("\n\n")[0]
    assert [kind for kind in KINDS if f"`{kind}`" not in rows] == []


def test_the_limits_are_those_of_the_code() -> None:
    assert protocol.LINE_MAX == 1 << 20
    assert outbox.FULL_BYTES == 256 << 10
    assert (connection.LONG_MAX, events.LIST_MAX) == (32, 1000)
    assert (files.LIST_MAX, known.ENTRIES_MAX) == (1000, 1000)
    assert (crowd.PLACES, crowd.KEPT, crowd.EACH, crowd.LISTENING, crowd.IDLE_S) == (512, 64, 128, 448, 10)
    assert (pulse.PING_S, pulse.PATIENCE_S) == (10, 30)
    for row in (
        "| 1 MiB",
        "| 256 KiB",
        "| 32 |",
        "| 448 |",
        "| 512, of which the last 64 ",
        "; 128 for each ",
        "(1000, which is the most)",
    ):
        assert row in PAGE
    for words in (
        "(1000, which is the most)",
        "| 1000 |",
        "and for 10 s, makes room",
        "10 s (`ping_s`",
        "30 s (`patience_s`)",
    ):
        assert words in PAGE


def test_every_example_is_json_a_line() -> None:
    examples = [line for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(examples) >= 6
    for line in examples:
        json.loads(line)
