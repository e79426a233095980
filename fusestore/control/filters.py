"""What a watcher wants to hear of: some paths, roots or kinds of events.

An event concerns a path when it is about the object there or below it, before or after, by any of its names. A rename
or removal of a directory above is one event for all that lies below, so it concerns the path, too, as does what the
directory was found to hold, and what happens to its root. It concerns a root when the bytes are there or belong there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

OF_ALL_BELOW: Final = ("move", "remove")  # operations
OF_WHAT_IS_IN_IT: Final = "adopted"  # a kind: what a directory had came with it, and is not told by itself
OF_A_ROOT: Final = ("root-", "drain-")  # beginnings of kinds
ALWAYS: Final = "epoch"  # a kind: what was seen before may not have survived


class Filter(NamedTuple):
    """None does not ask; an empty one is met by nothing."""

    paths: tuple[str, ...] | None = None
    roots: frozenset[str] | None = None
    kinds: frozenset[str] | None = None

    def passes(self, event: Mapping[str, Any]) -> bool:
        """Whether a watcher with this filter gets an event."""
        if event["kind"] == ALWAYS:
            return True
        if self.kinds is not None and event["kind"] not in self.kinds:
            return False
        if self.roots is not None and self.roots.isdisjoint(_roots_of(event)):
            return False
        return self.paths is None or self._concerns(event)

    def shows(self, present: Mapping[str, Any]) -> bool:
        """Whether an object belongs to what is there for this watcher; kinds are of changes."""
        if self.roots is not None and self.roots.isdisjoint((present["root"], present["home"])):
            return False
        paths = present.get("paths") or (present["path"],)
        return self.paths is None or any(_is_within_one_of(path, self.paths) for path in paths)

    def _concerns(self, event: Mapping[str, Any]) -> bool:
        paths, kind = self.paths or (), event["kind"]
        sees_above = event["operation"] in OF_ALL_BELOW or kind == OF_WHAT_IS_IN_IT or kind.startswith(OF_A_ROOT)
        for changed in (event["path"], event["old_path"], *event.get("other_paths", ())):
            if changed and (_is_within_one_of(changed, paths) or (sees_above and _has_one_of(changed, paths))):
                return True
        return False


def _roots_of(event: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the bytes are and were, and where the names say that they belong."""
    return (event["root"], event["old_root"], _home(event["path"]), _home(event["old_path"]))


def _home(path: str) -> str:
    area, _, below = path.partition("/")
    return below.partition("/")[0] if area == "resources" else area


def _is_within_one_of(path: str, tops: tuple[str, ...]) -> bool:
    return any(not top or path == top or (path.startswith(top) and path[len(top)] == "/") for top in tops)


def _has_one_of(top: str, paths: tuple[str, ...]) -> bool:
    return any(_is_within_one_of(path, (top,)) for path in paths)
