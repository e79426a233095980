"""A program that changes a mount without pause and logs each call before and after; and the model that judges it.

The log lies outside the mount. A call whose end is logged was acknowledged; of the one that was under way when the
daemon died, either outcome is right. `Model` replays the log, so that what must be there is known to the byte.

As a program: `python -m tests.support.workload MOUNT LOG SEED NAME`; ends with 0 when the mount dies under it.
"""

from __future__ import annotations

import errno
import json
import os
import random
import stat
import sys
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

PLACES: Final = ("uploads", "resources/main", "resources/hot", "resources/cold")
MOUNT_DIED: Final = {errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED}
Operation = dict[str, Any]


class Thing(Struct, eq=False):
    """One object: what every name that leads to it must show."""

    number: int
    kind: str
    content: bytearray = field(default_factory=bytearray)
    target: str = ""
    mode: int = 0
    note: str = ""


def data_of(operation: Operation) -> bytes:
    return random.Random(operation["seed"]).randbytes(operation["length"])


class Model:
    """The tree as the acknowledged calls left it; paths are relative to the mountpoint."""

    def __init__(self) -> None:
        self.names: dict[str, Thing] = {}
        self.things: dict[int, Thing] = {}

    def apply(self, operation: Operation) -> None:
        path = operation.get("path", "")
        match operation["do"]:
            case "mkdir" | "create" | "symlink":
                thing = Thing(operation["thing"], operation["do"], target=operation.get("target", ""))
                thing.mode = operation.get("mode", 0)
                self.things[thing.number] = self.names[path] = thing
            case "write":
                content, start, data = self.things[operation["thing"]].content, operation["start"], data_of(operation)
                content.extend(bytes(max(0, start - len(content))))
                content[start : start + len(data)] = data
            case "truncate":
                content = self.things[operation["thing"]].content
                del content[operation["length"] :]
            case "unlink" | "rmdir":
                del self.names[path]
            case "link":
                self.names[operation["new"]] = self.names[path]
            case "rename":
                self._rename(path, operation["new"])
            case "chmod":
                self.names[path].mode = operation["mode"]
            case "note":
                self.names[path].note = operation["value"]

    def _rename(self, old: str, new: str) -> None:
        if self.names.get(new) is self.names[old]:
            return  # two hard links to one object: rename(2) does nothing
        moved = [name for name in self.names if name == old or name.startswith(old + "/")]
        for name in moved:
            self.names[new + name[len(old) :]] = self.names.pop(name)

    def count(self, thing: Thing) -> int:
        return sum(1 for other in self.names.values() if other is thing)

    def below(self, path: str) -> list[str]:
        return [name for name in self.names if name.startswith(path + "/")]


class Log:
    """What a workload said: the finished calls in order, and the one that was under way."""

    def __init__(self, path: Path) -> None:
        self.done: list[Operation] = []
        self.open: Operation | None = None
        for line in path.read_bytes().splitlines():
            entry = json.loads(line)
            if "do" in entry:
                self.open = entry
            elif self.open is not None:
                self.done.append(self.open)
                self.open = None


def judge(mount: Path, log: Log, top: str) -> tuple[Model, list[str]]:
    """Compare what the mount shows below the workload's own directories with what it must show.

    Returns:
        The model that fits, and the differences (none when the mount is right).
    """
    before, after = Model(), Model()
    for operation in log.done:
        before.apply(operation)
        after.apply(operation)
    loose = -1
    if log.open is not None:
        after.apply(log.open)
        loose = log.open.get("thing", -1) if log.open["do"] in ("write", "truncate") else -1
    one = compare(mount, before, top, after.things.get(loose))
    if not one or log.open is None:
        return before, one
    two = compare(mount, after, top, before.things.get(loose))
    return (after, two) if len(two) < len(one) else (before, one)


