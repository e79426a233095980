"""What must not grow with size: the rename call between disks, start-up, and memory after a walk."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from bench.peers import fusestore, store


def status(mountpoint: Path) -> dict[str, object]:
    told: dict[str, object] = json.loads(
        fusestore("status", "--json", "--socket", mountpoint.parent / "store/control.sock")
    )
    return told


def rss_mb(mountpoint: Path) -> float:
    """The daemon's own memory: anonymous pages; the index's map is page cache that the kernel takes back."""
    lines = Path(f"/proc/{status(mountpoint)['pid']}/status").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "RssAnon"))}
    return kib["VmRSS"] / 1024


def rename_ms(old: Path, new: Path) -> float:
    start = time.perf_counter()
    os.rename(old, new)
    return (time.perf_counter() - start) * 1000


def moves(base: Path, hot: Path, cold: Path, *, megabytes: int, files: int) -> dict[str, float]:
    """Milliseconds of the rename call, and how fast the bytes followed."""
    with store(base, hot=hot, cold=cold) as mountpoint:
        one, two = mountpoint / "resources" / "hot", mountpoint / "resources" / "cold"
        subprocess.run(["dd", "if=/dev/urandom", f"of={one / 'big'}", "bs=1M", f"count={megabytes}"],
                       check=True, stderr=subprocess.DEVNULL)  # fmt: skip
        fill(one / "many", files)
        wait = ("wait", "--all", "--socket", base / "store" / "control.sock")
        fusestore(*wait)
        told = {f"rename of a {megabytes} MiB file, ms": rename_ms(one / "big", two / "big")}
        start = time.perf_counter()
        fusestore(*wait)
        told["its bytes followed at MB/s"] = megabytes * 1.048576 / (time.perf_counter() - start)
        told[f"rename of a directory of {files} files, ms"] = rename_ms(one / "many", two / "many")
        start = time.perf_counter()
        fusestore(*wait)
        told["its files followed at files/s"] = files / (time.perf_counter() - start)
    return told


def fill(directory: Path, files: int) -> None:
    """`files` files of 100 bytes, a thousand a directory."""
    for number in range(files):
        if number % 1000 == 0:
            (directory / f"d{number // 1000}").mkdir(parents=True)
        with open(directory / f"d{number // 1000}" / f"f{number}", "wb") as file:
            file.write(b"x" * 100)


def walk(base: Path, *, files: int) -> dict[str, float]:
    """Memory after walking a root that was full when it was declared, and the time of a later start."""
    fill(base / "full", files)
    with store(base, full=base / "full") as mountpoint:
        start = time.perf_counter()
        subprocess.run(["find", mountpoint, "-size", "+1M"], check=True)
        told = {f"first walk over {files} adopted files, s": time.perf_counter() - start}
        start = time.perf_counter()
        subprocess.run(["find", mountpoint, "-size", "+1M"], check=True)
        told["second walk, s"] = time.perf_counter() - start
        told["memory after it, MB"] = rss_mb(mountpoint)
        fusestore("umount", mountpoint)
        start = time.perf_counter()
        fusestore("mount", base / "store", mountpoint)
        told["mount command with all of them known, s"] = time.perf_counter() - start
    return told
