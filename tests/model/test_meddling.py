"""Others change the disks of a store while it is used: what it shows is what lies there, and nobody is mistaken.

rules: every change that others can make, by system calls and by tools; every use case of the tree; steps of the moves;
unmount and mount, crash and recovery
after each rule: the index's invariants
at rest: the tree is the disks, path for path; an object of a disk has one id for life, and no other object has it
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fusestore.errors import FusestoreError, Gone
from fusestore.model import Outside
from tests.support.byhand import by_hand
from tests.support.disks import can_loop
from tests.support.meddling import CHANGES, Meddler
from tests.support.opened import Opened, two_devices
from tests.support.pair import two_disks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusestore.model import Event

ROOTS: Final = ("hot", "warm", "cold")
NAMES: Final = st.sampled_from(["a", "b", "c"])  # few, so that names are taken, freed and taken again
CONTENTS: Final = st.binary(min_size=1, max_size=6)
CALLS: Final = (
    "create", "write", "append", "mkdir", "symlink", "link", "unlink", "rmdir", "rename", "rename", "rename", "chmod",
    "truncate", "read", "names",
)  # fmt: skip

Object = tuple[str, int, int]  # root, inode number, birth time


class Meddled(RuleBasedStateMachine):
    """See the module."""

    near: Path
    far: Path

    @initialize()
    def found(self) -> None:
        self.ids: dict[Object, bytes] = {}
        self.objects: dict[bytes, Object] = {}
        self.moved: set[bytes] = set()
        self.opened = Opened(self.near, self.far, outside=Outside.WRITERS)
        self._listen()
        self.others: dict[str, Meddler] = {}
        for root in ROOTS:
            away = self.opened.disks[root].with_name(f"away-{root}")
            away.mkdir()
            self.others[root] = Meddler(self.opened.disks[root], away)

    def _listen(self) -> None:
        def hear(events: list[Event]) -> None:
            self.moved |= {event.id for event in events if event.kind == "arrived"}

        self.opened.store.index.on_events = hear

    def teardown(self) -> None:
        if not hasattr(self, "opened"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.the_tree_is_the_disks()
                self.the_store_is_closed_and_opened()
                self.the_tree_is_the_disks()
        finally:
            with contextlib.suppress(Exception):
                self.opened.close()
            self.opened.remove()
            for other in self.others.values():
                shutil.rmtree(other.away)

    # -- what others do ---------------------------------------------------------------------------------------------

    @rule(data=st.data(), root=st.sampled_from(ROOTS), what=st.sampled_from(CHANGES), content=CONTENTS)
    def others_change(self, data: st.DataObject, root: str, what: str, content: bytes) -> None:
        other = self.others[root]
        paths = other.paths()
        path = data.draw(st.sampled_from(paths or [other.disk / "a"]))
        directory = data.draw(st.sampled_from([other.disk, *other.paths(stat.S_IFDIR)]))
        other.do(what, path, directory / data.draw(NAMES), content)

    # -- what programs do -------------------------------------------------------------------------------------------

    @rule(data=st.data(), what=st.sampled_from(CALLS), content=CONTENTS)
    def a_program_calls(self, data: st.DataObject, what: str, content: bytes) -> None:
        """Whatever it is answered: what others have done meanwhile may have made it impossible."""
        with contextlib.suppress(FusestoreError, OSError):
            self._call(data, what, content)

    def _call(self, data: st.DataObject, what: str, content: bytes) -> None:
        opened = self.opened
        path, other = self._draw(data), self._draw(data)
        match what:
            case "create":
                opened.release(opened.create(path))
            case "write":
                opened.write(path, content)
            case "append":
                fh = opened.open_file(path, write=True)
                opened.write_at(fh, content, opened.stat(path).size)
                opened.release(fh)
            case "link" | "rename":
                getattr(opened, what)(path, other)
            case "symlink":
                opened.symlink(path, "else/where")
            case "chmod":
                opened.set(path, mode=0o700 + len(content))
            case "truncate":
                opened.set(path, size=len(content))
            case _:
                getattr(opened, what)(path)

    def _draw(self, data: st.DataObject) -> str:
        root = data.draw(st.sampled_from(ROOTS))
        depth = data.draw(st.integers(1, 3))
        return "/".join(["resources", root, *(data.draw(NAMES) for _ in range(depth))])

    # -- what goes on by itself -------------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 12))
    def moves_go_on(self, steps: int) -> None:
        self.opened.step(steps)

    @rule()
    def contents_are_settled(self) -> None:
        self.opened.settle()

    @rule()
    def the_store_is_closed_and_opened(self) -> None:
        self.opened.close()
        self.opened.open()
        self._listen()

    @rule()
    def the_daemon_is_killed(self) -> None:
        self.opened.crash()
        self.opened.open()
        self._listen()

    # -- what must hold ---------------------------------------------------------------------------------------------

    @rule()
    def the_tree_is_the_disks(self) -> None:
        opened = self.opened
        self._come_to_rest()
        self._walk()
        opened.settle()
        seen = self._walk()
        # The name of a guest has no file on this disk, its bytes are where another name of it is; a file that others
        # make in its place is not shown.
        guests = {path for path in seen if opened.root_of(path) != path.split("/", 2)[1]}
        shown = {path: what for path, what in seen.items() if path.count("/") > 1 and path not in guests}
        there = {f"resources/{root}/{path}": what for root in ROOTS for path, what in opened.on_disk(root).items()}
        assert shown == {path: what for path, what in there.items() if path not in guests}
        now: dict[bytes, Object] = {}
        for path in shown:
            id, thing = opened.stat(path).id, self._object(path)
            assert self.ids.setdefault(thing, id) == id, f"{path} has got another id"
            assert now.setdefault(id, thing) == thing, f"{path} has the id of something else"
            before = self.objects.get(id, thing)
            assert before == thing or before[0] != thing[0] or id in self.moved, f"{path} has the id of something gone"
            inode = opened.stat(path)
            if inode.current_hash:
                assert inode.current_hash == blake3(opened.read(path)).digest(), path
        self.objects |= now

    def _come_to_rest(self) -> None:
        """Let moves end; what others have put in their way is taken away."""
        for _ in range(20):
            self._walk()
            try:
                self.opened.rest()
            except AssertionError:
                for move in self.opened.store.index.moves(open_only=True):
                    _, root, *rest = os.fsdecode(move.path).split("/")
                    if "in the way" in move.reason:
                        other = self.others[root]
                        for path in other.paths():
                            if os.path.lexists(path) and path.name in rest:
                                other.do("take_out", path, path, b"")
                continue
            return
        raise AssertionError([(move.path, move.reason) for move in self.opened.store.index.moves(open_only=True)])

    def _walk(self) -> dict[str, str | bytes]:
        while True:
            with contextlib.suppress(Gone):  # something else has the name now: the kernel looks again, too
                return {path: what for path, (_, _, _, what) in self.opened.snapshot().items()}

    def _object(self, path: str) -> Object:
        number = self.opened.find(path)
        backing = self.opened.store.inode(number).backing
        assert backing is not None, path
        _, root, rest = path.split("/", 2)
        status = os.lstat(self.opened.disks[root] / rest)
        assert status.st_ino == backing.st_ino, path
        return root, backing.st_ino, backing.btime_ns

    @invariant()
    def index_is_sound(self) -> None:
        if hasattr(self, "opened"):
            self.opened.check()


@pytest.fixture(scope="module", params=["memory", "disks"])
def devices(request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    if request.param == "disks":
        if not (can_loop("ext4") and can_loop("xfs")):
            pytest.skip("loop disks need root")
        with two_disks(400) as pair, by_hand():
            yield pair
    else:
        with two_devices() as folders, by_hand():
            yield folders


def run(devices: tuple[Path, Path], **wanted: Any) -> None:
    class Machine(Meddled):
        pass

    Machine.near, Machine.far = devices
    run_state_machine_as_test(
        Machine, settings=settings(deadline=None, suppress_health_check=list(HealthCheck), **wanted)
    )


@pytest.mark.timeout(300)
def test_whatever_others_do_the_tree_is_what_lies_on_the_disks(devices: tuple[Path, Path]) -> None:
    run(devices, max_examples=40, stateful_step_count=30, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_tree_is_what_lies_on_the_disks_over_many_more_histories(devices: tuple[Path, Path]) -> None:
    run(devices, max_examples=1000, stateful_step_count=50)
