"""The demo: a store in ./demo, mounted at ./mnt; real files go in, and between two disks by plain `mv`.

    python scripts/demo.py start | stop | remove

It uses the `fusestore` command and ordinary programs only, as a person would, and needs nothing but the standard
library. It touches ./demo, ./mnt and, where there is no other second disk, one folder of its own in /dev/shm.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent.parent
DEMO: Final = HERE / "demo"
MNT: Final = HERE / "mnt"
STORE: Final = DEMO / "store"
MARK: Final = DEMO / "made-by-make-run"  # only a folder with this file in it is ever removed
IMAGE: Final = DEMO / "cold-disk.img"
COLD_DISK: Final = DEMO / "cold-disk"
SHM: Final = Path("/dev/shm") / f"fusestore-demo-{hashlib.sha256(bytes(HERE)).hexdigest()[:12]}"
EVENTS: Final = DEMO / "events.txt"
WATCHER_PID: Final = DEMO / "watcher.pid"

FASTQ_BYTES: Final = 64 << 20
IMAGE_BYTES: Final = 512 << 20
LIMIT_S: Final = 120  # no command of the demo takes longer; a mount that hangs must not hang the demo

ENVIRONMENT: Final = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
    "FUSESTORE_SOCKET": str(STORE / "control.sock"),
    "COLUMNS": "130",
}


class DemoError(Exception):
    """The demo cannot go on; says why."""


# --- running commands -------------------------------------------------------------------------------------------------


def ask(*command: str | Path, shown: str = "") -> str:
    """Run a command quietly and return what it printed; `shown` is what its failure calls it.

    Raises:
        DemoError: it failed.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=HERE,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise DemoError(f"`{shown or shlex.join(words)}` ended with {done.returncode}: {said}")
    return done.stdout


def works(*command: str | Path) -> bool:
    """Whether a command that may fail did what it should."""
    try:
        ask(*command)
    except (DemoError, OSError, subprocess.TimeoutExpired):
        return False
    return True


def show(line: str) -> None:
    """Run a shell command line in front of the reader: the line, then what it printed."""
    print(f"\n$ {line}", flush=True)
    for text in ask("bash", "-c", f"set -o pipefail; {line}", shown=line).splitlines():
        print(f"  {text}")


def show_mv(source: str, target: str) -> float:
    """Rename in front of the reader; returns the milliseconds that the whole `mv` took, its start included."""
    begun = time.perf_counter()
    ask("mv", source, target)
    took_ms = (time.perf_counter() - begun) * 1000
    print(f"\n$ mv {source} {target}\n  took {took_ms:.1f} ms", flush=True)
    return took_ms


def moving() -> list[str]:
    """The paths of what is on its way now."""
    return [move["path"] for move in json.loads(ask("fusestore", "moves", "--json"))]


def title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n--- {text}", flush=True)


# --- the two disks ----------------------------------------------------------------------------------------------------


def second_disk() -> tuple[Path, str]:
    """A directory on another file system than ./demo, if this machine has one; and what it is."""
    if os.geteuid() == 0 and shutil.which("mkfs.ext4", path=ENVIRONMENT["PATH"]):
        COLD_DISK.mkdir()
        with IMAGE.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        if works("mkfs.ext4", "-q", "-F", IMAGE) and works("mount", "-o", "loop", IMAGE, COLD_DISK):
            return (
                COLD_DISK / "files",
                f"an ext4 disk image, {IMAGE.relative_to(HERE)}, mounted at {COLD_DISK.relative_to(HERE)}",
            )
        IMAGE.unlink()
    memory = SHM.parent
    if (
        memory.is_dir()
        and memory.stat().st_dev != DEMO.stat().st_dev
        and shutil.disk_usage(memory).free > 4 * FASTQ_BYTES
    ):
        SHM.mkdir(mode=0o700)
        return SHM / "files", f"memory, {SHM}"
    return DEMO / "cold-files", "the same disk: nothing else is here, so a move is a rename(2) instead of a copy"


def mounted(directory: Path) -> bool:
    """Whether something is mounted there; asks the kernel's table, never the mount itself, which may be dead."""
    mountpoints = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    return str(directory).replace(" ", "\\040") in mountpoints


# --- real files -------------------------------------------------------------------------------------------------------


