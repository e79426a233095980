"""What a rebuild found, counted by root, with the paths of what somebody should know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct, field

if TYPE_CHECKING:
    from pathlib import Path

    from fusestore.model import RootNo

TOLD_MAX: Final = 1000  # paths of each kind that a report holds


class RootReport(Struct):
    """What was found on one root, in objects."""

    name: str
    by_label: int = 0
    by_manifest: int = 0
    by_copy: int = 0
    new: int = 0
    copies: int = 0  # of the new: those with the label of another object
    conflicts: int = 0  # of the new: those whose own label has an id that another has too
    recovered: int = 0  # found without a name, and named by their id
    replicas: int = 0  # further copies that the manifest knows
    left: int = 0  # by moves, with the content of their files; the next mount destroys them
    further_copies: int = 0  # other objects whose id has a file elsewhere; they stay where they are
    missing: int = 0  # in the manifest, and not on the disk
    unseen: int = 0  # names that the disk did not let us look at


class Told(NamedTuple):
    """One path's trouble."""

    root: str
    what: str
    path: bytes


class Report(Struct):
    """What a rebuild found, and what became of it."""

    roots: list[RootReport]
    told: list[Told] = field(default_factory=list)
    moves: int = 0  # begun again
    said_ns: int = 0  # when a manifest was last written; 0: there is none
    kept: Path | None = None  # the old index


class Tally:
    """Counts while a rebuild goes on."""

    def __init__(self, roots: dict[RootNo, str]) -> None:
        self._roots = {number: RootReport(name) for number, name in roots.items()}
        self.report = Report(list(self._roots.values()))
        self._told: dict[str, int] = {}

    def count(self, root: RootNo, what: str) -> None:
        """One more; `what` is a field of `RootReport`."""
        report = self._roots[root]
        setattr(report, what, getattr(report, what) + 1)

    def tell(self, root: RootNo, what: str, path: bytes) -> None:
        self._told[what] = self._told.get(what, 0) + 1
        if self._told[what] <= TOLD_MAX:
            self.report.told.append(Told(self._roots[root].name, what, path))
