"""Which events a watcher with a filter gets."""

from __future__ import annotations

from typing import Any

import pytest

from fusestore.control.filters import Filter


def event(path: str = "", old: str = "", operation: str = "update", kind: str = "changed", root: str = "hot") -> Any:
    return {"operation": operation, "kind": kind, "path": path, "old_path": old, "root": root, "old_root": ""}


D = "resources/hot/d"


@pytest.mark.parametrize(
    ("told", "passes"),
    [
        (event(D), True),
        (event(f"{D}/x"), True),
        (event(f"{D}/x/y", operation="insert", kind="created"), True),
        (event(f"{D}x"), False),
        (event("resources/hot/d.old"), False),
        (event("resources/hot"), False),
        (event("resources"), False),
        (event("uploads/x", f"{D}/x", operation="move", kind="renamed"), True),
        (event(f"{D}/x", "uploads/x", operation="move", kind="renamed"), True),
        (event("resources/hot2", "resources/hot", operation="move", kind="renamed"), True),
        (event("resources/hot", operation="remove", kind="removed"), True),
        (event("resources/cold", operation="remove", kind="removed"), False),
        (event("resources/hot", kind="root-offline"), True),
        (event("resources/hot", kind="drain-released"), True),
        (event("resources/cold", kind="root-offline"), False),
        (event(kind="epoch"), True),
    ],
)
def test_a_path_means_what_is_there_and_below_and_what_happens_to_all_above(told: Any, passes: bool) -> None:
    assert Filter(paths=("uploads/other", D)).passes(told) is passes


def test_the_whole_tree_is_a_path_too() -> None:
    assert Filter(paths=("",)).passes(event("uploads/x"))


def test_each_that_is_given_has_to_be_met_and_an_empty_one_is_met_by_nothing() -> None:
    told = event(D)
    assert Filter().passes(told)
    assert Filter(paths=(D,), roots=frozenset({"hot"}), kinds=frozenset({"changed"})).passes(told)
    assert not Filter(paths=(D,), roots=frozenset({"cold"})).passes(told)
    assert not Filter(kinds=frozenset({"created"})).passes(told)
    assert not Filter(paths=()).passes(told)
    assert not Filter(roots=frozenset()).passes(told)
    assert Filter(paths=()).passes(event(kind="epoch"))


def test_a_root_is_met_by_what_leaves_it() -> None:
    left = {**event("resources/cold/x", D, operation="move", kind="renamed", root="cold"), "old_root": "hot"}
    assert Filter(roots=frozenset({"hot"})).passes(left)
