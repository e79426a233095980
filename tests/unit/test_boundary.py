"""Nothing but FUSEError leaves a handler, and an operator is not told the same thing over and over."""

from __future__ import annotations

import errno
import inspect

import pyfuse3
import pytest
from pyfuse3 import FUSEError
from structlog.testing import capture_logs

from fusestore.errors import NotFound, RootOffline
from fusestore.fuse.boundary import Complaints, handler
from fusestore.fuse.operations import Operations

NO_REPLY = {"forget", "init", "stacktrace"}  # the kernel waits for no answer


class Failing:
    """Answers every request with an error."""

    def __init__(self) -> None:
        self.complaints = Complaints()

    @handler
    async def read(self, error: Exception) -> None:
        raise error


def test_every_request_of_the_kernel_is_wrapped() -> None:
    for name, method in inspect.getmembers(Operations, inspect.iscoroutinefunction):
        if name not in NO_REPLY and hasattr(pyfuse3.Operations, name) and name in vars(Operations):
            assert getattr(method, "is_handler", False), name


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (NotFound(b"a"), errno.ENOENT),
        (RootOffline("hot"), errno.EIO),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (OSError(errno.EBADF, "a bug or a disk"), errno.EIO),
        (OSError("without a number"), errno.EIO),
        (FUSEError(errno.EROFS), errno.EROFS),
        (ZeroDivisionError(), errno.EIO),
    ],
)
async def test_whatever_goes_wrong_is_an_errno(error: Exception, number: int) -> None:
    with capture_logs(), pytest.raises(FUSEError) as caught:
        await Failing().read(error)
    assert caught.value.errno == number


@pytest.mark.parametrize("error", [RootOffline("hot"), OSError(errno.EIO, "Input/output error")])
async def test_a_trouble_is_told_once_in_a_while_by_each_mount(error: Exception) -> None:
    first, second = Failing(), Failing()
    with capture_logs() as logs:
        for failing in (first, first, second):
            with pytest.raises(FUSEError):
                await failing.read(error)
    assert [line["request"] for line in logs if line["log_level"] == "warning"] == ["read", "read"]
