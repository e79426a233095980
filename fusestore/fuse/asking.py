"""Who asks the kernel, where the rights of names and modes do not say enough."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyfuse3

from fusestore.core.rights import Asker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfuse3 import RequestContext


def groups(pid: int) -> Iterable[int]:
    """The further groups of a process; none of one that is gone, or that lives where its number is another's."""
    try:
        return pyfuse3.get_sup_groups(pid)
    except (OSError, RuntimeError):
        return ()


def asker(ctx: RequestContext) -> Asker | None:
    """Who asks, with its groups; None for root and who runs the daemon, who may see all."""
    if ctx.uid in (0, os.geteuid()):
        return None
    return Asker(ctx.uid, (ctx.gid, *groups(ctx.pid)))
