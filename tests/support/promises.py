"""A program that works on a mount without a pause, and remembers what it may rely on, whenever the power goes.

Every file and directory has a name of its own for life, so what is found later is known by its name. What a call
promises while it runs is less than before and after: the memory says so before the call and again after it.
"""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import Struct, field
from msgspec import json as msgjson

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tests.support.daemon import Mounted

PLACES: Final = ("uploads", "resources/main", "resources/cold")
CROWD: Final = 300  # files at a time
CHUNK: Final = 512


def content_of(name: str, version: int, size: int) -> bytes:
    return random.Random(f"{name} {version}").randbytes(size)


class Entry(Struct):
    """What is promised of one name.

    Attributes:
        where: the directories in one of which it must be, a path or `@` and a directory's name; "" stands for nowhere.
        been: all the directories it was ever in.
        content: whose bytes it has: its own, or those of the file it is a hard link to.
        versions: the contents one of which it must have, whole unless `mixed`.
        certain: what has promised all that; nothing has when it is empty.
    """

    where: list[str]
    been: list[str]
    content: str
    is_dir: bool = False
    size: int = 0
    versions: list[int] = field(default_factory=lambda: [1])
    mixed: bool = False
    certain: str = ""
    linked: bool = False

    @property
    def is_settled(self) -> bool:
        return len(self.where) == 1 and self.where[0] != ""

    @property
    def may_be_gone(self) -> bool:
        return "" in self.where or not self.certain

    def faults(self, found: bytes) -> Iterator[str]:
        """What breaks the promise of its content."""
        wanted = [content_of(self.content, version, self.size) for version in self.versions]
        if found in wanted:
            return
        if self.certain and not self.mixed:
            yield f"{len(found)} bytes that are not the {self.size} of {self.versions} promised ({self.certain})"
        for start in range(0, len(found), CHUNK):
            piece = found[start : start + CHUNK]
            if any(piece) and not any(_is_from(piece, whole[start : start + CHUNK]) for whole in wanted):
                yield f"bytes at {start} that are not its own"
                return


def _is_from(piece: bytes, whole: bytes) -> bool:
    """Whether a piece is what was written there, but for its end, which may not have been written."""
    return len(piece) <= len(whole) and whole.startswith(piece.rstrip(b"\0"))


class Memory(Struct):
    """All that was acknowledged and announced before a cut."""

    entries: dict[str, Entry] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    inodes: list[int] = field(default_factory=list)
    lasting: int = 0  # so many of the events are older than what a cut may take of the log

    def places(self, directory: str) -> list[str]:
        """The paths that one of `Entry.where` may stand for."""
        if not directory.startswith("@"):
            return [directory]
        entry = self.entries[directory[1:]]
        return [f"{above}/{directory[1:]}" if above else "" for above in entry.where]

    def paths(self, name: str) -> list[str]:
        """Where an entry may be; "" for nowhere."""
        entry = self.entries[name]
        return [f"{place}/{name}" if place else "" for above in entry.where for place in self.places(above)]

    def path(self, name: str) -> str:
        (path,) = self.paths(name)
        return path


