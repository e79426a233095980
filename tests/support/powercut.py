"""Power cuts on one machine: a store on two disks with volatile caches, cut while programs work, and judged.

Needs root and loop devices. As a program, run in a mount namespace of its own whose `/dev/shm` is as empty as after a
boot:

    python -m tests.support.powercut IMAGES BASE MEMORY        mounts the cut where the disks were, and judges it
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import json as msgjson

from fusestore.client import Client
from tests.support.daemon import PROJECT, Mounted, Root, fusestore
from tests.support.disks import MAKE, run, unmount
from tests.support.promises import Memory
from tests.support.volatile import Power, volatile_disks

if TYPE_CHECKING:
    from collections.abc import Iterator

DISK_BYTES: Final = 400 << 20
OUTER_BYTES: Final = 8000 << 20
KINDS: Final = {"a": "ext4", "b": "xfs"}


@contextlib.contextmanager
def _attached(images: Path, base: Path, prefix: str = "", *, make: bool = False) -> Iterator[None]:
    """The two disks, mounted at `base/a` and `base/b`; `make`: with new file systems."""
    with contextlib.ExitStack() as undo:
        for name, kind in KINDS.items():
            loop = run("losetup", "--find", "--show", str(images / f"{prefix}{name}"))
            undo.callback(run, "losetup", "--detach", loop)
            if make:
                run(*MAKE[kind], loop)
            mountpoint = base / name
            mountpoint.mkdir(exist_ok=True)
            run("mount", "-o", "nouuid" if kind == "xfs" else "defaults", loop, str(mountpoint))
            undo.callback(unmount, mountpoint)
        yield


def subject(base: Path) -> Mounted:
    """The store on the first disk, with a root on the second, where main has further copies of its files."""
    return Mounted(base / "a", {"cold": Root(base / "b" / "cold")})


@contextlib.contextmanager
def rig(base: Path) -> Iterator[tuple[Mounted, Power]]:
    """A mounted store, and the power that its disks hang on."""
    with contextlib.ExitStack() as undo:
        image, outer = base / "outer-image", base / "outer"
        with image.open("wb") as file:
            file.truncate(OUTER_BYTES)
        run(*MAKE["xfs"], "-m", "reflink=1", str(image))
        outer.mkdir()
        run("mount", "-o", "loop", str(image), str(outer))
        undo.callback(unmount, outer)
        power = undo.enter_context(volatile_disks(outer, base / "disks", DISK_BYTES, list(KINDS)))
        undo.enter_context(_attached(base / "disks", base, make=True))
        mounted = subject(base)
        undo.callback(mounted.discard)
        mounted.build()
        config = mounted.store / "fusestore.toml"
        config.write_text(config.read_text().replace("[roots.main]\n", "[roots.main]\ncopies = 2\n"))
        mounted.mount()
        yield mounted, power
        mounted.umount()


def judge_in_namespace(images: Path, base: Path, memory: Path) -> None:
    """Mount a cut as after a boot and compare it with what is remembered; an AssertionError carries what is wrong."""
    hidden = " ".join(f"'{base / name}'" for name in ("a/mnt", "b", "a"))  # what still runs outside is not there
    script = f'mount -t tmpfs none /dev/shm && umount -l {hidden} && exec "$@"'
    program = (sys.executable, "-m", "tests.support.powercut", str(images), str(base), str(memory))
    command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *program)
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- the judge --------------------------------------------------------------------------------------------------------


def judge(base: Path, memory: Memory) -> list[str]:
    """Everything about a cut that breaks a promise."""
    mounted = subject(base)
    wrong: list[str] = []
    check = fusestore("check", mounted.store)
    if check.code != 0:
        wrong.append(f"check: {check.out}{check.err}")
    log_before = mounted.log.stat().st_size
    mounted.mount()
    try:
        wrong += _entries(mounted, memory, "after the cut")
        mounted.wait()
        wrong += _entries(mounted, memory, "when all is at rest")
        wrong += _events(mounted, memory)
        wrong += _numbers(mounted, memory)
        wrong += _copies(mounted, memory)
        wrong += [f"a move waits: {move}" for move in mounted.moves()]
        mounted.umount()
    finally:
        mounted.discard()
    with mounted.log.open("rb") as log:
        log.seek(log_before)
        wrong += [line for line in log.read().decode(errors="replace").splitlines() if "level=error" in line]
    check = fusestore("check", mounted.store)
    return wrong + ([f"check afterwards: {check.out}{check.err}"] if check.code != 0 else [])


def _entries(mounted: Mounted, memory: Memory, when: str) -> list[str]:
    wrong: list[str] = []
    found: dict[str, list[str]] = {}
    for above, directories, files in os.walk(mounted.mountpoint):
        for name in directories + files:
            path = os.path.relpath(os.path.join(above, name), mounted.mountpoint)
            found.setdefault(name, []).append(path)
    for name, entry in memory.entries.items():
        there, wanted = found.get(name, []), memory.paths(name)
        if len(there) > 1:
            wrong.append(f"{when}: {name} is there twice: {there}")
        if entry.certain:
            strays = [path for path in there or [""] if path not in wanted]
            wrong += [f"{when}: {name} is at {path!r}, not one of {wanted} ({entry.certain})" for path in strays]
        for path in there if not entry.is_dir else []:
            try:
                content = (mounted.mountpoint / path).read_bytes()
            except OSError as error:
                wrong.append(f"{when}: {path}: {error}")
            else:
                wrong += [f"{when}: {path}: {fault}" for fault in entry.faults(content)]
    return wrong


def _copies(mounted: Mounted, memory: Memory) -> list[str]:
    """Every file of the root that asks for two copies has them, and each reads back well.

    Of an overwriting in place that nobody synced, a cut may leave some bytes on the disk and take the record of it,
    times included: only reading shows that, and the further copy has the content before it.
    """
    wrong: list[str] = []
    with Client(mounted.socket) as client:
        for above, _, files in os.walk(mounted.resources / "main"):
            for name in files:
                path = os.path.relpath(os.path.join(above, name), mounted.mountpoint)
                found = {
                    (each["root"], each["found"]) for each in client.call("files.reread", {"path": path}, timeout_s=60)
                }
                entry = memory.entries.get(name)
                is_torn = entry is not None and entry.mixed and found == {("main", "bad"), ("cold", "ok")}
                if found != {("main", "ok"), ("cold", "ok")} and not is_torn:
                    wrong.append(f"the copies of {path} are {found}")
    return wrong


def _events(mounted: Mounted, memory: Memory) -> list[str]:
    """Little of the log is gone, nothing is issued twice, and nothing is blamed on anybody outside."""
    wrong = []
    events = mounted.events()
    logged = {(event["epoch"], event["seq"]): event for event in events}
    for position, message in enumerate(memory.events):
        key, event = (message["epoch"], message["seq"]), message["data"]
        again: dict[str, Any] | None = logged.get(key)
        if again is None and position < memory.lasting:
            wrong.append(f"event {key} is gone, though it is older than what a cut may take: {event}")
        if again is not None and (again["id"], again["kind"]) != (event["id"], event["kind"]):
            wrong.append(f"epoch and seq {key} are issued twice: {event}, {again}")
    return wrong + [f"taken for an outside change: {event}" for event in events if event["cause"] == "outside"]


def _numbers(mounted: Mounted, memory: Memory) -> list[str]:
    """No inode number that was given out before is given out for something else."""
    wrong = []
    for number in range(20):
        path = mounted.uploads / f"fresh-{number}"
        path.touch()
        if path.stat().st_ino in memory.inodes:
            wrong.append(f"inode number {path.stat().st_ino} is issued twice")
    return wrong


def main() -> None:
    images, base, remembered = map(Path, sys.argv[1:])
    memory = msgjson.decode(remembered.read_bytes(), type=Memory)
    with _attached(images, base, "cut-"):
        wrong = judge(base, memory)
    sys.stdout.write(json.dumps(wrong, indent=1))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
