"""The `fusestore` command: the table of its verbs, and the one place where an error becomes a line and a status."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import typer

from fusestore.cli import (
    consumers,
    draining,
    events,
    explain,
    inspect,
    jobs,
    mounting,
    moves,
    reload,
    replicas,
    roots,
    scrub,
    steering,
    store,
    trash,
)
from fusestore.errors import FusestoreError, NoDaemon, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Each verb and the example that ends its --help.
Verbs = tuple[tuple["Callable[..., None]", str], ...]
VERBS: Final[Verbs] = (
    (store.init, "fusestore init /srv/store"),
    (mounting.mount, "fusestore mount /srv/store /mnt/lab"),
    (mounting.umount, "fusestore umount /mnt/lab"),
    (inspect.status, "fusestore status /srv/store"),
    (inspect.stat, "fusestore stat /mnt/lab/resources/main/run1.fastq"),
    (inspect.where, "fusestore where 01932f6c-7a55"),
    (inspect.history, "fusestore history /mnt/lab/uploads/removed.txt --json"),
    (explain.explain, "fusestore explain /mnt/lab/resources/cold/run1.fastq"),
    (events.events, "fusestore events --since 120 --follow --json"),
    (consumers.consumers, "cd /mnt/lab && fusestore consumers"),
    (moves.wait, "mv uploads/run1 resources/cold/ && fusestore wait resources/cold/run1"),
    (replicas.replicate, "fusestore replicate resources/hot/run7 --to cold --wait"),
    (replicas.drop, "fusestore drop resources/hot/run7 --from hot"),
    (draining.drain, "fusestore drain hot --plan && fusestore drain hot --wait"),
    (inspect.verify, "fusestore verify --root cold"),
    (scrub.scrub, "cd /mnt/lab && fusestore scrub --root cold --rate 50000000"),
    (jobs.jobs, "cd /mnt/lab && fusestore jobs 5f0c11d2 --wait"),
    (reload.reload, "fusestore reload /srv/store"),
    (store.check, "fusestore umount /mnt/lab && fusestore check /srv/store"),
    (store.rebuild, "fusestore rebuild /srv/store --dry-run"),
)
MOVE_VERBS: Final[Verbs] = (
    (moves.list_moves, "fusestore moves list --all --limit 20"),
    (moves.show, "fusestore moves show resources/cold/run1"),
    (steering.pause, "fusestore moves pause --all"),
    (steering.resume, "fusestore moves resume 3"),
    (steering.retry, "fusestore moves retry --all"),
    (steering.cancel, "fusestore moves cancel resources/cold/run1"),
)
ROOT_VERBS: Final[Verbs] = (
    (store.add, "fusestore root add /srv/store cold /media/tape1 --outside none"),
    (roots.accept, "fusestore root accept cold --socket /srv/store/control.sock"),
    (roots.retry, "mount /media/tape1 && fusestore root retry cold --socket /srv/store/control.sock"),
)
TRASH_VERBS: Final[Verbs] = (
    (trash.list_trash, "cd /mnt/lab && fusestore trash list --root cold"),
    (trash.empty, "cd /mnt/lab && fusestore trash empty"),
    (trash.restore, "fusestore trash restore 01932f6c-7a55 /mnt/lab/resources/cold/back.fastq"),
)


def main() -> int:
    """Run one command; returns its exit status (README lists them)."""
    _occupy_standard_streams()
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
    except TimeoutError:
        return _complain("the daemon does not answer; is it stopped, or a disk that it waits for?", NoDaemon.exit_code)
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:  # what could not be printed is not tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _complain(str(error), 1)
    return status if isinstance(status, int) else 0


def _occupy_standard_streams() -> None:
    """Have closed standard streams be no file that is opened later: output is refused, complaints are dropped."""
    for number, name, mode, flags in (
        (0, "stdin", "r", os.O_RDONLY),
        (1, "stdout", "w", os.O_RDONLY),  # so that printing fails
        (2, "stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            os.open(os.devnull, flags)  # gets the lowest number that is free
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _assembled() -> typer.Typer:
    app = _app("One mounted tree over several disks: files with ids, hashes and events, moved by plain mv.")
    _add(app, VERBS)
    move = _app(moves.moves.__doc__ or "")
    move.callback(invoke_without_command=True, epilog="Example:  cd /mnt/lab && fusestore moves")(moves.moves)
    _add(move, MOVE_VERBS)
    app.add_typer(move, name="moves")
    root = _app("Declare the storage places of a store, and answer for one that is doubted.")
    _add(root, ROOT_VERBS)
    app.add_typer(root, name="root")
    kept = _app("What moves have left behind, and was removed, until its time is over.")
    _add(kept, TRASH_VERBS)
    app.add_typer(kept, name="trash")
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
        name = verb.__name__.removesuffix("_moves").removesuffix("_trash").replace("_", "-")
        app.command(name, epilog=f"Example:  {example}")(verb)


def _complain(text: str, status: int) -> int:
    print("fusestore:", " ".join(text.split()), file=sys.stderr)
    return status
