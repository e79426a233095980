"""Contents that come by the socket, and files that somebody there relies on."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from fusestore.errors import Forbidden, NotFound
from fusestore.model import DOWNLOADS, UPLOADS, InodeNo
from fusestore.service import acting, describing, reserving
from fusestore.service.asked.names import Names

if TYPE_CHECKING:
    from fusestore.core.rights import Asker
    from fusestore.model import Owner


class Contents(Names):
    """What is done with contents."""

    async def register(
        self, name: str, body: bytes, content_type: str, mode: int, owner: Owner, asker: Asker, *, download: bool
    ) -> dict[str, Any]:
        """Make a new file in `uploads` or `downloads`; see `acting.register`."""
        area = DOWNLOADS if download else UPLOADS
        id, path = await acting.register(self._store, area, os.fsencode(name), body, content_type, mode, owner, asker)
        return {"id": id, "path": describing.text(path)}

    async def write(self, what: str, body: bytes, owner: Owner, asker: Asker) -> dict[str, Any]:
        """Replace a content whole; see `acting.write`."""
        number = self.find(what, asker)
        path, old = self._paths(what, number)[0], self._store.inode(number)
        id = await acting.write(self._store, number, path, body, owner, asker)
        return {"id": id, "path": describing.text(path), "old_id": describing.id_text(old.id)}

    async def unlink(self, what: str, owner: Owner, asker: Asker) -> bool:
        """Remove a name, or by id all names of a file; whether there was one."""
        try:
            paths = self._paths(what, self.find(what, asker))
        except NotFound:
            return False
        return await acting.unlink(self._store, paths, owner, asker)

    def _paths(self, what: str, number: InodeNo) -> list[bytes]:
        """The path that was named, or all that lead to what an id has named."""
        if self._by_id(what) is None:
            return [os.fsencode(what)]
        paths = [self._store.join(*name) for name in self._store.index.parents(number)]
        return [path for path in paths if path is not None]

    def reserve(self, ids: list[str], owner: str, holder: object, asker: Asker | None) -> list[str]:
        """Keep files from being removed as long as a connection lasts; see `reserving.reserve`. Returns their ids."""
        numbers = [self.find(each, asker) for each in ids]
        reserving.reserve(self._store, numbers, owner, holder, asker)
        return [describing.id_text(self._store.inode(number).id) for number in numbers]

    def unreserve(self, ids: list[str], owner: str, holder: object, asker: Asker | None) -> int:
        """Give up what was reserved; returns how many files those were, and says nothing of any others."""
        claims = set()
        for each in ids:
            with contextlib.suppress(NotFound, Forbidden):
                claims.add((self.find(each, asker), owner))
        return self._store.reservations.remove(holder, claims)

    def unreserve_all(self, holder: object) -> None:
        """A connection has ended, and with it what it has reserved."""
        self._store.reservations.remove(holder, self._store.reservations.of(holder))

    def has_reserved(self, holder: object) -> bool:
        """Whether a connection has anything reserved."""
        return bool(self._store.reservations.of(holder))
