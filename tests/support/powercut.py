"""Power cuts on one machine: two disks in one file, whose reflink copy is what a cut leaves at that instant.

A copy of one file is atomic; copies of two would be of different times. What the file systems had not sent to their
disks is not in it. Needs root and loop devices. As a program, run in a mount namespace of its own whose `/dev/shm`
is as empty as after a boot:

    python -m tests.support.powercut IMAGE BASE MEMORY        mounts the cut where the disks were, and judges it
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import Struct, field
from msgspec import json as msgjson

from tests.support.daemon import PROJECT, Mounted, Root, fusestore
from tests.support.disks import MAKE, run, unmount

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

PART_MB: Final = 400
OUTER_MB: Final = 8000
CROWD: Final = 300  # files at a time
PLACES: Final = ("uploads", "resources/main", "resources/cold")


# -- disks ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _attached(image: Path, base: Path, *, make: bool = False) -> Iterator[None]:
    """The two disks of an image, mounted at `base/a` and `base/b`; `make`: with new file systems."""
    with contextlib.ExitStack() as undo:
        for number, name in enumerate(("a", "b")):
            offset, size = number * PART_MB << 20, PART_MB << 20
            loop = run("losetup", "--find", "--show", f"--offset={offset}", f"--sizelimit={size}", str(image))
            undo.callback(run, "losetup", "--detach", loop)
            if make:
                run(*MAKE["ext4" if name == "a" else "xfs"], loop)
            mountpoint = base / name
            mountpoint.mkdir(exist_ok=True)
            run("mount", "-o", "nouuid" if name == "b" else "defaults", loop, str(mountpoint))
            undo.callback(unmount, mountpoint)
        yield


def subject(base: Path) -> Mounted:
    """The store on the first disk, with a root on the second."""
    return Mounted(base / "a", {"cold": Root(base / "b" / "cold")})


class Rig:
    """Two disks under load, and cuts of them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._outer = base / "outer"
        self.image = self._outer / "disks"

    @contextlib.contextmanager
    def running(self) -> Iterator[Mounted]:
        outer = self.base / "outer-image"
        with outer.open("wb") as file:
            file.truncate(OUTER_MB << 20)
        run(*MAKE["xfs"], "-m", "reflink=1", str(outer))
        self._outer.mkdir()
        run("mount", "-o", "loop", str(outer), str(self._outer))
        try:
            with self.image.open("wb") as file:
                file.truncate(2 * PART_MB << 20)
            with _attached(self.image, self.base, make=True):
                mounted = subject(self.base)
                try:
                    mounted.build().mount()
                    yield mounted
                    mounted.umount()
                finally:
                    mounted.discard()
        finally:
            unmount(self._outer)

    def cut(self) -> Path:
        """What would be on the disks if the power went now."""
        copy = self._outer / "cut"
        run("cp", "--reflink=always", str(self.image), str(copy))
        return copy


def judge_in_namespace(image: Path, base: Path, memory: Path) -> None:
    """Mount a cut as after a boot and compare it with what is remembered; an AssertionError carries what is wrong."""
    hidden = " ".join(f"'{base / name}'" for name in ("a/mnt", "b", "a"))  # what still runs outside is not there
    script = f'mount -t tmpfs none /dev/shm && umount -l {hidden} && exec "$@"'
    program = (sys.executable, "-m", "tests.support.powercut", str(image), str(base), str(memory))
    command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *program)
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- what was promised ------------------------------------------------------------------------------------------------


