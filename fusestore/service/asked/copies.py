"""Copies on further roots, and roots that are to be empty."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import trio

from fusestore.service import absence, copies, describing, draining, dropping, emptying, replicating
from fusestore.service.asked.names import Names

if TYPE_CHECKING:
    from fusestore.model import Owner
    from fusestore.service.verifying import Report

POLL_S = 0.1  # between two looks at how far something is; what is waited for is state, not an edge
PASSES = 2  # the first may have begun before
LOOKS = 30  # a thread that takes longer is on a disk that does not answer


class Copies(Names):
    """What is asked about copies and drains."""

    def replicate(self, what: str, root: str, source: str | None, owner: Owner) -> int:
        """Record that what `what` names is to have a copy on `root`; see `replicating.want`."""
        store = self._store
        chosen = replicating.named(store, source) if source is not None else None
        return replicating.want(store, self.find(what), replicating.target(store, root), owner, source=chosen)

    async def lacking(self, what: str, root: str) -> int:
        """How many files of what `what` names would be copied to `root` now; see `copies.lacking`."""
        return await copies.lacking(self._store, self.find(what), replicating.target(self._store, root).number)

    async def replicas_made(self, what: str, root: str, report: Report) -> list[dict[str, Any]]:
        """Wait until the copies on `root` are made; returns those that are held up."""
        return await copies.made(self._store, self.find(what), replicating.named(self._store, root).number, report)

    async def drop(self, what: str, root: str, *, force_last: bool, owner: Owner, report: Report) -> dict[str, Any]:
        """Give up the copies on `root`; see `dropping.drop`."""
        store = self._store
        chosen, top = replicating.named(store, root), self.find(what)
        path = os.fsencode(what) if self._by_id(what) is None else b""
        done = await dropping.drop(
            store,
            top,
            chosen,
            force_last=force_last,
            owner=owner,
            report=lambda count: report(count, 0, "files"),
            path=path,
        )
        refused = [{"path": describing.text(path), "reason": reason} for path, reason in done.refused.items()]
        return {"dropped": done.dropped, "removed": done.removed, "refused": refused}

    def drain(self, root: str, to: list[str], owner: Owner) -> bool:
        """Record that a root is to be empty; see `draining.begin`."""
        store = self._store
        return draining.begin(
            store, replicating.named(store, root), [replicating.named(store, each) for each in to], owner
        )

    def stop_draining(self, root: str, owner: Owner) -> bool:
        """Record that it is an ordinary root again; see `draining.stop`."""
        return draining.stop(self._store, replicating.named(self._store, root), owner)

    async def release(self, root: str, owner: Owner) -> dict[str, Any] | None:
        """Let go of the disk of a drained root; see `absence.release`. Returns how the drain stands."""
        driver = replicating.named(self._store, root)
        absence.release(self._store, driver, owner)
        for _ in range(LOOKS):  # threads may have descriptors of their own for a moment
            if not self._store.threads[driver.number].borrowed_tokens:
                break
            await trio.sleep(POLL_S)
        return describing.drain(self._store, driver)

    async def plan_drain(self, root: str, to: list[str]) -> dict[str, Any]:
        """What draining a root would do; see `emptying.plan`."""
        store = self._store
        chosen = replicating.named(store, root)
        numbers = draining.check(store, chosen, [replicating.named(store, each) for each in to])
        plan = await emptying.plan(store, chosen, numbers)
        return {
            "copies": [
                {"root": store.roots[number].name, "files": files, "bytes": size}
                for number, (files, size) in plan.targets.items()
            ],
            "ready_files": plan.ready[0],
            "ready_bytes": plan.ready[1],
            "held_files": plan.held_files,
            "held_bytes": plan.held_bytes,
            "held": [{"path": describing.text(path), "reason": reason} for path, reason in plan.held.items()],
            "stays": plan.stays,
        }

    async def drained(self, root: str, report: Report) -> dict[str, Any] | None:
        """Wait until a root is empty, or that ends, or nothing goes on without help; returns how it stands.

        What held files there before may have passed: that is believed only after passes that began since.
        """
        store = self._store
        driver = replicating.named(store, root)
        known = store.emptying.get(driver.number)
        believed = known.passes + PASSES if known is not None else 0
        while (drain := store.drains.get(driver.number)) is not None and not drain.finished_ns:
            progress = store.emptying.get(driver.number)
            if progress is not None:
                report(progress.bytes_gone, progress.bytes_gone + progress.bytes_left, "bytes")
                if progress.stuck:
                    if progress is not known or progress.passes >= believed or not driver.online:
                        break
                    store.on_drain()
            await trio.sleep(POLL_S)
        return describing.drain(store, driver)