class Load:
    """The program, in a thread of its own."""

    def __init__(self, mounted: Mounted, seed: int) -> None:
        self._mounted = mounted
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._memory = Memory()
        self._stop = threading.Event()
        self._number = 0
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
                above, name = os.path.split(path)
                entry = self._memory.entries.get(name)
                if entry is None or kind not in ("finalized", "moved") or "" in entry.where:
                    continue
                entry.certain = entry.certain or kind
                if kind == "moved" and above in self._memory.places(entry.where[-1]):  # nowhere is it ever again
                    entry.where = entry.where[-1:]

    # -- work -------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self._number += 1
                self._one_round()
        except Exception as error:  # noqa: BLE001  # the test's thread raises it
            self.error = error

    def _one_round(self) -> None:
        number = self._number
        self._create(f"file-{number}")
        if number % 3 == 0:
            self._rename(is_dir=False)
        if number % 7 == 0:
            self._overwrite()
        if number % 11 == 0:
            self._replace(f"file-{number}-new")
        if number % 13 == 0:
            self._link(f"file-{number}-link")
        if number % 25 == 0:
            self._make_directory(f"dir-{number}")
        if number % 20 == 0:
            self._rename(is_dir=True)
        if number % 5 == 0 or number > CROWD:  # as many go as come, or the disks would fill
            self._remove()

    def _at(self, path: str) -> str:
        return os.path.join(self._mounted.mountpoint, path)

    def _likely(self, share: float) -> bool:
        return self._random.random() < share

    def _place(self) -> str:
        """Some directory that is certain to be there."""
        entries = self._memory.entries
        directories = [f"@{name}" for name, entry in entries.items() if entry.is_dir and entry.certain]
        if directories and self._likely(0.3):
            return self._random.choice(directories)
        return self._random.choice(PLACES)

    def _here(self, directory: str) -> str:
        """The present path of a directory: of two between which a rename may be taken back, the later."""
        return self._memory.places(directory)[-1]

    def _path(self, name: str) -> str:
        return f"{self._here(self._memory.entries[name].where[-1])}/{name}"

    def _some(self, *, is_dir: bool = False) -> str | None:
        entries = self._memory.entries.items()
        found = [name for name, entry in entries if entry.is_settled and entry.is_dir is is_dir]
        return self._random.choice(found) if found else None

    def _create(self, name: str, *, place: str | None = None, synced: bool | None = None) -> None:
        place = place or self._place()
        size = self._random.choice([1, 100, 5000, 300_000])
        with self._lock:
            entry = self._memory.entries[name] = Entry(["", place], [place], name, size=size)
        self._write(self._here(place), name, entry, os.O_CREAT | os.O_EXCL, synced=synced)

    def _write(self, directory: str, name: str, entry: Entry, flags: int, *, synced: bool | None) -> None:
        version = entry.versions[-1]
        parent = os.open(self._at(directory), os.O_RDONLY)
        fd = os.open(name, flags | os.O_WRONLY, 0o644, dir_fd=parent)
        try:
            os.write(fd, content_of(entry.content, version, entry.size))
            synced = self._likely(0.6) if synced is None else synced
            if synced:
                os.fsync(fd)
                os.fsync(parent)
            with self._lock:
                self._memory.inodes.append(os.fstat(fd).st_ino)
                entry.where = entry.where[-1:]
                if synced:
                    entry.certain, entry.versions, entry.mixed = "synced", [version], False
        finally:
            os.close(fd)
            os.close(parent)

    def _overwrite(self) -> None:
        name = self._some()
        if name is None or self._memory.entries[name].linked:
            return
        entry = self._memory.entries[name]
        with self._lock:
            entry.versions = [*entry.versions, entry.versions[-1] + 1]
            entry.mixed = True
        self._write(self._here(entry.where[-1]), name, entry, 0, synced=None)

    def _rename(self, *, is_dir: bool) -> None:
        name = self._some(is_dir=is_dir)
        if name is None:
            return
        entry = self._memory.entries[name]
        place = self._random.choice(PLACES) if is_dir else self._place()
        old = self._path(name)
        if place in entry.been or entry.linked:
            return
        with self._lock:
            entry.where = [*entry.where, place]
            entry.been.append(place)
        os.rename(self._at(old), self._at(f"{self._here(place)}/{name}"))
        if self._likely(0.5):
            self._sync_directory(self._here(place))
            with self._lock:
                entry.where = [place]

    def _replace(self, name: str) -> None:
        """Write a new content beside a file, or on another root, and rename it over the file."""
        chosen = self._some()
        old = self._memory.entries[chosen] if chosen else None
        if chosen is None or old is None or old.linked or old.mixed or not old.certain:
            return
        with self._lock:
            new = self._memory.entries[name] = Entry(["", place := self._place()], [place], chosen, size=old.size)
            new.versions = [max(old.versions) + 1]
        self._write(self._here(place), name, new, os.O_CREAT | os.O_EXCL, synced=True)
        with self._lock:
            new.where = [place, ""]
            old.versions = [*old.versions, new.versions[0]]
        os.rename(self._at(f"{self._here(place)}/{name}"), self._at(self._path(chosen)))
        if self._likely(0.5):
            self._sync_directory(self._here(old.where[-1]))
            with self._lock:
                old.versions = new.versions
                new.where, new.certain = [""], "renamed"

    def _link(self, name: str) -> None:
        chosen = self._some()
        if chosen is None or self._memory.entries[chosen].linked:
            return
        source = self._memory.entries[chosen]
        place = source.where[-1]
        with self._lock:
            source.linked = True
            entry = Entry(["", place], [place], source.content, size=source.size, linked=True)
            entry.versions, entry.mixed = source.versions, source.mixed
            self._memory.entries[name] = entry
        os.link(self._at(self._path(chosen)), self._at(f"{self._here(place)}/{name}"))
        if self._likely(0.7):
            self._sync_directory(self._here(place))
        else:
            return
        with self._lock:
            entry.where = [place]
            entry.certain = source.certain

    def _make_directory(self, name: str) -> None:
        place = self._random.choice(PLACES)
        with self._lock:
            entry = self._memory.entries[name] = Entry(["", place], [place], name, is_dir=True)
        os.mkdir(self._at(f"{place}/{name}"))
        self._sync_directory(place)
        with self._lock:
            entry.where, entry.certain = [place], "synced"
        for number in range(self._random.randrange(6)):
            self._create(f"{name}-file-{number}", place=f"@{name}")

    def _remove(self) -> None:
        name = self._some()
        if name is None:
            return
        entry = self._memory.entries[name]
        path = self._path(name)
        with self._lock:
            entry.where = [*entry.where, ""]
        os.unlink(self._at(path))
        self._sync_directory(os.path.dirname(path))
        with self._lock:
            entry.where, entry.certain = [""], "removed"

    def _sync_directory(self, path: str) -> None:
        fd = os.open(self._at(path), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def allowed(before: Memory, after: Memory) -> Memory:
    """What a cut at some moment between two memories may show: promises of the first, unless they changed meanwhile."""
    for name, entry in before.entries.items():
        later = after.entries[name]
        entry.where = list(dict.fromkeys((*entry.where, *later.where)))
        if entry.versions != later.versions:
            entry.versions = sorted({*entry.versions, *later.versions})
        entry.mixed = entry.mixed or later.mixed
    for name, entry in after.entries.items():
        if name not in before.entries:
            before.entries[name] = entry
            entry.where = list(dict.fromkeys(("", *entry.where)))
            entry.certain = ""
    return before
