"""Which settings change under a mount: each key of the config is one that does, or one that waits for a mount."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fusestore import config
from fusestore.errors import UsageError
from fusestore.service.pace import Pace
from fusestore.service.reloading import AT_ONCE, compare

pytestmark = pytest.mark.timeout(30)
README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
OTHERWISE = """
mount = { allow_other = true, writeback = true, prefer = ["a"] }
control = { mode = "0660", socket = "c", group = "0", readers = ["0"], operators = ["0"], admins = ["0"] }
hash.algorithm = "sha256"
index = { map_bytes = 1073741824, commit_s = 2 }
events = { keep = 10, keep_days = 1, keep_unacked = 20 }
moves = { workers = 4, per_pair = 3, rate = 5 }
scrub = { every_days = 1, rate = 3 }
log.level = "debug"
[roots.a]
path = "/b"
outside = "none"
read_only = true
copies = 2
trash_s = 3
trash_removed = true
watch = "never"
[roots.b]
path = "/c"
outside = "none"
"""
PLAIN = 'roots.a = { path = "/a" }\n'


def read(store: Path, text: str) -> config.Config:
    (store / "fusestore.toml").write_text(text)
    return config.load(store)


def keys() -> set[str]:
    """Every key that a file may have, as changes are named."""
    sections: dict[str, Any] = {name: kind.__struct_fields__ for name, kind in config._SECTIONS.items()}
    return {
        f"{name}.{key}"
        for name, of in {**sections, "roots.a": config._RootTable.__struct_fields__}.items()
        for key in of
    }


def test_each_key_that_differs_is_applied_or_named(tmp_path: Path) -> None:
    present = read(tmp_path, PLAIN)
    change = compare(present, read(tmp_path, OTHERWISE))
    at_once = {f"{'roots.a' if name == 'roots' else name}.{key}" for name, of in AT_ONCE.items() for key in of}
    assert set(change.applied) == at_once
    assert set(change.needs_remount) == keys() - at_once | {"roots.b"}
    assert len(change.applied) + len(change.needs_remount) == len(keys()) + 1


def test_what_needs_a_mount_stays_and_is_named_again(tmp_path: Path) -> None:
    present = read(tmp_path, PLAIN)
    taken = compare(present, read(tmp_path, OTHERWISE)).config
    assert (taken.hash.algorithm, taken.mount.writeback, taken.socket) == ("blake3", False, tmp_path / "control.sock")
    assert (taken.moves.rate, taken.mount.prefer, taken.control.admins) == (5, ("a",), ("0",))
    assert [(root.name, root.path, root.copies, root.read_only) for root in taken.roots] == [
        ("a", Path("/a"), 2, False)
    ]
    again = compare(taken, read(tmp_path, OTHERWISE))
    assert again.applied == []
    assert "hash.algorithm" in again.needs_remount
    assert compare(taken, taken) == (taken, [], [])


def test_a_root_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"roots\.a: expected this root"):
        compare(read(tmp_path, PLAIN), read(tmp_path, "roots = {}"))


def test_the_readme_says_of_each_key_whether_it_counts_at_once() -> None:
    rows = [line for line in README.partition("## Settings")[2].splitlines() if line.startswith("| `")]
    marked = {key for line in rows if "↻" in line.split("|")[1] for key in _named(line)}
    assert marked == {
        f"{'roots.NAME' if name == 'roots' else name}.{key}" for name, of in AT_ONCE.items() for key in of
    }


def _named(row: str) -> list[str]:
    first, *others = [part.strip("` ↻") for part in row.split("|")[1].split(",")]
    return [first, *(first.rpartition(".")[0] + other for other in others)]


def test_every_section_is_in_the_table() -> None:
    assert set(AT_ONCE) == {*config._SECTIONS, "roots"}
    assert all(key in msgspec.structs.asdict(config.Config(**_defaults())) for key in AT_ONCE)


def _defaults() -> dict[str, Any]:
    return {"store": Path("/s"), "roots": (), **{name: kind() for name, kind in config._SECTIONS.items()}}


def test_who_waits_because_of_a_rate_goes_on_when_it_is_another() -> None:
    pace = Pace(1)
    waiting = threading.Event()
    worker = threading.Thread(target=pace.take, args=(1 << 40, waiting.set))
    worker.start()
    assert waiting.wait(10)
    pace.change(0)
    worker.join(10)
    assert not worker.is_alive()
    began = time.monotonic()
    pace.take(1 << 40, lambda: None)
    assert time.monotonic() - began < 1
