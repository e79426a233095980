"""The two redo logs of an index, written in turn: one takes what comes after the newest commit, the other has what came
before it and is written over only when that commit is on the disk.

    commit 1        commit 2        commit 3
    ── redo.log ──►── redo2.log ──►── redo.log ──►
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.index.redolog import RedoLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class RedoLogs:
    """Both logs as one. As with `RedoLog`, `sync` may be called from another thread."""

    def __init__(self, directory: Path, uuid: bytes) -> None:
        """Open the logs of the index `uuid`; a missing one is empty.

        Raises:
            StoreError: a file is the log of another index.
        """
        first = RedoLog(directory / "redo.log", uuid)
        try:
            second = RedoLog(directory / "redo2.log", uuid)
        except BaseException:
            first.close()
            raise
        self._both = (first, second)
        self._current, self._older = self._both

    def records(self, applied: int) -> Iterator[tuple[int, bytes]]:
        """Yield (number, payload) of the valid prefix beyond `applied`; appending goes on behind the last one."""
        self._older, self._current = sorted(self._both, key=lambda log: log.first or 0)
        for log in (self._older, self._current):
            for number, payload in log.records(applied):
                applied = number
                yield number, payload

    def append(self, number: int, payload: bytes) -> None:
        """Write one record.

        Raises:
            OSError: nothing was appended.
        """
        self._current.append(number, payload)

    def take_back(self) -> None:
        """Undo the last append, before anything else is appended."""
        self._current.take_back()

    def turn(self) -> None:
        """A commit holds everything appended so far; what comes next goes over what the commit before it held."""
        self._current, self._older = self._older, self._current
        self._current.cut()

    def cut(self) -> None:
        """Begin again: everything appended so far is durable elsewhere."""
        for log in self._both:
            log.cut()

    def reset(self) -> None:
        """Write empty logs with their room, and no remains of older records."""
        self._current, self._older = self._both
        for log in self._both:
            log.reset()

    def sync(self) -> None:
        """Make everything appended so far survive a power cut; from any thread, also while the logs take turns."""
        for log in self._both:
            log.sync()

    @property
    def is_durable(self) -> bool:
        """Whether everything appended so far would survive a power cut."""
        return all(log.is_durable for log in self._both)

    @property
    def bytes_used(self) -> int:
        """By what came after the newest commit."""
        return self._current.bytes_used

    def close(self, *, empty: bool = False) -> None:
        """Close the files once a running `sync` is done; `empty` gives their room back."""
        for log in self._both:
            log.close(empty=empty)
