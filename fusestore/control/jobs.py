"""The collection `jobs`: the long requests that are being worked on, and what came of those in the background.

An ordinary long request is a job as long as it runs, and ends with its connection. One in the background is answered
with its job at once and goes on without the connection; what came of it is kept for a while. All of it is in memory: a
job is only the asking and waiting, and what it has begun, such as a drain, is in the index and outlives the daemon.

    running ──► done | failed          cancelling: told to end, and not at a point where it can yet
       └─► cancelling ──► cancelled

Each user deals with its own jobs, an operator with everybody's.
"""

from __future__ import annotations

import errno
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from fusestore.control.methods import Arguments, Call, Method, Role
from fusestore.control.protocol import Tid, encode_error, line_of
from fusestore.errors import ControlError

if TYPE_CHECKING:
    from fusestore.control.protocol import Request
    from fusestore.model import Owner

KEPT_MAX: Final = 100  # of one user's in the background that are over; the oldest are forgotten
KEPT_BYTES: Final = 4 << 20  # of their answers; the newest is kept whatever its length
BACKGROUND_MAX: Final = 32  # of one user at a time
SHOWN_MAX: Final = 1024  # bytes of an argument that is shown, as JSON
BOUND: Final = ("events", "jobs")  # collections whose long methods are about their connection, or wait for jobs
PROGRESS: Final = ("done", "total", "unit")
CANCELLED: Final = "cancelled"
LOOK_S: Final = 1.0  # how often a job that is waited for is asked how far it is
CONTENT: Final = ("body", "text")  # arguments that are a file's content, and nobody else's business

Work = Callable[[], Awaitable[bytes]]  # returns the reply's line


class Job:
    """One long request; its arguments, which may be a file's content, are not kept.

    Args:
        connection: the one it ends with, and that knows it by its tid; None in the background.
    """

    def __init__(self, request: Request, arguments: Arguments, peer: Owner, connection: object | None) -> None:
        self.id = secrets.token_hex(4)  # a number would stand for another job after a restart
        self.tid = request.tid
        self.method = request.name
        self.arguments = _shown(arguments)
        self.background = request.background
        self.peer = peer
        self.connection = connection
        self.progress: tuple[int, int, str] | None = None  # done, total, unit
        self.begun_ns = time.time_ns()
        self.ended_ns = 0
        self.ended = trio.Event()
        self.reply = b""
        self._state = ""  # how it ended
        self._scope = trio.CancelScope()

    def report(self, done: int, total: int, unit: str) -> None:
        """Remember how far it is."""
        self.progress = done, total, unit

    async def run(self, work: Work) -> bytes:
        """Do it and return its reply, also when it was cancelled as a job."""
        try:
            with self._scope:
                self.reply = await work()
            if not self.reply:
                error = ControlError("cancelled", "the request was cancelled", errno=errno.ECANCELED)
                self.reply = encode_error(self.tid, error)
            return self.reply
        finally:
            self.end()

    def end(self) -> None:
        """It is over, with its reply or, if it never began or was cut off, without."""
        self._state = _outcome(self.reply)
        self.ended_ns = time.time_ns()
        self.ended.set()

    def cancel(self) -> None:
        """Have it end where it can; nothing happens to one that is over."""
        self._scope.cancel()

    def facts(self) -> dict[str, Any]:
        """The job as it is listed."""
        return {
            "job": self.id,
            "method": self.method,
            "arguments": self.arguments,
            "background": self.background,
            "state": self.state,
            "progress": dict(zip(PROGRESS, self.progress, strict=True)) if self.progress is not None else None,
            "uid": self.peer.uid,
            "pid": self.peer.pid,
            "begun_ns": self.begun_ns,
            "ended_ns": self.ended_ns,
        }

    def answered(self) -> dict[str, Any]:
        """The same with what it answered."""
        reply = json.loads(self.reply) if self.reply else {}
        return {**self.facts(), "data": reply.get("data"), "error": reply.get("error")}

    @property
    def state(self) -> str:
        return self._state or ("cancelling" if self._scope.cancel_called else "running")


def _shown(arguments: Arguments) -> dict[str, Any]:
    """What others are told of a request: no content, and nothing long."""
    given: dict[str, Any] = msgspec.to_builtins(arguments)
    return {
        key: value for key, value in given.items() if key not in CONTENT and len(line_of({key: value})) <= SHOWN_MAX
    }


def _outcome(reply: bytes) -> str:
    """How a job ended that has this reply; none when its connection or the daemon ended."""
    error = json.loads(reply).get("error") if reply else {"code": CANCELLED}
    if error is None:
        return "done"
    return "cancelled" if error["code"] == CANCELLED else "failed"


