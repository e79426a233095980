"""The hash of a file's content for somebody who asks for it: the recorded one, or made now where there is none yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from fusestore.core.rights import READ, may
from fusestore.errors import Forbidden, InUse, NotFound
from fusestore.model import State
from fusestore.service import finalizing, listing, looking, verifying, writing
from fusestore.service.breath import Breath
from fusestore.service.syncing import sync

if TYPE_CHECKING:
    from fusestore.core.rights import Asker
    from fusestore.model import Inode, InodeNo
    from fusestore.service.store import Store

LOOK_S: Final = 0.05  # between two looks whether what was written is finalized


async def digest(store: Store, number: InodeNo, asker: Asker | None) -> Inode:
    """The record of a file with the hash of its present content; found out and recorded if it is not known.

    Raises:
        Forbidden: the asker may not read it; IsADirectory, InvalidRequest: it has no content; InUse: it is being
        written; NotFound, RootOffline; OSError as the disk says.
    """
    breath = Breath(asker.uid if asker is not None else None)
    while True:
        await breath.take()
        inode = looking.getattr(store, number).inode
        writing.check_regular(store, inode)
        if not may(asker, inode, READ):
            raise Forbidden(listing.path_for(store, number, asker) or b"")
        if store.files.has_writer(number):
            raise InUse(store.path(number) or b"")
        if inode.current_hash and number not in store.suspects:
            return inode
        if inode.state is State.WRITING:  # it is on its way to be durable, and its hash with it
            store.on_unsettled(number)
            await trio.sleep(LOOK_S)
        elif number in store.digesting:
            await trio.sleep(LOOK_S)
        else:
            store.digesting.add(number)
            try:
                await _find_out(store, number)
            finally:
                store.digesting.discard(number)


async def _find_out(store: Store, number: InodeNo) -> None:
    """Read a file that is at rest, and record its hash if it still is afterwards."""
    at = store.place(number)
    work = finalizing.take(store, number)
    if work is None:
        raise NotFound(store.path(number) or b"")
    await sync(store, at.driver)
    found = await verifying.read_at_once(store, store.place(number), store.config.hash.algorithm)
    finalizing.settle(store, work, found)
