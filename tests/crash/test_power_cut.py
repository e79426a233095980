"""The power goes while programs work: what was synced or announced is there, and nothing is made up."""

from __future__ import annotations

import contextlib
import os
import random
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.disks import can_loop
from tests.support.powercut import judge_in_namespace, rig
from tests.support.promises import Load, allowed
from tests.support.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.skipif(not (can_loop("ext4") and can_loop("xfs")), reason="loop disks need root")

KEEPING = (1.0,)  # all writes that a disk had taken
DROPPING = (0.0, 0.5, 0.95)  # of what was not flushed
LOG_S = 2.0  # the log's interval, and time for the sync itself


def cut_and_judge(base: Path, cuts: int, shares: Sequence[float]) -> None:
    chance = random.Random(seed := os.environ.get("FUSESTORE_SEED", "power"))
    failed: list[str] = []
    with rig(base) as (mounted, power), contextlib.ExitStack() as undo:
        watcher = Watcher(mounted.socket)
        undo.callback(watcher.stop)
        load = undo.enter_context(Load(mounted, chance.randrange(1000)))
        for number in range(cuts):
            load.hear(list(watcher.seen))
            heard, pause_s = len(watcher.seen), chance.uniform(0.3, 3.0)
            time.sleep(pause_s)
            load.hear(list(watcher.seen))
            before = load.remembered()
            images = power.cut(f"{seed}-{number}", shares[number % len(shares)])
            memory = allowed(before, load.remembered())
            memory.lasting = heard if pause_s >= LOG_S else 0
            remembered = base / f"memory-{number}"
            remembered.write_bytes(msgspec.json.encode(memory))
            try:
                judge_in_namespace(images, base, remembered)
            except AssertionError as wrong:
                failed.append(f"cut {number}, share kept {shares[number % len(shares)]}:\n{wrong}")
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("shares", [KEEPING, DROPPING], ids=["keeping", "dropping"])
def test_a_few_cuts(tmp_path: Path, shares: Sequence[float]) -> None:
    cut_and_judge(tmp_path, 3, shares)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("shares", [KEEPING, DROPPING], ids=["keeping", "dropping"])
def test_many_cuts(tmp_path: Path, shares: Sequence[float]) -> None:
    cut_and_judge(tmp_path, int(os.environ.get("FUSESTORE_CUTS", "50")), shares)
