"""Sends a process into the mount to do something there (`errand`)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import trio
from msgspec.structs import replace

from fusestore.errors import Forbidden
from fusestore.fuse import errand

if TYPE_CHECKING:
    from fusestore.core.rights import Asker
    from fusestore.model import Owner

COMMAND: Final = (sys.executable, "-I", "-S", os.path.abspath(errand.__file__))
ENVIRONMENT: Final = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
AT_ONCE: Final = 8  # errands of one user, who may stop the processes that act for it


class Errands:
    """What can be done in the mount at `top`.

    Attributes:
        owners: in whose name each process acts, by its id.
    """

    def __init__(self, top: bytes) -> None:
        self.owners: dict[int, Owner] = {}
        self._processes: list[trio.Process] = []  # that may not have ended; nobody need wait for them any more
        self._top = top
        self._limits: dict[int, trio.CapacityLimiter] = {}

    async def do(
        self, deed: str, owner: Owner, asker: Asker | None, body: bytes | None = None, **arguments: Any
    ) -> Any:
        """Have `errand` do something with the rights of the asker, or with our own; returns what it returned.

        It goes on when this is cancelled: cut off in the middle it could leave half of something.

        Args:
            owner: in whose name it is recorded.
            arguments: those of the deed; bytes are paths below the mountpoint.

        Raises:
            Forbidden: we cannot become the asker; OSError: as the kernel says.
        """
        user = _user(asker)
        if asker is not None and user is None:  # what it makes is ours
            owner = replace(owner, uid=os.geteuid(), gid=os.getegid())
        request = {
            "deed": deed,
            "arguments": {name: self._told(value) for name, value in arguments.items()},
            "user": user,
            "has_body": body is not None,
            "size": len(body or b""),
        }
        sent = json.dumps(request).encode() + b"\n" + (body or b"")
        if asker is None:
            said = await self._run(owner, sent)
        else:
            async with self._limits.setdefault(asker.uid, trio.CapacityLimiter(AT_ONCE)):
                said = await self._run(owner, sent)
        if not said:
            raise OSError(errno.ECANCELED, "it was cut off")  # somebody has killed it
        told = json.loads(said)
        if "errno" in told:
            raise OSError(told["errno"], os.strerror(told["errno"]), told["path"])
        return told["done"]

    async def _run(self, owner: Owner, sent: bytes) -> bytes:
        """What a process says that is told this."""
        # Not `trio.run_process`, which waits for its process even when it is cancelled: this one may wait for us.
        process = await trio.lowlevel.open_process(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", env=ENVIRONMENT
        )
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        self._forget_ended()
        self.owners[process.pid] = owner
        self._processes.append(process)
        async with process.stdin, process.stdout:
            with contextlib.suppress(trio.BrokenResourceError):  # it has ended, and that it says nothing will show
                await process.stdin.send_all(sent)
            await process.stdin.aclose()
            while data := await process.stdout.receive_some():
                said += data
        await process.wait()
        self._forget_ended()
        return said

    def _forget_ended(self) -> None:
        for process in [each for each in self._processes if each.poll() is not None]:
            self._processes.remove(process)
            del self.owners[process.pid]

    def _told(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return os.fsdecode(os.path.join(self._top, value))
        return [self._told(each) for each in value] if isinstance(value, list) else value


def _user(asker: Asker | None) -> tuple[int, list[int]] | None:
    """Whom the process is to become; None: it stays who we are.

    Raises:
        Forbidden
    """
    if asker is None or (os.geteuid() != 0 and asker.uid in (0, os.geteuid())):
        return None
    if os.geteuid() != 0:
        raise Forbidden(f"the daemon is no root, and cannot act for user {asker.uid}")
    return asker.uid, list(asker.gids)
