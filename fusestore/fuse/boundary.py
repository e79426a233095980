"""Where the daemon's errors become the kernel's errnos (`errors.ERRNO`): nothing but FUSEError leaves a handler.

pyfuse3 unmounts the whole tree on any other exception, so every handler is wrapped (a test proves it). A bug answers
EIO for that one call, leaves its traceback in the log, and the mount lives.
"""

from __future__ import annotations

import errno
import functools
import time
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import structlog
from pyfuse3 import FUSEError

from fusestore import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

log = structlog.get_logger()

QUIET_S: Final = 60.0  # an operator's trouble is said once a minute, not once a request
MOST: Final = 1000  # troubles remembered


class Complaints:
    """What an operator is told of requests that failed, each trouble once in a while."""

    def __init__(self) -> None:
        self._last_said: dict[str, float] = {}

    def say(self, what: str, request: str, error: Exception) -> None:
        text = str(error)
        now = time.monotonic()
        if now - self._last_said.get(text, -QUIET_S) < QUIET_S:
            return
        if len(self._last_said) >= MOST:
            self._last_said.clear()
        self._last_said[text] = now
        log.warning(what, request=request, error=text)


class Handlers(Protocol):
    """The object whose methods are handlers."""

    complaints: Complaints


P = ParamSpec("P")
R = TypeVar("R")
H = TypeVar("H", bound=Handlers)


def handler(
    method: Callable[Concatenate[H, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, R]]:
    """Wrap a request handler: whatever goes wrong, the kernel gets an errno."""

    @functools.wraps(method)
    async def wrapped(self: H, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except FUSEError:
            raise
        except errors.NamespaceError as error:
            raise FUSEError(errors.errno_of(error)) from None
        except errors.FusestoreError as error:
            self.complaints.say("refused", method.__name__, error)
            raise FUSEError(errors.errno_of(error)) from None
        except OSError as error:
            if error.errno in (None, errno.EIO, errno.ENOTCONN, errno.EBADF, errno.ESTALE):
                self.complaints.say("a disk refused", method.__name__, error)
                raise FUSEError(errno.EIO) from None
            log.debug("a disk answered", request=method.__name__, exc_info=error)
            raise FUSEError(error.errno) from None
        except Exception:
            log.exception("a bug in a request handler", request=method.__name__)
            raise FUSEError(errno.EIO) from None

    wrapped.is_handler = True  # type: ignore[attr-defined]  # what the test looks for
    return wrapped