def write_fastq(path: Path, size: int) -> None:
    """Write reads of 150 bases with qualities, as a sequencer would: the same bytes each time."""
    source = random.Random(42)
    bases = bytes(b"ACGT"[byte % 4] for byte in range(256))
    qualities = bytes(b"#,:FFFFFFFFFFFFF"[byte % 16] for byte in range(256))
    read = 0
    with path.open("wb") as file:
        while file.tell() < size:
            read += 1
            sequence, quality = source.randbytes(150).translate(bases), source.randbytes(150).translate(qualities)
            file.write(b"@RUN42:1:1101:%d:%d 1:N:0:ACGT\n%b\n+\n%b\n" % (read % 30000, read, sequence, quality))


def sha256(path: Path) -> str:
    """What `sha256sum` says; in a process of its own, so that a mount that hangs ends in a message."""
    return ask("sha256sum", path).split()[0]


# --- the three verbs --------------------------------------------------------------------------------------------------


def stop() -> None:
    """End the watcher, unmount the store and the second disk; the files stay."""
    if WATCHER_PID.exists():
        pid = WATCHER_PID.read_text()
        command = Path("/proc") / pid / "cmdline"
        if (
            command.exists() and b"events\0--follow" in command.read_bytes()
        ):  # numbers are used again: look before ending it
            os.kill(int(pid), 15)
        WATCHER_PID.unlink()
    if mounted(MNT):
        if not works("fusestore", "umount", MNT):
            ask("fusermount3", "-u", "-z", MNT)
        print(f"unmounted {MNT.relative_to(HERE)}")
    if mounted(COLD_DISK):
        ask("umount", COLD_DISK)
        print(f"unmounted {COLD_DISK.relative_to(HERE)}")


def remove() -> None:
    """Stop, and remove all that the demo made; leave alone what it did not make."""
    stop()
    if DEMO.exists() and not MARK.exists() and any(DEMO.iterdir()):
        raise DemoError(f"{DEMO} was not made by the demo; move it away")
    for folder in (DEMO, SHM):
        if folder.exists():
            shutil.rmtree(folder)
    if MNT.exists():
        try:
            MNT.rmdir()
        except OSError as error:
            raise DemoError(f"{MNT} was not made by the demo, or is in use: {error.strerror}") from None


def start() -> None:
    """Renew the demo, play it and leave it mounted."""
    remove()
    DEMO.mkdir()
    MARK.write_text("`make run` made this folder and removes it when it runs again.\n")
    MNT.mkdir()

    title("A store with two resource roots on two disks")
    cold, what = second_disk()
    print(f"main is on this disk; cold is on {what}.")
    shown = cold.relative_to(HERE) if cold.is_relative_to(HERE) else cold
    show("fusestore init demo/store")
    show(f"fusestore root add demo/store cold {shown} --outside readers")
    show("fusestore mount demo/store mnt")
    follow_events()

    title("Real files go in")
    run42 = DEMO / "run42.fastq"
    write_fastq(run42, FASTQ_BYTES)
    before = sha256(run42)
    library = Path(sysconfig.get_paths()["stdlib"])
    show(f"cp {run42.relative_to(HERE)} mnt/uploads/")
    show("mkdir mnt/resources/main/library")
    unwanted = "--exclude=test --exclude=__pycache__ --exclude=site-packages"
    show(f"tar -C {shlex.quote(str(library))} -c {unwanted} . | tar -C mnt/resources/main/library -x")
    show("find mnt/resources/main/library -type f | wc -l")
    show("fusestore stat mnt/uploads/run42.fastq")
    identity = json.loads(ask("fusestore", "stat", MNT / "uploads/run42.fastq", "--json"))["id"]

    title("Renaming is moving: the names change at once, the bytes follow, and can be read meanwhile")
    took_ms = [
        show_mv("mnt/uploads/run42.fastq", "mnt/resources/main/"),
        show_mv("mnt/resources/main/library", "mnt/resources/cold/"),
        show_mv("mnt/resources/main/run42.fastq", "mnt/resources/cold/"),
    ]
    under_way = moving()
    right_after = sha256(MNT / "resources/cold/run42.fastq")
    show("fusestore moves")
    show("fusestore wait --all")
    after = sha256(MNT / "resources/cold/run42.fastq")
    on_disk = sha256(cold / "run42.fastq")

    title("Where it is, and how it came there")
    show("fusestore where mnt/resources/cold/run42.fastq")
    show("fusestore history mnt/resources/cold/run42.fastq")
    show(f"readlink mnt/.fusestore/by-id/{identity}")
    show("fusestore status")

    files = json.loads(ask("fusestore", "status", "--json"))["index"]["inodes"]
    without = lose_disk()
    seen = {before, right_after, after, on_disk, *without}

    title("What the watcher saw (fusestore events --follow, the last lines)")
    last_event()
    show(f"tail -n 6 {EVENTS.relative_to(HERE)}")

    title("What was seen")
    verdict = "equal" if len(seen) == 1 else "DIFFERENT"
    print(
        f"- {files} files and directories have ids and a history; run42.fastq kept {identity} all the way.\n"
        f"- its sha256sum before, right after mv, once arrived, on the cold disk itself, and without that: {verdict}.\n"
        f"- the slowest mv took {max(took_ms):.0f} ms; moves still under way when all had returned: {len(under_way)}.\n"
        "\n"
        "The store stays mounted at ./mnt. Go on, for example:\n"
        "  export PATH=$PWD/.venv/bin:$PATH FUSESTORE_SOCKET=$PWD/demo/store/control.sock\n"
        "  fusestore events --follow &\n"
        "  mv mnt/resources/cold/library mnt/resources/main/; fusestore moves\n"
        "Stop with: make stop"
    )
    if len(seen) > 1:
        raise DemoError(f"run42.fastq was not always the same: {', '.join(sorted(seen))}")


