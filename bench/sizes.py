"""How much work a run does."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Size(Struct, frozen=True):
    """The amounts of each part."""

    files: int  # names, parallel: small files
    synced: int  # names: files that are written and synced one by one
    megabytes: int  # data, parallel: MiB of big files
    random: int  # data: blocks of 4 KiB
    tree: int  # tools: source files
    seconds: float | None  # latency: for how long; None until standard input ends
    moved: int  # move: MiB that are on their way meanwhile, and that peers bring over by their own means
    small: int  # move: small files of a tree that is brought over
    few: int  # scale: files
    many: int
    turns: int  # scale: turns, of which the medians count
    events: int  # feed: in the log


FULL: Final = Size(
    files=3000,
    synced=200,
    megabytes=512,
    random=4000,
    tree=2000,
    seconds=4,
    moved=4096,
    small=10_000,
    few=10_000,
    many=1_000_000,
    turns=3,
    events=1_000_000,
)
SHORT: Final = Size(
    files=200,
    synced=10,
    megabytes=16,
    random=200,
    tree=100,
    seconds=0.3,
    moved=64,
    small=300,
    few=500,
    many=1000,
    turns=1,
    events=5000,
)
