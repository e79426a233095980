"""A progress bar on stderr for what takes longer than a second; nothing when stderr is no terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Final

from fusestore.cli.output import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusestore.client import Progress

PATIENCE_S: Final = 1.0


@contextlib.contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Yields what to call with (done, total, unit)."""
    if not sys.stderr.isatty():
        yield lambda done, total, unit: None
        return
    with contextlib.ExitStack() as stack:
        bar = _Bar(title, stack)
        yield bar.show


class _Bar:
    def __init__(self, title: str, stack: contextlib.ExitStack) -> None:
        self._title = title
        self._stack = stack
        self._begun = time.monotonic()
        self._update: Progress | None = None

    def show(self, done: int, total: int, unit: str) -> None:
        if self._update is None:
            if time.monotonic() - self._begun < PATIENCE_S:
                return
            self._update = self._open()
        self._update(done, total, unit)

    def _open(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        bars = self._stack.enter_context(
            Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[amount]}", markup=False),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
        )
        task = bars.add_task(self._title, total=None, amount="")

        def update(done: int, total: int, unit: str) -> None:
            amount = f"{size(done)} of {size(total)}" if unit == "bytes" else f"{done} of {total} {unit}"
            bars.update(task, completed=done, total=total or None, amount=amount)

        return update
