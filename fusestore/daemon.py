"""The daemon: builds every part once, owns the nursery, and says when it is ready.

    python -m fusestore.daemon STORE MOUNTPOINT [--degraded] [--ready-fd N]

`--ready-fd` gets one line of JSON: {"ok": true, "pid": …} once requests are served, or {"error": …, "exit_code": …}.
The log goes to standard error. SIGTERM and SIGINT unmount and end in order; SIGHUP has the settings taken in again.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import resource
import signal
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never

import structlog
import trio

from fusestore import config as settings
from fusestore.errors import FusestoreError, StartupError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fusestore.config import Config
    from fusestore.fuse.session import Session
    from fusestore.service.rebuild.tally import Report
    from fusestore.service.store import Store

    Job = Callable[[], Awaitable[None]]

log = structlog.get_logger()

AFTER_BUG_S: Final = 10.0
DRAIN_S: Final = 30.0  # how long an orderly end waits for finished files to become durable


def create_store(path: Path) -> None:
    """Make a store at `path`.

    Raises:
        StoreError: it can be no store, or there is something already.
    """
    from fusestore.service.founding import create_store as create

    create(path)


def rebuild_store(
    config: Config, *, replace: bool, trust_copies: bool, dry_run: bool, progress: Callable[[int, int, str], None]
) -> Report:
    """Rebuild the index of a store that is not mounted; see `service.rebuild.rebuilding.rebuild`."""
    from fusestore.service.rebuild.rebuilding import rebuild

    return rebuild(config, replace=replace, trust_copies=trust_copies, dry_run=dry_run, progress=progress)


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon until it is unmounted or told to end; returns its exit status."""
    parser = argparse.ArgumentParser(prog="fusestore.daemon")
    parser.add_argument("store", type=Path)
    parser.add_argument("mountpoint", type=Path)
    parser.add_argument("--degraded", action="store_true", help="go on without roots that cannot be reached")
    parser.add_argument("--take", action="store_true", help="take roots over from the store that claims them")
    parser.add_argument("--ready-fd", type=int)
    options = parser.parse_args(arguments)
    _set_up_process()
    ready = Ready(options.ready_fd)
    try:
        config = settings.load(options.store)
        set_log_level(config.log.level)
        run(config, options.mountpoint, ready, degraded=options.degraded, take=options.take)
    except StartupError as error:
        ready.failed(error)
        return error.exit_code
    return 0


def _set_up_process() -> None:
    sys.setrecursionlimit(20_000)  # a tree may be as deep as names of one letter make it
    os.umask(0)  # modes come from the kernel's requests, umask applied
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=LogFile()),  # type: ignore[arg-type]  # all that it calls
    )
    set_log_level("")


class LogFile:
    """Standard error, for a log whose disk may be full or gone: the mount lives on without a line."""

    def write(self, line: str) -> None:
        try:
            os.write(2, line.encode(errors="backslashreplace"))
        except OSError:
            pass

    def flush(self) -> None:
        """Each line is written at once."""


def set_log_level(level: str) -> None:
    """Say only what matters as much as `level`, or else what $FUSESTORE_LOG_LEVEL names, or else INFO."""
    name = (level or os.environ.get("FUSESTORE_LOG_LEVEL", "")).upper()
    least = logging.getLevelNamesMapping().get(name, logging.INFO)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(least))


