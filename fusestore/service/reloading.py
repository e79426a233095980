"""The settings of a mounted store, taken in again from its file.

    load, look names up   in a thread, because disks and directories of users may be slow; nothing has changed yet
    change                plain `def`: nobody sees half of it

What `AT_ONCE` has counts from then on. Everything else stays as it was mounted, also in `Store.config`, and is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import structlog
import trio
from msgspec import Struct, structs

from fusestore import config as settings
from fusestore.service import keeping
from fusestore.service.founding import refuse_missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusestore.config import Config
    from fusestore.service.store import Store

log = structlog.get_logger()

# Every table of the config, and which of its keys change under a mount.
AT_ONCE: Final[Mapping[str, tuple[str, ...]]] = {
    "mount": ("prefer",),
    "control": ("readers", "operators", "admins"),
    "hash": (),
    "index": ("commit_s",),
    "events": ("keep", "keep_days", "keep_unacked"),
    "moves": ("workers", "per_pair", "rate"),
    "scrub": ("every_days", "rate"),
    "log": ("level",),
    "roots": ("copies", "trash_s", "trash_removed"),
}

# A part of the daemon that goes by some setting: looks at the new ones, where it may refuse them and take its time, and
# returns what makes them count, which cannot fail.
Part = Callable[["Config"], Callable[[], None]]
_Table = TypeVar("_Table", bound=Struct)


class Change(NamedTuple):
    """What another config means for a mounted store."""

    config: Config  # what it goes by from now on
    applied: list[str]  # keys, as in "moves.rate"
    needs_remount: list[str]


def compare(present: Config, wanted: Config) -> Change:
    """What of `wanted` can be had now.

    Raises:
        UsageError: a root is missing from it.
    """
    refuse_missing(wanted, [root.name for root in present.roots])
    change = Change(present, [], [])
    sections: dict[str, Any] = {
        name: _taken(change, AT_ONCE[name], name, getattr(present, name), getattr(wanted, name))
        for name in AT_ONCE
        if name != "roots"
    }
    named = {root.name: root for root in wanted.roots}
    roots = tuple(
        _taken(change, AT_ONCE["roots"], f"roots.{root.name}", root, named.pop(root.name)) for root in present.roots
    )
    change.needs_remount.extend(f"roots.{name}" for name in named)
    return change._replace(config=structs.replace(present, roots=roots, **sections))


def _taken(change: Change, at_once: tuple[str, ...], key: str, present: _Table, wanted: _Table) -> _Table:
    taken = {}
    for name in present.__struct_fields__:
        value = getattr(wanted, name)
        if value == getattr(present, name):
            continue
        if name in at_once:
            taken[name] = value
        (change.applied if name in at_once else change.needs_remount).append(f"{key}.{name}")
    return structs.replace(present, **taken)


class Reloading:
    """Takes the settings in again, one time after the other.

    Attributes:
        parts: who, beside the store, goes by settings.
    """

    def __init__(self, store: Store) -> None:
        self.parts: list[Part] = []
        self._store = store
        self._one_at_a_time = trio.Lock()

    async def reload(self) -> dict[str, list[str]]:
        """Take the settings in; returns the keys that are `applied`, and those that need a mount.

        Raises:
            UsageError, StoreError: they are wrong, or cannot be read; nothing has changed.
            IndexFault, IndexFull: nothing has changed, either.
        """
        async with self._one_at_a_time:
            change, commits = await trio.to_thread.run_sync(self._prepare)
            self._apply(change)
            for commit in commits:
                commit()
        told = {"applied": change.applied, "needs_remount": change.needs_remount}
        log.info("settings taken in again", **{kind: " ".join(keys) for kind, keys in told.items()})
        return told

    def _prepare(self) -> tuple[Change, list[Callable[[], None]]]:
        present = self._store.config
        change = compare(present, settings.load(present.store))
        return change, [part(change.config) for part in self.parts]

    def _apply(self, change: Change) -> None:
        store, before = self._store, self._store.config
        store.configure(change.config)
        try:
            keeping.begin(store)
        except BaseException:
            store.configure(before)
            raise
