"""The verb that has a daemon take its settings in again."""

from __future__ import annotations

from fusestore.cli.options import Json, Socket, Where
from fusestore.cli.output import print_json
from fusestore.cli.target import reach
from fusestore.errors import ControlError, UsageError


def reload(where: Where = None, socket: Socket = None, json: Json = False) -> None:
    """Take fusestore.toml in again without unmounting.

    What is wrong in it is said, and then nothing changes. What counts only from the next mount is named.
    """
    with reach(where, socket) as client:
        try:
            told = client.call("dispatcher.reload")
        except ControlError as error:
            raise UsageError(error.text) if error.code == "bad_config" else error from None
    if json:
        print_json(told)
        return
    print(f"applied: {', '.join(told['applied']) or 'nothing has changed'}")
    if told["needs_remount"]:
        print(f"from the next mount: {', '.join(told['needs_remount'])}")
