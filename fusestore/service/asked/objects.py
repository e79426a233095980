"""What is known of single objects, and which there are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fusestore.errors import FusestoreError, NotFound
from fusestore.model import InodeNo, JournalEntry
from fusestore.roots.hashing import tagged
from fusestore.service import copies, describing, digesting, explaining, listing, remembering, retrieving, xattrs
from fusestore.service.asked.names import Names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fusestore.core.rights import Asker
    from fusestore.model import Owner
    from fusestore.service.asking import Answer
    from fusestore.service.verifying import Report


class Objects(Names):
    """What is asked about objects."""

    _mountpoint: Path

    def record(self, inode: InodeNo) -> dict[str, Any]:
        """What is known of an object, with the name it was registered under and its content type."""
        record = describing.record(self._store, self._store.inode(inode))
        return {
            **record,
            "name": self._kept(inode, xattrs.NAME),
            "content_type": self._kept(inode, xattrs.CONTENT_TYPE),
        }

    def _kept(self, inode: InodeNo, attribute: bytes) -> str:
        try:
            return describing.text(xattrs.get(self._store, inode, attribute))
        except (OSError, FusestoreError):
            return ""

    def holding(self, hash: tuple[str, bytes]) -> InodeNo:
        """A file whose present content has this hash.

        Raises:
            NotFound
        """
        for number in self._store.index.by_hash(*hash):
            if self._store.index.parents(number):
                return number
        raise NotFound(f"no file with the hash {tagged(*hash)}")

    async def entries(
        self,
        what: str,
        asker: Asker | None,
        wanted: Mapping[str, Any],
        report: Report,
        *,
        recursive: bool,
        after: str | None,
        limit: int,
    ) -> dict[str, Any]:
        """A page of what is in a directory, or below it, and is as `wanted`; see `listing.page` and `Wanted`."""
        if wanted.get("root") is not None:
            retrieving.roots_of(self._store, wanted["root"])
        name = wanted.get("name")
        page = await listing.page(
            self._store,
            self.find(what, asker),
            asker,
            listing.Wanted(**{**wanted, "name": listing.pattern(name) if name is not None else None}),
            lambda count: report(count, 0, "names"),
            recursive=recursive,
            after=os.fsencode(after) if after is not None else None,
            limit=limit,
        )
        return page._asdict()

    async def digest(self, what: str, asker: Asker | None) -> dict[str, Any]:
        """The hash of a file's present content, read if it is not known; see `digesting.digest`."""
        inode = await digesting.digest(self._store, self.find(what, asker), asker)
        return {
            "id": describing.id_text(inode.id),
            "path": describing.text(listing.path_for(self._store, inode.number, asker)),
            "version": inode.version,
            "size": inode.size,
            "hash": tagged(inode.hash_algorithm, inode.current_hash),
        }

    def locations(self, inode: InodeNo) -> list[dict[str, Any]]:
        """Every place where the object's bytes are."""
        return copies.locations(self._store, self._store.inode(inode))

    async def reread(self, inode: InodeNo, owner: Owner, report: Report) -> list[dict[str, Any]]:
        """The same after reading each copy again; see `copies.reread`."""
        return await copies.reread(self._store, inode, owner, report)

    def history(self, what: str) -> list[dict[str, Any]]:
        """Everything that happened to an object, oldest first; a removed one is known by its full id."""
        known = self._by_id(what)  # also one that no path leads to now
        try:
            inode = self._store.inode(self.find(what) if known is None else known)
        except NotFound:
            entries = remembering.by_id(self._store, what)
            if not entries:
                raise
            return [describing.history(entry) for entry in entries]
        created = JournalEntry(time_ns=inode.created_ns, command="create", outcome="done", version=1)
        return [describing.history(entry) for entry in (created, *self._store.index.journal(inode.id))]

    async def explain(self, what: str) -> tuple[dict[str, Any], list[Answer]]:
        """Why an object is where it is, and what calls on it would be told; or what is known of one that is gone.

        Raises:
            NotFound: nothing is known of it.
        """
        try:
            inode = self._store.inode(self.find(what))
        except NotFound:
            gone = await remembering.explain(self._store, what)
            if gone is None:
                raise
            return gone, []
        return await explaining.explain(self._store, self._mountpoint, inode)
