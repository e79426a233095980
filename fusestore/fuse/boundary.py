"""Where the daemon's errors become the kernel's errnos (`errors.ERRNO`): nothing but FUSEError leaves a handler.

pyfuse3 unmounts the whole tree on any other exception, so every handler is wrapped (a test proves it). A bug answers
EIO for that one call, leaves its traceback in the log, and the mount lives.
"""

from __future__ import annotations

import errno
import functools
import time
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import structlog
from pyfuse3 import FUSEError

from fusestore import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger()

QUIET_S: Final = 60.0  # an operator's trouble is said once a minute, not once a request
_last_said: dict[str, float] = {}


def handler(method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Wrap a request handler: whatever goes wrong, the kernel gets an errno."""

    @functools.wraps(method)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except FUSEError:
            raise
        except errors.NamespaceError as error:
            raise FUSEError(errors.errno_of(error)) from None
        except errors.FusestoreError as error:
            _say(error)
            raise FUSEError(errors.errno_of(error)) from None
        except OSError as error:
            if error.errno in (None, errno.EIO, errno.ENOTCONN, errno.EBADF, errno.ESTALE):
                log.warning("a disk refused", request=method.__name__, error=str(error))
                raise FUSEError(errno.EIO) from None
            log.debug("a disk answered", request=method.__name__, exc_info=error)
            raise FUSEError(error.errno) from None
        except Exception:
            log.exception("a bug in a request handler", request=method.__name__)
            raise FUSEError(errno.EIO) from None

    wrapped.is_handler = True  # type: ignore[attr-defined]  # what the test looks for
    return wrapped


def _say(error: errors.FusestoreError) -> None:
    text = str(error)
    now = time.monotonic()
    if now - _last_said.get(text, -QUIET_S) >= QUIET_S:
        if len(_last_said) > 1000:
            _last_said.clear()
        _last_said[text] = now
        log.warning("refused", error=text)