def compare(mount: Path, model: Model, top: str, other: Thing | None = None) -> list[str]:
    """Name every difference; the content of the thing that `other` is a second version of may be between both."""
    problems = []
    seen: set[str] = set()
    for place in PLACES:
        for directory, names, files in os.walk(mount / place / top):
            here = os.path.relpath(directory, mount)
            seen.update([here, *(os.path.join(here, name) for name in names + files)])
    problems += [f"{path}: not there" for path in sorted(model.names.keys() - seen)]
    problems += [f"{path}: came back, or was never made" for path in sorted(seen - model.names.keys())]
    for path in sorted(seen & model.names.keys()):
        thing = model.names[path]
        problems += [f"{path}: {problem}" for problem in _faults(mount / path, thing, model.count(thing), other)]
    return problems


def _faults(path: Path, thing: Thing, links: int, other: Thing | None) -> list[str]:
    status = os.lstat(path)
    if thing.kind == "symlink":
        return [] if stat.S_ISLNK(status.st_mode) and os.readlink(path) == thing.target else ["not that symlink"]
    if thing.kind == "mkdir":
        return [] if stat.S_ISDIR(status.st_mode) else ["not a directory"]
    found = []
    if stat.S_IMODE(status.st_mode) != thing.mode:
        found.append(f"mode is {stat.S_IMODE(status.st_mode):o}, not {thing.mode:o}")
    if status.st_nlink != links:
        found.append(f"has {status.st_nlink} links, not {links}")
    if thing.note and os.getxattr(path, "user.note").decode() != thing.note:
        found.append("its note is another")
    actual = path.read_bytes()
    versions = [bytes(thing.content)]
    if other is not None and other.number == thing.number:
        versions.append(bytes(other.content))
    if not any(actual == version for version in versions) and not (len(versions) == 2 and _between(actual, *versions)):
        first = next((i for i, (x, y) in enumerate(zip(actual, versions[0], strict=False)) if x != y), -1)
        found.append(f"{len(actual)} bytes, not the {len(versions[0])} acknowledged (first difference at {first})")
    return found


def _between(actual: bytes, one: bytes, two: bytes) -> bool:
    """Whether each byte is that of one version or the other, as after a write that was cut off."""
    if not min(len(one), len(two)) <= len(actual) <= max(len(one), len(two)):
        return False
    return all(byte in (one[i : i + 1] + two[i : i + 1]) for i, byte in enumerate(actual))


