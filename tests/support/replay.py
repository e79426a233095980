"""A tree made from events alone, as a watcher would keep one: what the feed tells must be the whole truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusestore.model import MOUNT_ROOT, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusestore.model import Event, InodeNo


class Replay:
    """Directories by inode, each with its names; everything follows from the events in their order.

    Args:
        tops: paths that exist before the first event, with their inodes.
    """

    def __init__(self, tops: dict[bytes, InodeNo]) -> None:
        self._children: dict[InodeNo, dict[bytes, InodeNo]] = {MOUNT_ROOT: {}}
        self._seq = 0
        for path, number in sorted(tops.items()):
            self._put(path, number)

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            assert event.seq > self._seq, f"event {event.seq} comes after {self._seq}"
            self._seq = event.seq
            if event.operation is Operation.INSERT:
                assert self._get(event.path) is None, f"{event.path!r} was there before {event}"
                self._put(event.path, event.inode)
            elif event.operation is Operation.REMOVE:
                assert self._get(event.path) == event.inode, f"{event.path!r} was another before {event}"
                self._drop(event.path)
            elif event.operation is Operation.MOVE:
                if self._get(event.old_path) == event.inode:  # else the first half of an exchange has put another there
                    self._drop(event.old_path)
                self._put(event.path, event.inode)

    def paths(self) -> dict[bytes, InodeNo]:
        """Every path with its inode."""
        found: dict[bytes, InodeNo] = {}
        todo = [(b"", MOUNT_ROOT)]
        while todo:
            path, number = todo.pop()
            for name, child in self._children.get(number, {}).items():
                below = path + b"/" + name if path else name
                found[below] = child
                todo.append((below, child))
        return found

    def _directory(self, path: bytes) -> tuple[dict[bytes, InodeNo], bytes]:
        parent, _, name = path.rpartition(b"/")
        number = MOUNT_ROOT
        for step in parent.split(b"/") if parent else []:
            number = self._children[number][step]
        return self._children.setdefault(number, {}), name

    def _get(self, path: bytes) -> InodeNo | None:
        names, name = self._directory(path)
        return names.get(name)

    def _put(self, path: bytes, number: InodeNo) -> None:
        names, name = self._directory(path)
        names[name] = number

    def _drop(self, path: bytes) -> None:
        names, name = self._directory(path)
        del names[name]
