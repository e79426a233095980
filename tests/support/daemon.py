"""A store and its real daemon, driven through the command line only, as a person would drive them.

Nothing here imports the product: what crosses the border is the command-line contract, the mount itself and `/proc`.
The daemon is another process, so tests may touch its mount; `deadline` kills it when a test hangs, which fails every
call that is stuck in the mount at once. `finish` is the audit that ends the life of each store under test.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import tomlkit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PROJECT: Final = Path(__file__).resolve().parents[2]
_LOUD: Final = re.compile(r"(?i)(\[|level=|\"level\":\s*\")(warning|error|critical)\b|^Traceback")
_SCRIPT: Final = Path(sys.executable).with_name("fusestore")
_START: Final = "import sys; from fusestore.cli.main import main; sys.exit(main())"
COMMAND: Final = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-c", _START]

T = TypeVar("T")


class Run(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> list[str]:
        """The lines on stderr that say something."""
        return [line for line in self.err.splitlines() if line.strip()]


@dataclass(frozen=True)
class Root:
    """A resource root to declare beside `main`; without `outside` the command's own default is taken."""

    directory: Path
    outside: str | None = None


def fusestore(*arguments: str | bytes | Path, timeout_s: float = 60, extra: Mapping[str, str] | None = None) -> Run:
    """Run one command to its end; a command that does not end is a failure, never a hang."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **(extra or {})}
    done = subprocess.run(
        [*COMMAND, *(os.fspath(a) for a in arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    return Run(done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="replace"))


def eventually(condition: Callable[[], T], what: str, timeout_s: float = 10) -> T:
    """Poll `condition` until it is true and return its value; `what` names it in the failure."""
    limit = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > limit:
            raise AssertionError(f"not within {timeout_s} s: {what} (last seen: {value!r})")
        time.sleep(0.01)
    return value


def mounts() -> list[str]:
    """Every mountpoint of this machine."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1].encode().decode("unicode_escape") for line in lines]


@dataclass
class Mounted:
    """One store, its roots and, while it is mounted, its daemon."""

    base: Path
    roots: Mapping[str, Root] = field(default_factory=dict)
    pid: int = 0
    allowed: list[re.Pattern[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = self.base / "store"
        self.mountpoint = self.base / "mnt"
        self.uploads = self.mountpoint / "uploads"
        self.downloads = self.mountpoint / "downloads"
        self.resources = self.mountpoint / "resources"
        self.socket = self.store / "control.sock"
        self.log = self.store / "fusestore.log"

    # the store and its daemon

    def build(self) -> Mounted:
        """Make the store and declare its roots; nothing is mounted yet."""
        self.mountpoint.mkdir(parents=True)
        self.cli("init", self.store)
        for name, root in self.roots.items():
            outside = ["--outside", root.outside] if root.outside else []
            self.cli("root", "add", self.store, name, root.directory, *outside)
        return self

    def configure(self, section: str, **settings: object) -> None:
        """Change settings in one section of the config; takes effect at the next mount."""
        path = self.store / "fusestore.toml"
        config = tomlkit.parse(path.read_text())
        if section not in config:
            config[section] = tomlkit.table()
        config[section].update(settings)
        path.write_text(tomlkit.dumps(config))

    def mount(self, *options: str) -> Mounted:
        self.cli("mount", self.store, self.mountpoint, *options)
        self.pid = int(self.json("status")["pid"])
        return self

    def umount(self) -> None:
        self.cli("umount", self.mountpoint)
        assert not _alive(self.pid), "umount returned before the daemon was gone"
        self.pid = 0

    def remount(self) -> None:
        self.umount()
        self.mount()

    def kill9(self) -> None:
        """Kill the daemon and wait until it is gone; the dead mount stays for the next `mount` to clear."""
        handle = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            assert select.select([handle], [], [], 10)[0], "the daemon outlived SIGKILL"
        finally:
            os.close(handle)
        self.pid = 0

    # what it says

    def cli(self, *arguments: str | bytes | Path, code: int = 0, timeout_s: float = 60) -> Run:
        """Run a command of which the exit status `code` is expected."""
        run = fusestore(*arguments, timeout_s=timeout_s, extra={"FUSESTORE_SOCKET": str(self.socket)})
        assert run.code == code, f"{arguments} ended with {run.code}, not {code}\n{run.out}{run.err}{self.log_tail()}"
        return run

    def json(self, *arguments: str | bytes | Path, timeout_s: float = 60) -> Any:
        return json.loads(self.cli(*arguments, "--json", timeout_s=timeout_s).out)

    def record(self, path: Path | str) -> dict[str, Any]:
        answer: dict[str, Any] = self.json("stat", path)
        return answer

    def where(self, path: Path | str) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.json("where", path)
        return answer

    def history(self, path: Path | str) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.json("history", path)
        return answer

    def moves(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.json("moves")
        return answer

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """Every logged event after `since`, oldest first."""
        lines = self.cli("events", "--since", str(since), "--json").out.splitlines()
        return [json.loads(line) for line in lines if line]

    def wait(self, what: Path | str = "--all", timeout_s: float = 120) -> None:
        self.cli("wait", what, timeout_s=timeout_s)

    def log_tail(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "".join(f"\nlog| {line}" for line in text.splitlines()[-25:])

    # safety and audit

    @contextlib.contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Kill the daemon when the block takes longer: every call stuck in its mount then fails at once."""
        watchdog = threading.Timer(seconds, self._abort)
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()

    def _abort(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)

    def allow_log(self, pattern: str) -> None:
        """A warning or error that the test provokes on purpose."""
        self.allowed.append(re.compile(pattern))

    def descriptors(self) -> list[str]:
        """The files below any root that the daemon holds open, directories and its own bookkeeping left out."""
        places = [str(root.directory.resolve()) for root in self.roots.values()]
        places += [str((self.store / name).resolve()) for name in ("uploads", "downloads", "main")]
        found = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(entry)
                below = any(target.startswith(place + "/") for place in places)
                if below and not target.endswith("/.fusestore/root.toml") and not entry.is_dir():
                    found.append(target)
        return found

    def finish(self) -> None:
        """The audit that ends every test: no descriptor kept, orderly end, all invariants hold, a quiet log."""
        if self.pid and _alive(self.pid):
            eventually(lambda: not self.descriptors(), f"descriptors given back, {self.descriptors()[:5]} are held")
            self.umount()
        assert str(self.mountpoint) not in mounts(), "a mount was left behind"
        self.cli("check", self.store, timeout_s=120)
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        loud = [line for line in text.splitlines() if _LOUD.search(line)]
        unexpected = [line for line in loud if not any(p.search(line) for p in self.allowed)]
        assert not unexpected, "unexpected lines in the daemon's log:\n" + "\n".join(unexpected[:20]) + self.log_tail()

    def discard(self) -> None:
        """Leave no process and no mount behind, whatever happened."""
        self._abort()
        if str(self.mountpoint) in mounts():
            subprocess.run(["fusermount3", "-uz", self.mountpoint], check=False, capture_output=True, timeout=30)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@contextlib.contextmanager
def mounted(base: Path, roots: Mapping[str, Root] | None = None, *, allow_other: bool = False) -> Iterator[Mounted]:
    """A mounted store below `base`; audited at the end unless the block itself failed, cleaned up in any case."""
    subject = Mounted(base, roots or {})
    try:
        subject.build()
        if allow_other:
            subject.configure("mount", allow_other=True)
        subject.mount()
        yield subject
        subject.finish()
    finally:
        subject.discard()
