"""Which copy is read first, and where another one goes."""

from __future__ import annotations

from fusestore.core.replicas import Candidate, choose, in_order
from fusestore.model import RootNo

A, B, C = RootNo(1), RootNo(2), RootNo(3)


def test_named_roots_come_first_in_their_order_and_the_others_as_they_were() -> None:
    assert in_order([A, B, C], []) == [A, B, C]
    assert in_order([A, B, C], [C]) == [C, A, B]
    assert in_order([A, B], [C, B]) == [B, A]


def test_a_copy_goes_to_a_device_without_one_and_then_to_the_most_room() -> None:
    near, far, wide = Candidate(A, 1, 900), Candidate(B, 2, 100), Candidate(C, 1, 950)
    assert choose([near, far, wide], {1}, 50) == B
    assert choose([near, far, wide], {1, 2}, 50) == C
    assert choose([near, far, wide], {1}, 500) == C
    assert choose([near, far, wide], {1}, 5000) is None
    assert choose([], set(), 0) is None
