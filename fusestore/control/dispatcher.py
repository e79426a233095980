"""The collection `dispatcher`: the conversation itself."""

from __future__ import annotations

import functools
import os
from typing import Any, Final

import msgspec
import msgspec.inspect

from fusestore.control.methods import Arguments, Call, Method, Role
from fusestore.control.protocol import LINE_MAX, PROTOCOL
from fusestore.control.pulse import PATIENCE_S, PING_S

WORDS: Final[dict[type[msgspec.inspect.Type], str]] = {
    msgspec.inspect.StrType: "string",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.BoolType: "boolean",
    msgspec.inspect.NoneType: "null",
}


class Manners(Arguments):
    """What the peer says of itself."""

    keep_alive: bool = False


def hello(call: Call, peer: Manners) -> dict[str, Any]:
    """Who answers here, and what this connection may do; with `keep_alive`, the peer answers pings."""
    if peer.keep_alive:
        call.keep_alive()
    return {
        "protocol": PROTOCOL,
        "capabilities": [f"{collection}.{name}" for collection, methods in call.table.items() for name in methods],
        "pid": os.getpid(),
        **call.queries.places(),
        "uid": call.peer.uid,
        "role": call.role.name.lower(),
        "line_max_bytes": LINE_MAX,
        "ping_s": PING_S,
        "patience_s": PATIENCE_S,
        "epoch": call.queries.epoch,
        "last_seq": call.queries.last_seq,
    }


def describe(call: Call, _: Arguments) -> dict[str, Any]:
    """Every collection and method with its help, required role and arguments."""
    return {
        collection: {
            name: {
                "help": method.help,
                "role": method.role.name.lower(),
                "long": method.is_long,
                "arguments": _arguments(method.arguments),
            }
            for name, method in methods.items()
        }
        for collection, methods in call.table.items()
    }


@functools.cache
def _arguments(of: type[Arguments]) -> dict[str, Any]:
    return {spec.name: _argument(spec) for spec in msgspec.structs.fields(of)}


def _argument(spec: msgspec.structs.FieldInfo) -> dict[str, Any]:
    return {"type": _type(msgspec.inspect.type_info(spec.type)), "required": spec.required}


def _type(info: msgspec.inspect.Type) -> str:
    """A type in JSON's words."""
    match info:
        case msgspec.inspect.UnionType(types):
            return " | ".join(_type(each) for each in types)
        case msgspec.inspect.LiteralType(values):
            return " | ".join(f'"{each}"' for each in values)
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            return f"array of {_type(item)}"
        case msgspec.inspect.DictType(value_type=value):
            return f"object of {_type(value)}"
        case _:
            return WORDS[type(info)]


def ping(_: Call, __: Arguments) -> str:
    """Answers "pong"."""
    return "pong"


def status(call: Call, _: Arguments) -> dict[str, Any]:
    """Roots, space, moves, watchers, index size and health."""
    return {**call.queries.status(), "watchers": call.watchers()}


async def reload(call: Call, _: Arguments) -> dict[str, list[str]]:
    """Take the settings in again from fusestore.toml: those that are applied, and those that need a remount."""
    return await call.queries.reload()


def shutdown(call: Call, _: Arguments) -> dict[str, Any]:
    """End the daemon in order, as unmounting does; the reply comes first."""
    call.then = call.queries.shutdown
    return {"pid": os.getpid()}


METHODS: Final = {
    "hello": Method(hello, Manners, role=Role.ANYONE),
    "describe": Method(describe, role=Role.ANYONE),
    "ping": Method(ping, role=Role.ANYONE),
    "status": Method(status),
    "reload": Method(reload, role=Role.ADMIN),
    "shutdown": Method(shutdown, role=Role.ADMIN),
}