def lose_disk() -> list[str]:
    """Have a second copy made, pull the cold disk, empty it, and give it away; returns what the file was meanwhile."""
    disk, file = COLD_DISK.relative_to(HERE), MNT / "resources/cold/run42.fastq"
    title("A second copy, verified and kept fresh")
    show("fusestore replicate mnt/resources/cold/run42.fastq --to main --wait")
    show("fusestore where mnt/resources/cold/run42.fastq")
    if not mounted(COLD_DISK):
        print("\nNothing here is a disk of its own that could be pulled: run it as root, with mkfs.ext4 at hand.")
        return []

    title("A disk is pulled: its tree stands, what has a copy is read from there, nothing is called deleted")
    show(f"umount -l {disk}")
    until_cold("offline")
    show("ls mnt/resources/cold")
    show("sha256sum mnt/resources/cold/run42.fastq")
    pulled = sha256(file)
    show("! cat mnt/resources/cold/library/this.py 2>&1")
    show("fusestore status | grep health")
    show(f"mount -o loop {IMAGE.relative_to(HERE)} {disk}")
    until_cold("online")
    show("head -n 1 mnt/resources/cold/library/this.py")

    title("A disk is emptied, so that it can be given away: every name stays")
    show("fusestore drain cold --release")
    show(f"umount {disk}")
    show("find mnt/resources/cold/library -type f | wc -l")
    drained = sha256(file)
    show(f"mount -o loop {IMAGE.relative_to(HERE)} {disk}")
    show("fusestore drain cold --stop")
    until_cold("online")
    return [pulled, drained]


def until_cold(state: str) -> None:
    """Wait until the cold disk's root is in a state, as it is by itself within seconds."""
    until = time.monotonic() + 30
    while True:
        roots = json.loads(ask("fusestore", "status", "--json"))["roots"]
        found = next(root["state"] for root in roots if root["name"] == "cold")
        if found == state:
            return
        if time.monotonic() > until:
            raise DemoError(f"the root cold is {found}, and not {state} within 30 s")
        time.sleep(0.1)


def follow_events() -> None:
    """Start the watcher; it ends with the mount, or with `stop`."""
    with EVENTS.open("w") as output:
        watcher = subprocess.Popen(
            ["fusestore", "events", "--follow", "--since", "0"],
            cwd=HERE,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    WATCHER_PID.write_text(str(watcher.pid))


def last_event() -> None:
    """Wait until the watcher has written the newest event, or say that it has not."""
    newest = json.loads(ask("fusestore", "status", "--json"))["index"]["last_seq"]
    until = time.monotonic() + 10
    while not any(int(line.split()[0]) >= newest for line in EVENTS.read_text().splitlines()[-1:]):
        if time.monotonic() > until:
            raise DemoError(f"the watcher did not see event {newest} within 10 s; see {EVENTS}")
        time.sleep(0.05)


def main() -> int:
    verbs = {"start": start, "stop": stop, "remove": remove}
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        print(f"usage: demo.py {' | '.join(verbs)}", file=sys.stderr)
        return 2
    try:
        verbs[sys.argv[1]]()
    except (DemoError, OSError, subprocess.TimeoutExpired) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
