"""The collection `scrub`: every file read again in the background, and what that has shown."""

from __future__ import annotations

from typing import Any, Final

from fusestore.control.methods import Arguments, Call, Method, Number, Role


class How(Arguments):
    """Only one `root`; `rate` in bytes a second, 0 for no limit; `now`: also what was read not long ago."""

    root: str | None = None
    rate: Number | None = None
    now: bool = False


def start(call: Call, how: How) -> dict[str, Any]:
    """Begin to read every file again, in place of what goes on; answers at once."""
    call.queries.start_scrub(how.root, how.rate, again=how.now)
    return call.queries.scrub()


def status(call: Call, _: Arguments) -> dict[str, Any]:
    """How far it is, and every file that is known not to be sound."""
    return call.queries.scrub()


def stop(call: Call, _: Arguments) -> dict[str, Any]:
    """End it where it is; what was read stays known."""
    call.queries.stop_scrub()
    return call.queries.scrub()


METHODS: Final = {
    "start": Method(start, How, Role.OPERATOR),
    "status": Method(status),
    "stop": Method(stop, role=Role.OPERATOR),
}
