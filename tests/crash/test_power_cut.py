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
from tests.support.powercut import Load, Rig, allowed, judge_in_namespace
from tests.support.watcher import Watcher

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not (can_loop("ext4") and can_loop("xfs")), reason="loop disks need root")


def cut_and_judge(base: Path, cuts: int) -> None:
    rig = Rig(base)
    chance = random.Random(os.environ.get("FUSESTORE_SEED", "power"))
    with rig.running() as mounted, contextlib.ExitStack() as undo:
        watcher = Watcher(mounted.socket)
        undo.callback(watcher.stop)
        load = undo.enter_context(Load(mounted, chance.randrange(1000)))
        for number in range(cuts):
            time.sleep(chance.uniform(0.3, 2.5))
            load.hear(list(watcher.seen))
            before = load.remembered()
            image = rig.cut()
            memory = allowed(before, load.remembered())
            remembered = base / f"memory-{number}"
            remembered.write_bytes(msgspec.json.encode(memory))
            judge_in_namespace(image, base, remembered)
            image.unlink()


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_many_cuts(tmp_path: Path) -> None:
    cut_and_judge(tmp_path, int(os.environ.get("FUSESTORE_CUTS", "50")))
