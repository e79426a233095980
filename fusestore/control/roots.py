"""The collection `roots`: the storage places."""

from __future__ import annotations

from typing import Any, Final

from fusestore.control.methods import Arguments, Call, Method


def list_roots(call: Call, _: Arguments) -> list[dict[str, Any]]:
    """Every root: path, layout, who else touches it, state and space."""
    roots: list[dict[str, Any]] = call.queries.status()["roots"]
    return roots


METHODS: Final = {"list": Method(list_roots)}
