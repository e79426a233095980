"""Named watchers, for which the log keeps what they have not acknowledged: how far they are, and waiting for them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from fusestore.cli.options import Json, Socket
from fusestore.cli.output import duration, print_json, print_table
from fusestore.cli.target import connect
from fusestore.client.following import Following
from fusestore.errors import ControlError, StartupError, UsageError

if TYPE_CHECKING:
    from typing import Any

    from fusestore.client import Client


def consumers(
    forget: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep nothing for this one any more.", show_default=False)
    ] = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Show the named consumers of the event log, and how far behind each is.

    `fusestore events --consumer NAME` makes one.
    """
    with connect(socket) as client:
        if forget is not None and not client.call("events.forget", {"consumer": forget})["forgotten"]:
            raise UsageError(f"there is no consumer {forget}")
        found = client.call("events.consumers")
    if json:
        print_json(found)
    elif found:
        print_table(
            ("NAME", "ACKNOWLEDGED", "BEHIND", "SINCE", ""),
            [
                (
                    each["consumer"],
                    str(each["seq"]),
                    str(each["lag"]),
                    duration(max(0.0, time.time() - each["acked_ns"] / 1e9)),
                    "has lost events" if each["lost"] else "",
                )
                for each in found
            ],
        )
    else:
        print("there are no consumers")


class Acknowledging:
    """Acknowledges what was printed for a consumer, and what is left out: now and then, and when nothing more waits.

    Args:
        client: for this alone.
        since: where a new consumer begins, None for now; one that there is goes on there if it has not come so far.

    Attributes:
        since: what is acknowledged.
    """

    def __init__(self, client: Client, name: str, since: int | None) -> None:
        self._client = client
        self._name = name
        self._standing = Following({}, snapshot=False)
        known = client.call("events.register", {"consumer": name, "since": since})
        self.since: int = known["seq"]
        if since is not None and since > self.since:
            self._acknowledge(_epoch_of(client, since), since)
            self.since = since

    def printed(self, event: dict[str, Any], *, is_read: bool) -> None:
        """An event is with whoever reads what is printed; `is_read`: nothing else waits to be."""
        at = self._standing.handled(event, is_read=is_read)
        if at is not None:
            self._acknowledge(*at)

    def _acknowledge(self, epoch: int, seq: int) -> None:
        for method, data in self._standing.acknowledging(self._name, epoch, seq):
            self._client.call(method, data)


def _epoch_of(client: Client, seq: int) -> int:
    """The epoch of an event. Seqs jump where one begins, and nothing is read on from a seq that was never given."""
    try:
        page = client.call("events.list", {"since": seq - 1, "limit": 1})
    except ControlError:
        page = client.call("events.list", {"since": seq, "limit": 1})
    epoch: int = (page["events"] or [page])[0]["epoch"]
    return epoch


def wait_acknowledged(client: Client, name: str, left_s: float | None) -> None:
    """Return when a consumer has acknowledged everything up to now.

    Raises:
        StartupError: it has not, within `left_s` seconds.
    """
    fence = client.call("events.fence")
    try:
        client.call("events.acknowledged", {"consumer": name, "seq": fence["seq"]}, timeout_s=left_s)
    except TimeoutError:
        raise StartupError(f"{name} has not acknowledged event {fence['seq']} in time; it still may") from None
