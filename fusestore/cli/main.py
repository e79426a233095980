"""The `fusestore` command: the table of its verbs, and the one place where an error becomes a line and a status."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final

import typer

from fusestore.cli import events, inspect, mounting, moves, store
from fusestore.errors import FusestoreError, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Each verb and the example that ends its --help.
Verbs = tuple[tuple["Callable[..., None]", str], ...]
VERBS: Final[Verbs] = (
    (store.init, "fusestore init /srv/store"),
    (mounting.mount, "fusestore mount /srv/store /mnt/lab"),
    (mounting.umount, "fusestore umount /mnt/lab"),
    (inspect.status, "fusestore status --socket /srv/store/control.sock"),
    (inspect.stat, "fusestore stat /mnt/lab/resources/main/run1.fastq"),
    (inspect.where, "fusestore where 01932f6c-7a55"),
    (inspect.history, "fusestore history /mnt/lab/uploads/removed.txt --json"),
    (events.events, "fusestore events --since 120 --follow --json"),
    (moves.moves, "cd /mnt/lab && fusestore moves"),
    (moves.wait, "mv uploads/run1 resources/cold/ && fusestore wait resources/cold/run1"),
    (inspect.verify, "fusestore verify --root cold"),
    (store.check, "fusestore umount /mnt/lab && fusestore check /srv/store"),
)
ROOT_VERBS: Final[Verbs] = ((store.add, "fusestore root add /srv/store cold /media/tape1 --outside none"),)


def main() -> int:
    """Run one command; returns its exit status (README lists them)."""
    # A reader that closes the pipe ends us quietly, as it ends cat; the client's sends to a socket are exempt.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        status = _assembled()(args=sys.argv[1:] or ["--help"], prog_name="fusestore", standalone_mode=False)
        sys.stdout.flush()
    except StartupError as error:
        return _complain(str(error), error.exit_code)
    except FusestoreError as error:
        hint = getattr(error, "hint", "")
        return _complain(f"{error}; {hint}" if hint else str(error), 1)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "fusestore"
        return _complain(f"{error.format_message().rstrip('.')}; see {command} --help", error.exit_code)
    except OSError as error:
        return _complain(str(error), 1)
    return status if isinstance(status, int) else 0


def _assembled() -> typer.Typer:
    app = _app("One mounted tree over several disks: files with ids, hashes and events, moved by plain mv.")
    _add(app, VERBS)
    root = _app("Declare the storage places of a store.")
    root.callback()(lambda: None)  # keeps `add` a verb of its own although it is the only one
    _add(root, ROOT_VERBS)
    app.add_typer(root, name="root")
    return app


def _app(text: str) -> typer.Typer:
    return typer.Typer(
        help=text,
        add_completion=False,
        rich_markup_mode=None,  # rich costs more than all the rest of --help
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )


def _add(app: typer.Typer, verbs: Sequence[tuple[Callable[..., None], str]]) -> None:
    for verb, example in verbs:
        app.command(epilog=f"Example:  {example}")(verb)


def _complain(text: str, status: int) -> int:
    print("fusestore:", " ".join(text.split()), file=sys.stderr)
    return status
