"""The whole store against a dictionary: whatever is done in whatever order, it shows what the dictionary says.

rules: every use case of the tree, steps of the moves in between, copies added and given up, roots emptied, unmount and
mount, crash and recovery; one root asks for two copies, and replicas on another are preferred
after each rule: names, contents, modes and links as in the model; the index's invariants; nothing seems changed outside
at rest: everything at home on its own disk under its own path, and nothing else on any disk
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fusestore.errors import (
    AlreadyExists,
    CrossesRoots,
    InUse,
    InvalidRequest,
    IsADirectory,
    LastCopy,
    NotADirectory,
    NotEmpty,
    NotFound,
    RootDrained,
    RootOffline,
)
from fusestore.model import Cause, InodeNo, Outside
from fusestore.service import replicating
from fusestore.service.renaming import EXCHANGE, NOREPLACE
from tests.support.byhand import by_hand
from tests.support.opened import Opened, two_devices
from tests.support.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusestore.model import Event

TOPS: Final = ("uploads", "resources/hot", "resources/warm", "resources/cold")
ROOTS: Final = st.sampled_from(["hot", "warm", "cold"])
NAMES: Final = st.sampled_from(["a", "b", "c"])  # few, so that names are taken, freed and taken again
CONTENTS: Final = st.binary(max_size=6)


class Thing:
    """An inode as the model has it."""

    def __init__(self, kind: str, number: InodeNo, mode: int, content: bytes = b"") -> None:
        self.kind = kind  # "file", "directory" or "symlink"
        self.number = number
        self.mode = mode
        self.content = content  # or the target
        self.id = b""


class Tree(RuleBasedStateMachine):
    """See the module."""

    near: Path
    far: Path
    outside: Outside

    @initialize()
    def found(self) -> None:
        self.names: dict[str, Thing] = {}
        self.open: dict[int, tuple[Thing, bool]] = {}
        self.events: list[Event] = []
        self.opened = Opened(self.near, self.far, outside=self.outside, copies={"warm": 2})
        self._listen()
        self.replay = Replay({path.encode(): self.opened.find(path) for path in ("resources", *TOPS)})

    def _listen(self) -> None:
        self.opened.store.index.on_events = self.events.extend
        self.opened.store.preference = (replicating.named(self.opened.store, "cold").number,)

    def teardown(self) -> None:
        if hasattr(self, "opened"):
            try:
                if sys.exc_info()[0] is not None:
                    return  # the history is broken already; the end of it would only hide where
                self.everything_comes_to_rest()
                self.the_store_is_closed_and_opened()
                self.tree_is_as_the_model_says()
                self.everything_comes_to_rest()
            finally:
                with contextlib.suppress(Exception):
                    self.opened.close()
                self.opened.remove()

    # -- drawing from the model's own tree --------------------------------------------------------------------------

    def directories(self) -> list[str]:
        return [*TOPS, *(path for path, thing in self.names.items() if thing.kind == "directory")]

    def paths(self, *kinds: str) -> list[str]:
        return [path for path, thing in self.names.items() if thing.kind in kinds]

    def new_path(self, data: st.DataObject, directories: list[str] | None = None) -> str:
        return f"{data.draw(st.sampled_from(directories or self.directories()))}/{data.draw(NAMES)}"

    def some(self, data: st.DataObject, *kinds: str) -> str | None:
        paths = self.paths(*kinds)
        return data.draw(st.sampled_from(paths)) if paths else None

    def below(self, path: str) -> list[str]:
        return [name for name in self.names if name.startswith(path + "/")]

    def twins(self, thing: Thing) -> list[str]:
        return [path for path, other in self.names.items() if other is thing]

    # -- names ------------------------------------------------------------------------------------------------------

    def add(self, path: str, kind: str, number: InodeNo, mode: int, content: bytes = b"") -> None:
        thing = self.names[path] = Thing(kind, number, mode, content)
        thing.id = self.opened.stat(path).id

    @rule(data=st.data(), content=CONTENTS, keep_open=st.booleans())
    def create(self, data: st.DataObject, content: bytes, keep_open: bool) -> None:
        path = self.new_path(data)
        if path in self.names:
            with pytest.raises(AlreadyExists):
                self.opened.create(path)
            return
        fh = self.opened.create(path)
        self.add(path, "file", self.opened.handles[fh], 0o644, content)
        if content:
            self.opened.write_at(fh, content)
        if keep_open:
            self.open[fh] = (self.names[path], True)
        else:
            self.opened.release(fh)

    @rule(data=st.data())
    def mkdir(self, data: st.DataObject) -> None:
        path = self.new_path(data)
        if path in self.names:
            with pytest.raises(AlreadyExists):
                self.opened.mkdir(path)
        else:
            self.add(path, "directory", self.opened.mkdir(path), 0o755)

    @rule(data=st.data())
    def symlink(self, data: st.DataObject) -> None:
        path = self.new_path(data)
        if path not in self.names:
            self.add(path, "symlink", self.opened.symlink(path, "some/where"), 0o777, b"some/where")

    @rule(data=st.data())
    def link(self, data: st.DataObject) -> None:
        old, new = self.some(data, "file", "symlink"), self.new_path(data)
        if old is None:
            return
        if new in self.names:
            with pytest.raises(AlreadyExists):
                self.opened.link(old, new)
            return
        roots = {top_of(path) for path in self.twins(self.names[old])}
        try:
            self.opened.link(old, new)
        except CrossesRoots:
            assert roots != {top_of(new)}
        else:
            assert top_of(new) in roots
            self.names[new] = self.names[old]

    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        path = self.some(data, "file", "symlink")
        if path is not None:
            self.opened.unlink(path)
            del self.names[path]

    @rule(data=st.data())
    def rmdir(self, data: st.DataObject) -> None:
        path = self.some(data, "directory")
        if path is None:
            return
        if self.below(path):
            with pytest.raises(NotEmpty):
                self.opened.rmdir(path)
        else:
            self.opened.rmdir(path)
            del self.names[path]

    @rule(data=st.data(), flags=st.sampled_from([0, 0, 0, NOREPLACE]))
    def rename(self, data: st.DataObject, flags: int) -> None:
        old = self.some(data, "file", "symlink", "directory")
        if old is None:
            return
        new = self.new_path(
            data, [each for each in self.directories() if each != old and not each.startswith(old + "/")]
        )
        source, target = self.names[old], self.names.get(new)
        refusal = self._refusal(old, new, flags)
        if refusal is not None:
            with pytest.raises(refusal):
                self.opened.rename(old, new, flags)
            return
        self.opened.rename(old, new, flags)
        if target is not source:
            self._carry(old, new)

    def _refusal(self, old: str, new: str, flags: int) -> type[Exception] | None:
        source, target = self.names[old], self.names.get(new)
        if target is None:
            return None
        if flags & NOREPLACE:
            return AlreadyExists
        if target.kind == "directory" and source.kind != "directory":
            return IsADirectory
        if source.kind == "directory" and target.kind != "directory":
            return NotADirectory
        return NotEmpty if target is not source and self.below(new) else None

    def _carry(self, old: str, new: str) -> None:
        carried = {new + path[len(old) :]: self.names.pop(path) for path in [old, *self.below(old)]}
        self.names.pop(new, None)
        self.names |= carried

    @rule(data=st.data())
    def exchange(self, data: st.DataObject) -> None:
        everything = ("file", "symlink", "directory")
        one, two = self.some(data, *everything), self.some(data, *everything)
        if one is None or two is None or one == two or two.startswith(one + "/") or one.startswith(two + "/"):
            return
        at_home = all(self.opened.store.placement.is_home(self.names[path].number) for path in (one, two))
        at_rest = not self.opened.store.index.has_open_moves() and top_of(one) == top_of(two) and at_home
        single = len(self.twins(self.names[one])) == len(self.twins(self.names[two])) == 1
        try:
            self.opened.rename(one, two, EXCHANGE)
        except InvalidRequest:
            assert not (at_rest and single)
            return
        first = {two + path[len(one) :]: self.names.pop(path) for path in [one, *self.below(one)]}
        second = {one + path[len(two) :]: self.names.pop(path) for path in [two, *self.below(two)]}
        self.names |= first | second

    # -- content and attributes -------------------------------------------------------------------------------------

    @rule(data=st.data(), write=st.booleans())
    def open_file(self, data: st.DataObject, write: bool) -> None:
        path = self.some(data, "file")
        if path is not None:
            self.open[self.opened.open_file(path, write=write)] = (self.names[path], write)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), content=CONTENTS, offset=st.integers(0, 4))
    def write(self, data: st.DataObject, content: bytes, offset: int) -> None:
        fh = data.draw(st.sampled_from(sorted(self.open)))
        thing, write = self.open[fh]
        if write and content:
            self.opened.write_at(fh, content, offset)
            before = thing.content.ljust(offset, b"\0")
            thing.content = before[:offset] + content + before[offset + len(content) :]

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        fh = data.draw(st.sampled_from(sorted(self.open)))
        del self.open[fh]
        self.opened.release(fh)

    @rule(data=st.data(), size=st.integers(0, 8))
    def truncate(self, data: st.DataObject, size: int) -> None:
        path = self.some(data, "file")
        if path is not None:
            self.opened.set(path, size=size)
            self.names[path].content = self.names[path].content[:size].ljust(size, b"\0")

    @rule(data=st.data(), mode=st.sampled_from([0o600, 0o644, 0o751, 0o755]))
    def chmod(self, data: st.DataObject, mode: int) -> None:
        path = self.some(data, "file", "directory")
        if path is not None:
            mode |= 0o700 if self.names[path].kind == "directory" else 0
            self.opened.set(path, mode=mode)
            self.names[path].mode = mode

    # -- copies -----------------------------------------------------------------------------------------------------

    @rule(data=st.data(), root=ROOTS)
    def replicate(self, data: st.DataObject, root: str) -> None:
        path = self.some(data, "file", "file", "directory")
        if path is not None:
            with contextlib.suppress(RootDrained, InvalidRequest):
                self.opened.replicate(path, root)

    @rule(data=st.data(), root=ROOTS)
    def drop(self, data: st.DataObject, root: str) -> None:
        path = self.some(data, "file", "file", "directory")
        if path is not None:
            with contextlib.suppress(LastCopy, InUse, NotFound):
                self.opened.drop(path, root)

    @rule(root=ROOTS)
    def a_root_is_to_be_empty(self, root: str) -> None:
        self.no_root_is_to_be_empty()
        self.opened.drain(root)

    @rule()
    def no_root_is_to_be_empty(self) -> None:
        for number in list(self.opened.store.drains):
            self.opened.stop_draining(self.opened.store.roots[number].name)

    @rule()
    def files_leave(self) -> None:
        opened = self.opened
        opened.empty()
        for number, drain in opened.store.drains.items():
            found = opened.on_disk(opened.store.roots[number].name).items()
            files = [path for path, what in found if isinstance(what, bytes) and "/incoming/" not in path]
            assert not drain.finished_ns or files == []

    @rule(root=ROOTS, steps=st.integers(0, 12))
    def a_root_is_away_for_a_while(self, root: str, steps: int) -> None:
        opened = self.opened
        driver = next(each for each in opened.store.roots.values() if each.name == root)
        driver.online = False
        opened.store.places.forget_root(driver)
        self.names_are_as_the_model_says()
        for path, thing in self.names.items():
            if thing.kind == "file":
                elsewhere = opened.root_of(path) != root or "current" in opened.replicas(path).values()
                try:
                    assert opened.read(path) == thing.content, path
                except RootOffline:
                    assert not elsewhere, path
        opened.step(steps)
        driver.online = True

    # -- what goes on by itself -------------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 12))
    def moves_go_on(self, steps: int) -> None:
        self.opened.step(steps)

    @rule()
    def replicas_are_made(self) -> None:
        self.opened.make_replicas()

    @rule()
    def contents_are_settled(self) -> None:
        self.opened.settle()

    @rule()
    def everything_comes_to_rest(self) -> None:
        for fh in [fh for fh, (_, write) in self.open.items() if write]:
            del self.open[fh]
            self.opened.release(fh)
        self.no_root_is_to_be_empty()
        self.opened.rest()
        self.opened.destroy_left()
        self.opened.assert_at_home()
        self.replay.take(self.events)
        self.events.clear()
        ours = {path.decode(): number for path, number in self.replay.paths().items()}
        for path in ("resources", *TOPS):
            del ours[path]
        assert ours == {path: thing.number for path, thing in self.names.items()}

    @rule()
    def the_store_is_closed_and_opened(self) -> None:
        self.open.clear()
        self.opened.close()
        self.opened.open()
        self._listen()

    @rule()
    def the_daemon_is_killed(self) -> None:
        self.open.clear()
        self.opened.crash()
        self.opened.open()
        self._listen()

    # -- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def tree_is_as_the_model_says(self) -> None:
        if not hasattr(self, "opened"):
            return
        opened = self.opened
        self.names_are_as_the_model_says()
        for path, thing in self.names.items():
            inode = opened.stat(path)
            assert (inode.number, inode.id) == (thing.number, thing.id), path
            assert inode.mode & 0o7777 == thing.mode, path
            if thing.kind == "file":
                assert opened.read(path) == thing.content, path
                assert inode.size == len(thing.content), path
            if thing.kind == "symlink":
                assert opened.readlink(path).encode() == thing.content, path
            if thing.kind != "directory":
                assert inode.nlink == len(self.twins(thing)), path
        for fh, (thing, _) in self.open.items():
            assert opened.read_at(fh) == thing.content

    def names_are_as_the_model_says(self) -> None:
        for directory in self.directories():
            mine = {path.rpartition("/")[2] for path in self.names if path.rpartition("/")[0] == directory}
            assert set(self.opened.names(directory)) == mine, directory

    @invariant()
    def index_is_sound(self) -> None:
        if not hasattr(self, "opened"):
            return
        self.opened.check()
        assert [event for event in self.events if event.cause in {Cause.ADOPT, Cause.OUTSIDE}] == []


def top_of(path: str) -> str:
    """The directory in the mount that shows the root of `path`."""
    return next(top for top in TOPS if path.startswith(top + "/"))


@pytest.fixture(scope="module")
def devices() -> Iterator[tuple[Path, Path]]:
    with two_devices() as folders, by_hand():
        yield folders


def run(devices: tuple[Path, Path], outside: Outside, **wanted: Any) -> None:
    class Machine(Tree):
        pass

    Machine.near, Machine.far = devices
    Machine.outside = outside
    run_state_machine_as_test(
        Machine,
        settings=settings(deadline=None, suppress_health_check=list(HealthCheck), **wanted),
    )


@pytest.mark.parametrize("outside", [Outside.NONE, Outside.WRITERS])
@pytest.mark.timeout(300)
def test_the_store_is_a_dictionary_that_survives_anything(devices: tuple[Path, Path], outside: Outside) -> None:
    run(devices, outside, max_examples=60, stateful_step_count=40, derandomize=True)


@pytest.mark.long
@pytest.mark.parametrize("outside", [Outside.NONE, Outside.WRITERS])
@pytest.mark.timeout(3600)
def test_the_store_is_a_dictionary_over_many_more_histories(devices: tuple[Path, Path], outside: Outside) -> None:
    run(devices, outside, max_examples=2000, stateful_step_count=60)