def _deals_with(peer: Owner, role: Role, job: Job) -> bool:
    return role >= Role.OPERATOR or job.peer.uid == peer.uid


class Jobs:
    """Every long request of the daemon, the oldest first.

    Args:
        nursery: where those in the background run.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._jobs: dict[str, Job] = {}

    def of(self, peer: Owner, role: Role) -> list[Job]:
        """Those that a peer deals with."""
        return [job for job in self._jobs.values() if _deals_with(peer, role, job)]

    def get(self, id: str, peer: Owner, role: Role) -> Job | None:
        """One of them by its id."""
        job = self._jobs.get(id)
        return job if job is not None and _deals_with(peer, role, job) else None

    def add(self, job: Job) -> None:
        """Know of an ordinary one from now on, so that it can be cancelled before it has had its turn; see `forget`."""
        self._jobs[job.id] = job

    def forget(self, job: Job) -> None:
        """An ordinary one is over, or its connection was before it had its turn."""
        del self._jobs[job.id]
        if not job.ended.is_set():
            job.end()

    def start(self, job: Job, work: Work) -> None:
        """Begin one in the background.

        Raises:
            ControlError: its user has too many.
        """
        if sum(not each.ended_ns for each in self._in_background(job.peer.uid)) >= BACKGROUND_MAX:
            raise ControlError("too_many", f"{BACKGROUND_MAX} jobs of this user run in the background already")
        self._jobs[job.id] = job
        self._nursery.start_soon(self._run, job, work)

    async def _run(self, job: Job, work: Work) -> None:
        await job.run(work)
        over = [each for each in self._in_background(job.peer.uid) if each.ended_ns]
        over.sort(key=lambda each: -each.ended_ns)
        held = 0
        for place, each in enumerate(over):
            held += len(each.reply)
            if place and (place >= KEPT_MAX or held > KEPT_BYTES):
                del self._jobs[each.id]

    def _in_background(self, uid: int) -> list[Job]:
        return [job for job in self._jobs.values() if job.background and job.peer.uid == uid]


class Which(Arguments):
    """A job by its id."""

    job: str


class CancelWhat(Arguments):
    """A job by its id, or the request of this connection that has this `tid`."""

    job: str | None = None
    tid: int | str | None = None


def _known(call: Call, id: str) -> Job:
    job = call.jobs.get(id, call.peer, call.role)
    if job is not None:
        return job
    hint = "`jobs.list` has those there are; what is long over is forgotten, and the daemon's end ends them all"
    raise ControlError("not_found", f"there is no job {id!r} of yours", hint, errno=errno.ENOENT)


def list_jobs(call: Call, _: Arguments) -> list[dict[str, Any]]:
    """The long requests that are being worked on, and those in the background that are over."""
    return [job.facts() for job in call.jobs.of(call.peer, call.role)]


def get(call: Call, which: Which) -> dict[str, Any]:
    """One job: how far it is, and what it answered."""
    return _known(call, which.job).answered()


async def wait(call: Call, which: Which) -> dict[str, Any]:
    """The same once it is over."""
    job = _known(call, which.job)
    while not job.ended.is_set():
        with trio.move_on_after(LOOK_S):
            await job.ended.wait()
        if job.progress is not None:
            call.report(*job.progress)
    await call.turn()
    return job.answered()


def cancel(call: Call, what: CancelWhat) -> dict[str, Any]:
    """Have a job end where it can; what it has begun in the store is not taken back."""
    if (what.job is None) == (what.tid is None):
        raise ControlError("bad_data", "data: give job or tid, and not both", '{"job": "5f0c11d2"} or {"tid": 3}')
    job = _known(call, what.job) if what.job is not None else _in_flight(call, what.tid)
    job.cancel()
    return job.answered()


def _in_flight(call: Call, tid: Tid) -> Job:
    """The newest request of this connection with that tid."""
    for job in reversed(call.jobs.of(call.peer, Role.ADMIN)):
        if job.connection is call.connection and job.tid == tid and not job.ended.is_set():
            return job
    hint = "a short one is answered before the next is read, and what is answered cannot be cancelled"
    raise ControlError("not_found", f"no long request of this connection has the tid {tid!r}", hint, errno=errno.ENOENT)


METHODS: Final = {
    "list": Method(list_jobs, role=Role.ANYONE),
    "get": Method(get, Which, Role.ANYONE),
    "wait": Method(wait, Which, Role.ANYONE),
    "cancel": Method(cancel, CancelWhat, Role.ANYONE),
}
