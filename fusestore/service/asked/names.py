"""What a path or an id on the socket leads to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fusestore.core.rights import SEARCH, may
from fusestore.errors import Forbidden, InvalidRequest, NotFound
from fusestore.model import MOUNT_ROOT, InodeNo
from fusestore.service import listing, looking

if TYPE_CHECKING:
    from fusestore.core.rights import Asker
    from fusestore.service.store import Store

ID_PREFIX_DIGITS = 8


class Names:
    """Finds what is named."""

    _store: Store

    def find(self, what: str, asker: Asker | None = None) -> InodeNo:
        """The inode of a path relative to the mount, or of an id or a unique prefix of one.

        Raises:
            NotFound; InvalidRequest: the prefix is not unique; Forbidden: the asker, if there is one, does not get
            there.
        """
        if asker is not None and asker.uid not in (0, os.geteuid()) and not self._store.config.mount.allow_other:
            raise Forbidden("the mount is closed to other users (mount.allow_other)")
        try:
            number = self._by_id(what)
        except InvalidRequest:
            if asker is None:
                raise
            raise NotFound(os.fsencode(what)) from None  # there may be some that it knows nothing of
        if number is not None:
            if self._store.path(number) is None:
                raise NotFound(os.fsencode(what))  # it went with a directory, and is kept should that come back
            listing.check_reach(self._store, number, asker)
            return number
        number = MOUNT_ROOT
        for name in os.fsencode(what).split(b"/"):
            if name not in (b"", b"."):
                if asker is not None and not may(asker, looking.getattr(self._store, number).inode, SEARCH):
                    raise Forbidden(os.fsencode(what))
                if not self._store.inode(number).is_dir:
                    raise NotFound(os.fsencode(what))
                try:
                    number = looking.lookup(self._store, number, name).inode.number
                except NotFound:
                    raise NotFound(os.fsencode(what)) from None
        return number

    def _by_id(self, what: str) -> InodeNo | None:
        digits = what.replace("-", "")
        if not ID_PREFIX_DIGITS <= len(digits) <= 32:
            return None
        try:
            start = bytes.fromhex(digits.ljust(32, "0"))
        except ValueError:
            return None
        found = self._store.index.ids_from(start, 2)  # a second one that fits is one too many
        matches = [number for id, number in found if id.hex().startswith(digits.lower())]
        if len(matches) > 1:
            raise InvalidRequest(f"{what} is the beginning of several ids; give more digits")
        return matches[0] if matches else None