class Ready:
    """Tells whoever started the daemon how that went, once."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def serving(self) -> None:
        self._say({"ok": True, "pid": os.getpid()})

    def failed(self, error: StartupError) -> None:
        if self._fd is None:
            from fusestore.control import systemd

            log.error("the daemon cannot start", error=str(error))
            systemd.notify(f"STATUS={error}")
        self._say({"error": str(error), "exit_code": error.exit_code})

    def _say(self, message: dict[str, object]) -> None:
        if self._fd is not None:
            os.write(self._fd, json.dumps(message).encode() + b"\n")
            os.close(self._fd)
            self._fd = None


def run(config: Config, mountpoint: Path, ready: Ready, *, degraded: bool, take: bool) -> None:
    """Open the store, mount it, serve it, and close it.

    Raises:
        StartupError: of what kind, says its type.
    """
    from fusestore.control import server, systemd
    from fusestore.fuse.session import Session
    from fusestore.roots.aside import Aside
    from fusestore.service.founding import open_store

    held = systemd.take_listener()
    store = open_store(config, degraded=degraded, take=take)
    if held is not None:
        store.socket_path = Path(os.fsdecode(held.getsockname()))
    serve = partial(server.serve, store.socket_path, control=config.control, held=held)
    clean = False
    try:
        session = Session(store, mountpoint)
        try:
            with closing(Aside()) as store.aside:
                clean = trio.run(_serve, store, session, mountpoint, serve, ready)
        except BaseExceptionGroup as group:
            raise _alone(group) from None
        finally:
            session.close()
    finally:
        store.close(clean=clean)
        log.info("stopped", clean=clean)


def _alone(error: BaseException) -> BaseException:
    """What one error was before nurseries wrapped it; several stay together."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _serve(
    store: Store, session: Session, mountpoint: Path, serve: Callable[..., Awaitable[Never]], ready: Ready
) -> bool:
    """Everything that runs while mounted; returns whether it ended in order.

    Args:
        serve: serves the control socket, given who has the answers.
    """
    from fusestore.control import log_file, systemd
    from fusestore.fuse.events_file import EventsFile
    from fusestore.fuse.notices import Notices
    from fusestore.jobs import keeper
    from fusestore.jobs.drainer import Drainer
    from fusestore.jobs.hasher import Hasher
    from fusestore.jobs.manifests import Manifests
    from fusestore.jobs.mover import Mover
    from fusestore.jobs.replicator import Replicator
    from fusestore.jobs.scrubber import Scrubber
    from fusestore.jobs.watcher import Watcher
    from fusestore.service.queries import Queries
    from fusestore.service.recovery import recover
    from fusestore.service.standing import line

    mover = Mover(store, store.config.moves.workers, store.config.moves.per_pair)
    hasher = Hasher(store)
    replicator = Replicator(store)
    drainer = Drainer(store)
    notices = Notices(store)
    manifests = Manifests(store)
    recover(store)
    scrubber = Scrubber(store)
    queries = Queries(store, mountpoint, mover.running, hasher.idle, scrubber, session.stop)
    async with trio.open_nursery() as nursery:
        connections = await nursery.start(serve, queries)
        events = EventsFile(log_file.LogFile(queries, connections.lines, lambda: connections.roles))
        session.show(events)
        parts = (mover, hasher, replicator, scrubber, drainer, notices, manifests, events, Watcher(store))
        jobs: list[Job] = [*(part.run for part in parts), *(partial(duty, store) for duty in keeper.DUTIES)]
        queries.reloading.parts += [
            connections.settle,
            lambda config: partial(set_log_level, config.log.level),
            lambda config: partial(mover.resize, config.moves.workers, config.moves.per_pair),
            lambda config: partial(scrubber.change_rate, store.config.scrub.rate, config.scrub.rate),
        ]
        for job in jobs:
            nursery.start_soon(keep_up, job)
        nursery.start_soon(_mind_signals, session, queries.reload)
        nursery.start_soon(systemd.feed_watchdog)
        log.info("serving", store=str(store.config.store), mountpoint=str(mountpoint), pid=os.getpid())
        serving = trio.CancelScope()
        nursery.start_soon(_announce, ready, partial(line, store, mountpoint), serving)
        gc.freeze()  # what is here stays: looking through it again and again would hold everybody up for 10 to 30 ms
        await session.run()
        serving.cancel()
        systemd.notify("STOPPING=1", "STATUS=finished files are made durable")
        scrubber.halt()
        with trio.move_on_after(DRAIN_S):
            await hasher.idle()
        nursery.cancel_scope.cancel()
    await manifests.close()
    return True


async def keep_up(job: Job) -> None:
    """Run a job of the daemon; after a bug it begins anew, as after a crash, and the mount lives (decision 0013)."""
    while True:
        try:
            await job()
        except Exception:
            log.exception("a bug in a job")
            await trio.sleep(AFTER_BUG_S)
        else:
            return


async def _announce(ready: Ready, status: Callable[[], str], serving: trio.CancelScope) -> None:
    """Say that the tree answers: requests made from now on wait for nothing but this loop. Then, how it does."""
    from fusestore.control import systemd

    await trio.lowlevel.checkpoint()
    ready.serving()
    systemd.notify("READY=1")
    with serving:
        await keep_up(partial(systemd.tell_status, status))


async def _mind_signals(session: Session, reload: Callable[[], Awaitable[object]]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                await _reload(reload)
                continue
            log.info("stopping", signal=signal.Signals(number).name)
            session.stop()


async def _reload(reload: Callable[[], Awaitable[object]]) -> None:
    from fusestore.control import systemd

    systemd.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        await reload()
    except FusestoreError as error:
        log.error("the settings stay as they are", error=str(error))
    except Exception:
        log.exception("a bug in taking the settings in")
    finally:
        systemd.notify("READY=1")


if __name__ == "__main__":
    sys.exit(main())