def content_of(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


class File(Struct):
    """What is promised of one file; its name is unique, its bytes follow from it.

    `where` holds the paths at one of which it must be, with all its bytes; "" stands for nowhere. `certain` says what
    has promised that; nothing has when it is empty.
    """

    size: int
    where: list[str]
    certain: str = ""
    renamed: bool = False


class Memory(Struct):
    """All that was acknowledged and announced before the cut."""

    files: dict[str, File] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    inodes: list[int] = field(default_factory=list)


class Load:
    """A program that works on the mount without a pause, and remembers what it may rely on."""

    def __init__(self, mounted: Mounted, seed: int) -> None:
        self._mounted = mounted
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._memory = Memory()
        self._stop = threading.Event()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.error is not None and error is None:
            raise self.error

    def remembered(self) -> Memory:
        """A copy as of now."""
        with self._lock:
            return msgjson.decode(msgjson.encode(self._memory), type=Memory)

    def hear(self, messages: list[dict[str, Any]]) -> None:
        """What a watcher has got so far: what is announced as finalized or moved is promised."""
        with self._lock:
            for message in messages[len(self._memory.events) :]:
                self._memory.events.append(message)
                kind, path = message["data"]["kind"], message["data"]["path"]
                file = self._memory.files.get(os.path.basename(path))
                if file is None or kind not in ("finalized", "moved") or "" in file.where:
                    continue
                file.certain = kind
                if kind == "moved" and file.where[-1] == path:  # it is renamed only once
                    file.where = [path]

    def _work(self) -> None:
        try:
            number = 0
            while not self._stop.is_set():
                number += 1
                self._create(f"file-{number}")
                if number % 3 == 0:
                    self._rename()
                if number % 5 == 0 or number > CROWD:  # as many go as come, or the disks would fill
                    self._remove()
        except Exception as error:  # noqa: BLE001  # the test's thread raises it
            self.error = error

    def _create(self, name: str) -> None:
        path = f"{self._random.choice(PLACES)}/{name}"
        size = self._random.choice([1, 100, 5000, 300_000])
        with self._lock:
            self._memory.files[name] = File(size, ["", path])
        directory = os.open(self._mounted.mountpoint / os.path.dirname(path), os.O_RDONLY)
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=directory)
        try:
            os.write(fd, content_of(name, size))
            synced = self._random.random() < 0.7
            if synced:
                os.fsync(fd)
                os.fsync(directory)
            with self._lock:
                self._memory.inodes.append(os.fstat(fd).st_ino)
                self._memory.files[name].where = [path]
                self._memory.files[name].certain = "synced" if synced else ""
        finally:
            os.close(fd)
            os.close(directory)

    def _some(self) -> tuple[str, File] | None:
        with self._lock:
            known = self._memory.files.items()
            there = [(name, file) for name, file in known if len(file.where) == 1 and file.where[0]]
        return self._random.choice(there) if there else None

    def _rename(self) -> None:
        chosen = self._some()
        if chosen is None:
            return
        name, file = chosen
        old, new = file.where[0], f"{self._random.choice(PLACES)}/{name}"
        if old == new or file.renamed:
            return
        with self._lock:
            file.where = [old, new]
            file.renamed = True
        os.rename(self._mounted.mountpoint / old, self._mounted.mountpoint / new)
        if self._random.random() < 0.5:
            self._sync_directory(os.path.dirname(new))
            with self._lock:
                file.where = [new]

    def _remove(self) -> None:
        chosen = self._some()
        if chosen is None:
            return
        _, file = chosen
        path = file.where[0]
        with self._lock:
            file.where = [path, ""]
        os.unlink(self._mounted.mountpoint / path)
        self._sync_directory(os.path.dirname(path))
        with self._lock:
            file.where = [""]
            file.certain = "removed"

    def _sync_directory(self, path: str) -> None:
        fd = os.open(self._mounted.mountpoint / path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def allowed(before: Memory, after: Memory) -> Memory:
    """What a cut at some moment between two memories may show: promises of the first, unless they changed meanwhile."""
    for name, file in before.files.items():
        later = after.files[name]
        if later.where != file.where:
            file.where = list(dict.fromkeys((*file.where, *later.where)))
    known = [name for name in after.files if name not in before.files]
    before.files |= {name: File(after.files[name].size, ["", *after.files[name].where]) for name in known}
    return before


# -- the judge --------------------------------------------------------------------------------------------------------


def judge(base: Path, memory: Memory) -> list[str]:
    """Everything about a cut that breaks a promise."""
    mounted = subject(base)
    wrong: list[str] = []
    check = fusestore("check", mounted.store)
    if check.code != 0:
        wrong.append(f"check: {check.out}{check.err}")
    mounted.mount()
    try:
        wrong += _files(mounted, memory, "after the cut")
        mounted.wait()
        wrong += _files(mounted, memory, "when all is at rest")
        wrong += _numbers(mounted, memory)
        mounted.umount()
    finally:
        mounted.discard()
    check = fusestore("check", mounted.store)
    return wrong + ([f"check afterwards: {check.out}{check.err}"] if check.code != 0 else [])


def _files(mounted: Mounted, memory: Memory, when: str) -> list[str]:
    wrong = []
    for name, file in memory.files.items():
        found = [place for place in PLACES if os.path.lexists(mounted.mountpoint / place / name)]
        paths = [f"{place}/{name}" for place in found]
        if len(paths) > 1:
            wrong.append(f"{when}: {name} is there twice: {paths}")
        strays = [path for path in paths or [""] if path not in file.where]
        if file.certain or file.where == [""]:
            wrong += [f"{when}: {name} is at {path!r}, not one of {file.where} ({file.certain})" for path in strays]
        for path in paths:
            wrong += [f"{when}: {path}: {fault}" for fault in _content(mounted.mountpoint / path, name, file)]
    return wrong


def _content(path: Path, name: str, file: File) -> list[str]:
    wanted, found = content_of(name, file.size), path.read_bytes()
    if found == wanted:
        return []
    if file.certain:
        state = os.getxattr(path, "user.fusestore.state").decode()
        return [f"{len(found)} bytes, {state}; {len(wanted)} were promised ({file.certain})"]
    other = len(found) > len(wanted) or any(one not in (two, 0) for one, two in zip(found, wanted, strict=False))
    return ["bytes that are not its own"] if other else []


def _numbers(mounted: Mounted, memory: Memory) -> list[str]:
    """Nothing that was given out before is given out for something else."""
    wrong = []
    logged = {(event["epoch"], event["seq"]): event for event in mounted.events()}
    for message in memory.events:
        key, event = (message["epoch"], message["seq"]), message["data"]
        again = logged.get(key)
        if again is not None and (again["id"], again["kind"]) != (event["id"], event["kind"]):
            wrong.append(f"epoch and seq {key} are issued twice: {event}, {again}")
    for number in range(20):
        path = mounted.uploads / f"fresh-{number}"
        path.touch()
        if path.stat().st_ino in memory.inodes:
            wrong.append(f"inode number {path.stat().st_ino} is issued twice")
    return wrong


def main() -> None:
    image, base, remembered = map(Path, sys.argv[1:])
    memory = msgjson.decode(remembered.read_bytes(), type=Memory)
    with _attached(image, base):
        wrong = judge(base, memory)
    sys.stdout.write(json.dumps(wrong, indent=1))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
