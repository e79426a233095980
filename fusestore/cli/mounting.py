"""The verbs that begin and end a mount.

`mount` starts the daemon apart from the terminal and returns once the tree answers. The daemon says one line of JSON on
the pipe whose descriptor it is given: {"ok": true, "pid": N}, or {"error": "…", "exit_code": N}.
"""

from __future__ import annotations

import json as jsonlib
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from fusestore import config
from fusestore.cli import mountpoint as mountpoints
from fusestore.cli.options import Json, Socket, Store
from fusestore.cli.output import print_json
from fusestore.client import Client
from fusestore.control.locate import locate
from fusestore.errors import MountpointError, NoDaemon, StartupError

LOG_NAME: Final = "fusestore.log"
_Mountpoint = Annotated[str, typer.Argument(metavar="MOUNTPOINT", help="An empty directory.")]


def mount(
    store: Store,
    mountpoint: _Mountpoint,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay in the terminal and log there.")] = False,
    degraded: Annotated[bool, typer.Option("--degraded", help="Mount also when a root cannot be reached.")] = False,
    take: Annotated[bool, typer.Option("--take", help="Take over roots that another store claims.")] = False,
    json: Json = False,
) -> None:
    """Mount STORE at MOUNTPOINT.

    Returns once the tree answers. A dead mount that an earlier daemon left there is cleared.
    """
    settings = config.load(Path(store))
    target = Path(os.path.realpath(mountpoint))
    mountpoints.check(target, [settings.store, *(root.path for root in settings.roots)])
    # -P: what lies in the working directory is not imported.
    command = [sys.executable, "-P", "-m", "fusestore.daemon", str(settings.store), str(target)]
    command += ["--degraded"] * degraded + ["--take"] * take
    if foreground:
        sys.stdout.flush()
        os.execv(command[0], command)
    pid = _start(command, settings.store / LOG_NAME)
    os.stat(target / ".")
    if mountpoints.mounted_at(target) is None:
        raise StartupError(f"the daemon is up but nothing is mounted at {target}; see {settings.store / LOG_NAME}")
    if json:
        print_json({"store": str(settings.store), "mountpoint": str(target), "pid": pid})
    else:
        print(f"mounted {settings.store} at {target}")


def _start(command: list[str], log: Path) -> int:
    """Start the daemon in a session of its own and wait until it is ready; returns its pid."""
    ready, tell = os.pipe()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        daemon = subprocess.Popen(
            [*command, "--ready-fd", str(tell)],
            pass_fds=[tell],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
        os.close(tell)
        try:
            answer = _first_line(ready)
        except KeyboardInterrupt:
            daemon.terminate()
            raise
    finally:
        os.close(output)
        os.close(ready)
    if answer is None:
        status = daemon.wait()
        raise StartupError(f"the daemon ended before it was ready (status {status}); see {log}")
    if "error" in answer:
        _fail(answer)
    return daemon.pid


def _first_line(pipe: int) -> dict[str, Any] | None:
    line = b""
    while not line.endswith(b"\n"):
        _wait_for(pipe, "starting: the index is being recovered")
        data = os.read(pipe, 4096)
        if not data:
            return None
        line += data
    answer: dict[str, Any] = jsonlib.loads(line)
    return answer


def _fail(answer: dict[str, Any]) -> NoReturn:
    error = StartupError(answer["error"])
    error.exit_code = answer["exit_code"]
    raise error


def umount(mountpoint: _Mountpoint, socket: Socket = None, json: Json = False) -> None:
    """Unmount MOUNTPOINT and end its daemon.

    Returns when the daemon has finished its work and is gone; its moves go on at the next mount.
    """
    target = Path(os.path.realpath(mountpoint))
    mounted = mountpoints.mounted_at(target)
    if mounted is None or not mounted.is_ours:
        raise MountpointError(f"no store is mounted at {target}" + (f", but {mounted.kind}" if mounted else ""))
    if mountpoints.is_dead(target):
        mountpoints.unmount(target, lazy=True)
        pid = None
    else:
        pid = _daemon_of(target, socket)
        daemon = os.pidfd_open(pid) if pid else None
        mountpoints.unmount(target)
        if daemon is not None:
            _wait_for(daemon, "unmounted; the daemon finishes its work")
    if json:
        print_json({"mountpoint": str(target), "pid": pid})
    else:
        print(f"unmounted {target}" if pid else f"unmounted {target}, whose daemon was gone")


def _daemon_of(mountpoint: Path, socket: str | None) -> int | None:
    """The pid of the daemon behind a mount, None when it does not answer; unmounting ends it all the same."""
    try:
        location = locate(mountpoint)
        control = location.socket if location else Path(socket or "")
        with Client(control) as client:
            pid: int = client.call("dispatcher.hello")["pid"]
            return pid
    except (OSError, NoDaemon):
        return None


def _wait_for(descriptor: int, what: str) -> None:
    """Wait until `descriptor` is readable, saying `what` to a person who waits longer than a second."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(1000):
        if sys.stderr.isatty():
            print(f"fusestore: {what} …", file=sys.stderr)
        poll.poll()