class Workload:
    """Chooses calls that must succeed by the model, and carries them out."""

    def __init__(self, mount: Path, log: Path, seed: int, top: str) -> None:
        self.mount, self.top = mount, top
        self.log = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self.chance = random.Random(seed)
        self.model = Model()
        self.handles: dict[int, int] = {}
        self.count = 0

    def run(self) -> None:
        for place in PLACES:
            self.call({"do": "mkdir", "path": f"{place}/{self.top}", "thing": self.number()})
        while True:
            self.step()

    def number(self) -> int:
        self.count += 1
        return self.count

    def call(self, operation: Operation) -> None:
        os.write(self.log, json.dumps(operation).encode() + b"\n")
        self.act(operation)
        os.write(self.log, b'{"ok": 1}\n')
        self.model.apply(operation)

    def act(self, operation: Operation) -> None:  # one line a kind of call
        path = self.mount / operation.get("path", "")
        match operation["do"]:
            case "mkdir":
                path.mkdir()
            case "create":
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, operation["mode"])
                self.handles[operation["thing"]] = handle
            case "write":
                data = data_of(operation)
                if os.pwrite(self.handles[operation["thing"]], data, operation["start"]) < len(data):
                    # The kernel sends a large write in pieces: some were taken, the rest met a dead daemon.
                    raise OSError(errno.ENOTCONN, "the daemon ended in the middle of a write")
            case "truncate":
                os.ftruncate(self.handles[operation["thing"]], operation["length"])
            case "close":
                os.close(self.handles.pop(operation["thing"]))
            case "symlink":
                path.symlink_to(operation["target"])
            case "unlink":
                path.unlink()
            case "rmdir":
                path.rmdir()
            case "link":
                os.link(path, self.mount / operation["new"])
            case "rename":
                os.rename(path, self.mount / operation["new"])
            case "chmod":
                os.chmod(path, operation["mode"])
            case "note":
                os.setxattr(path, "user.note", operation["value"].encode())
            case other:
                raise AssertionError(other)

    def pick(self, kind: str) -> str | None:
        tops = {f"{place}/{self.top}" for place in PLACES}
        found = [name for name, thing in self.model.names.items() if thing.kind == kind and name not in tops]
        return self.chance.choice(found) if found else None

    def fresh(self, place: str | None = None) -> str:
        """A new name in a directory of the tree, on the given place if there is one."""
        directories = [
            name for name, thing in self.model.names.items() if thing.kind == "mkdir" and name.count("/") < 6
        ]
        if place is not None:
            directories = [name for name in directories if name.startswith(place + "/")]
        return f"{self.chance.choice(directories)}/n{self.number()}"

    def step(self) -> None:  # noqa: C901, PLR0912  # one case a kind of call
        chance, model = self.chance, self.model
        size = sum(len(thing.content) for thing in {id(thing): thing for thing in model.names.values()}.values())
        do = chance.choices(
            ["create", "write", "truncate", "close", "unlink", "rename", "replace", "tree", "mkdir", "rmdir", "symlink",
             "link", "chmod", "note"],
            [12, 22, 2, 8, 6 if size < 60 << 20 else 40, 12, 5, 4, 5, 2, 2, 3, 3, 3],
        )[0]  # fmt: skip
        file, held = self.pick("create"), list(self.handles)
        match do:
            case "create" if len(held) < 12:
                self.call(
                    {"do": do, "path": self.fresh(), "thing": self.number(), "mode": chance.choice((0o600, 0o640))}
                )
            case "write" if held:
                thing = chance.choice(held)
                length = chance.choice((10, 4096, 70_000, 300_000, 4 << 20 if size < 60 << 20 else 10))
                end = len(model.things[thing].content)
                start = end if chance.random() < 0.7 else chance.randrange(end + 5000)
                self.call(
                    {"do": do, "thing": thing, "start": start, "length": length, "seed": chance.randrange(1 << 30)}
                )
            case "truncate" if held:
                thing = chance.choice(held)
                self.call({"do": do, "thing": thing, "length": chance.randrange(len(model.things[thing].content) + 1)})
            case "close" if held:
                self.call({"do": do, "thing": chance.choice(held)})
            case "unlink" if file:
                self.call({"do": do, "path": chance.choice([file, self.pick("symlink") or file])})
            case "rename" if file:
                self.call({"do": "rename", "path": file, "new": self.fresh()})
            case "replace" if file and (victim := self.pick("create")) and victim != file:
                self.call({"do": "rename", "path": file, "new": victim})
            case "tree" if directory := self.pick("mkdir"):
                target = self.fresh(chance.choice(PLACES))
                if not target.startswith(directory + "/"):
                    self.call({"do": "rename", "path": directory, "new": target})
            case "mkdir":
                self.call({"do": do, "path": self.fresh(), "thing": self.number()})
            case "rmdir" if (directory := self.pick("mkdir")) and not model.below(directory):
                self.call({"do": do, "path": directory})
            case "symlink":
                self.call({"do": do, "path": self.fresh(), "thing": self.number(), "target": f"to/{self.count}"})
            case "link" if file:
                place = next(p for p in PLACES if file.startswith(p + "/"))
                if not self.straddles(file, place):
                    self.call({"do": do, "path": file, "new": self.fresh(place)})
            case "chmod" if file:
                self.call({"do": do, "path": file, "mode": chance.choice((0o600, 0o644, 0o755))})
            case "note" if file:
                self.call({"do": do, "path": file, "value": f"note {self.number()}"})

    def straddles(self, path: str, place: str) -> bool:
        """Whether the file has names on two roots, where a further link is EXDEV or not by its first name."""
        thing = self.model.names[path]
        names = [name for name, other in self.model.names.items() if other is thing]
        return not all(name.startswith(place + "/") for name in names)


def main() -> int:
    mount, log, seed, top = sys.argv[1:]
    try:
        Workload(Path(mount), Path(log), int(seed), top).run()
    except OSError as trouble:
        if trouble.errno in MOUNT_DIED:
            os._exit(0)  # open handles of a dead mount would only complain
        raise
    return 1


if __name__ == "__main__":
    sys.exit(main())
