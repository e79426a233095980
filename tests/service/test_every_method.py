"""Every method of the socket's table with every mistake that can be made: one clear error reply each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from fusestore.control.jobs import Jobs
from fusestore.control.known import Known
from fusestore.control.methods import Call, Role, answer, arguments_of, lookup
from fusestore.control.protocol import Request
from fusestore.control.table import COLLECTIONS
from fusestore.errors import ControlError
from fusestore.jobs.scrubber import Scrubber
from fusestore.service.queries import Queries
from tests.support.byhand import finish
from tests.support.calls import ME

if TYPE_CHECKING:
    from fusestore.control.methods import Method
    from tests.support.opened import Opened

METHODS = [(collection, name) for collection, methods in COLLECTIONS.items() for name in methods]
NOBODY = "01932f6c-7a55-7cde-8f01-23456789abcd"
# Of each required argument a value that is well-formed; what it names does not exist, but for roots.
VALUES: dict[str, Any] = {
    "root": "hot",
    "new_root": "cold",
    "old_root": "hot",
    "what": NOBODY,
    "path": "resources/hot/none",
    "job": "00000000",
    "ids": [NOBODY],
    "owner": "somebody",
    "consumer": "nobody",
    "seq": 0,
    "epoch": 1,
    "name": "name",
}


def method(collection: str, name: str) -> Method:
    return COLLECTIONS[collection][name]


def ask(opened: Opened, collection: str, name: str, data: Any, role: Role = Role.ADMIN) -> dict[str, Any]:
    """What one request is told."""
    request = Request(5, collection, name, data)
    jobs = Jobs.__new__(Jobs)
    jobs._jobs = {}
    idle = trio.lowlevel.checkpoint
    queries = Queries(opened.store, opened.path, {}, idle, Scrubber(opened.store), lambda: None)
    call = Call(
        queries=queries,
        table=COLLECTIONS,
        peer=ME,
        groups=frozenset(),
        role=role,
        connection=None,
        feed=None,  # type: ignore[arg-type]  # no mistake gets as far
        keep_alive=lambda: None,
        known=Known(queries),
        jobs=jobs,
        watchers=lambda: 0,
        report=lambda done, total, unit: None,
    )
    try:
        found = lookup(COLLECTIONS, request, role)
        arguments = arguments_of(request, found)
    except ControlError as error:
        return {"error": {"code": error.code}}
    reply: dict[str, Any] = json.loads(finish(answer(found, request, arguments, call)))
    assert reply["tid"] == 5
    return reply


def required(collection: str, name: str) -> dict[str, Any]:
    fields = msgspec.structs.fields(method(collection, name).arguments)
    return {field.name: VALUES[field.name] for field in fields if field.required}


def code(reply: dict[str, Any]) -> str:
    assert set(reply) <= {"tid", "success", "error"}, reply
    found: str = reply["error"]["code"]
    return found


@pytest.mark.parametrize(("collection", "name"), METHODS)
def test_arguments_of_the_wrong_shape_are_refused(opened: Opened, collection: str, name: str) -> None:
    good = required(collection, name)
    wrong: list[Any] = [[], [1], "text", 7, True, {**good, "surprise": 1}, {**good, "\ud800": 1}]
    wrong += [{key: value for key, value in good.items() if key != missing} for missing in good]
    fields = msgspec.structs.fields(method(collection, name).arguments)
    wrong += [{**good, field.name: {"of": "another type"}} for field in fields]
    for data in wrong:
        assert code(ask(opened, collection, name, data)) == "bad_data", data


@pytest.mark.parametrize(("collection", "name"), METHODS)
def test_a_role_that_is_too_low_is_refused_before_anything_is_looked_at(
    opened: Opened, collection: str, name: str
) -> None:
    for role in Role:
        if role < method(collection, name).role:
            assert code(ask(opened, collection, name, ["nonsense"], role)) == "permission"


@pytest.mark.parametrize(("collection", "name"), METHODS)
def test_what_names_nothing_is_not_found(opened: Opened, collection: str, name: str) -> None:
    good = required(collection, name)
    fields = [field.name for field in msgspec.structs.fields(method(collection, name).arguments)]
    by_id = {"id": NOBODY, "resource_id": NOBODY, "ids": [NOBODY]}
    unknown = {**by_id, "path": "resources/hot/none", "move": 999, "root": "nowhere"}
    if name in ("unlink", "release"):  # that there is nothing to remove, or to release, is the answer
        return
    if name == "write":
        good["text"] = ""
    for field in (field for field in fields if field in unknown):
        data = {**good, field: unknown[field]}
        if field in ("id", "resource_id", "move"):
            data.pop("path", None)
        elif field == "root" and "path" in fields and name != "verify":
            data["path"] = "resources/hot"  # else that there is none would be the answer
        assert code(ask(opened, collection, name, data)) == "not_found", data


@pytest.mark.parametrize(("collection", "name"), METHODS)
def test_what_stands_for_no_name_or_is_said_twice_is_refused(opened: Opened, collection: str, name: str) -> None:
    fields = [field.name for field in msgspec.structs.fields(method(collection, name).arguments)]
    good = required(collection, name)
    if "path" in fields:
        assert code(ask(opened, collection, name, {**good, "path": "\ud800"})) == "bad_data"
    if {"path", "id"} <= set(fields):
        assert code(ask(opened, collection, name, {**good, "path": "uploads", "id": NOBODY})) == "bad_data"
