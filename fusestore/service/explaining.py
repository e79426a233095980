"""Why an object is where it is, and why it cannot move or go: facts with stable codes, and the one that matters first.

Nothing is changed here but what a look at the object changes (`looking.see`). A disk that does not answer is a fact
like any other.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from fusestore.core import moves
from fusestore.core.intents import Discard, Writing
from fusestore.errors import FusestoreError
from fusestore.model import FIRST_INODE, Layout, MoveState, Outcome, ReplicaState, State, counted
from fusestore.service import describing, moving, soundness
from fusestore.service.asking import ask
from fusestore.service.holders import holders
from fusestore.service.looking import see
from fusestore.service.space import usable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusestore.core.ports import Driver
    from fusestore.model import Inode, InodeNo, Move, Replica, RootNo, Spot
    from fusestore.service.asking import Answer
    from fusestore.service.holders import Holder
    from fusestore.service.store import Store

STRANGERS_SHOWN: Final = 3


class Fact(NamedTuple):
    """One thing that is so; `hint` is what an operator can do about it, "" for nothing."""

    code: str
    text: str
    hint: str = ""


# What says most about an object comes first; the verdict is the first of these that is so.
ORDER: Final = (
    "index-fault", "skeleton", "vanished", "root-offline", "unreadable", "damaged", "conflict", "move-waiting",
    "move-paused", "move-running", "move-queued", "unfinished", "interrupted", "open-for-writing", "unsettled",
    "root-read-only", "root-full", "reserved", "leftover-directory", "on-its-way", "elsewhere", "aside", "guest",
    "index-only", "at-home", "condemned", "open-for-reading", "hash-unknown", "hash-known",
)  # fmt: skip

HINTS: Final = {
    moves.CHANGED: "it is copied again by itself",
    moves.ANOTHER_MOVE: "it goes on by itself when that move is over",
    moves.NOT_ALL_THERE: "it goes on by itself; ask about the files in it",
    moves.BUG: "report it, with the log; its bytes stay where they are; it is tried again by itself",
    moves.NO_ROOM: "free room on the target root, or move it back; it is tried again by itself",
}


async def explain(store: Store, mountpoint: Path, inode: Inode) -> tuple[dict[str, Any], list[Answer]]:
    """The record of an object with all that explains it, and what calls on it would be told."""
    facts: list[Fact] = []
    try:
        inode = see(store, inode).inode
    except (OSError, FusestoreError) as error:
        facts.append(Fact("unreadable", f"it cannot be looked at: {_words(error)}"))
    opened = store.files.get(inode.number)
    writers = opened.writers if opened is not None else 0
    readers = opened.handles - writers if opened is not None else 0
    found = await trio.to_thread.run_sync(holders, os.fspath(mountpoint), inode.number) if writers + readers else []
    concerned = list(_moves_of(store, inode.number))
    facts += _whole(store, inode)
    facts += _position(store, inode, concerned)
    facts += (_fact_of(moving.current(store, move)) for move in concerned)
    facts += _roots(store, inode, concerned)
    facts += _in_the_way(store, inode)
    facts += _left_behind(store, inode)
    facts += _content(store, inode, writers)
    facts += _opened(found, writers, readers)
    facts += _reserved(store, inode)
    facts += _unfinished(store, inode)
    facts.sort(key=lambda fact: ORDER.index(fact.code))
    answer = describing.known(store, inode)
    answer |= told(answer["path"] or "/", facts)
    answer["hash_version"] = inode.hash_version if inode.hash else 0
    answer["moves"] = [move.number for move in concerned]
    answer["writers"], answer["readers"] = writers, readers
    answer["processes"] = [holder._asdict() for holder in found]
    return answer, await ask(store, inode)


def told(subject: str, facts: list[Fact]) -> dict[str, Any]:
    """The facts in the form that is shown, with the first of them as the verdict."""
    first = facts[0]
    verdict = f"{subject}: {first.text}" + (f"; {first.hint}" if first.hint else "")
    return {"verdict": verdict, "code": first.code, "facts": [fact._asdict() for fact in facts]}


def moment(time_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns / 1e9))


def _words(error: OSError | FusestoreError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _whole(store: Store, inode: Inode) -> Iterator[Fact]:
    if store.index.fault is not None:
        hint = "umount, see to the disk of the store, and mount again"
        yield Fact("index-fault", f"nothing in the store can be changed: {store.index.fault.args[0]}", hint)
    if inode.number < FIRST_INODE or inode.number in store.tops:
        yield Fact("skeleton", "it is part of the store's own skeleton, which cannot be removed or renamed")
    since = store.index.vanished_at(inode.number)
    if since is not None:
        text = f"somebody took it away on its disk, seen {moment(since)}; its id is kept for a day"
        yield Fact("vanished", text, "put it back under any name on the same root, and it is the same object")


def _position(store: Store, inode: Inode, concerned: list[Move]) -> Iterator[Fact]:
    """Where the bytes are, and where the names say they belong."""
    spots, home = store.placement.spots(inode.number), store.placement.home(inode.number)
    if not spots or home is None:
        return
    here, wanted = store.roots[spots[0].root], store.roots[home]
    if not store.disk_spots(inode, spots):
        yield Fact("index-only", f"it lies on no disk: of {here.name} only the files do, all else is in the index")
    elif store.placement.is_home(inode.number):
        yield Fact("at-home", f"its bytes are on {here.name}, where its name says")
    elif concerned or here is wanted:
        yield Fact("on-its-way", f"its name says {wanted.name}, its bytes are on {here.name}")
    else:
        yield _elsewhere(store, inode, here, wanted)
    if spots[0].by_id and here.layout is Layout.TREE and any(_left_from(store, move, here) for move in concerned):
        yield Fact("aside", f"it stepped aside on {here.name}, because something else needed its old place")
    homes = {store.placement.directory_home(parent) for parent, _ in store.index.parents(inode.number)}
    if len(homes) > 1:
        names = ", ".join(sorted(store.roots[root].name for root in homes if root is not None))
        text = f"it has names on {names}; its bytes stay on {here.name} as long as one of them is there"
        yield Fact("guest", text, "remove or rename the names on that root to let it go")


def _elsewhere(store: Store, inode: Inode, here: Driver, wanted: Driver) -> Fact:
    """Why the bytes of a file are not where its name says, and no move brings them there."""
    text = f"its name says {wanted.name}, its bytes are on {here.name}"
    if wanted.number in store.drains:
        return Fact("elsewhere", f"{text}, because {wanted.name} is drained and takes nothing")
    given_up = any(
        entry.command == "drop" and entry.old_root == wanted.name and entry.new_root
        for entry in store.index.journal(inode.id)
    )
    why = f", because the copy on {wanted.name} was given up" * given_up
    return Fact("elsewhere", text + why, f"the next rename of it brings them to {wanted.name}")


def _left_from(store: Store, move: Move, root: Driver) -> bool:
    """Whether what a move brings away had its name, and so its old place, on a root."""
    tops = (store.path(top) for top, number in store.tops.items() if number == root.number)
    return any(top is not None and move.old_path.startswith(top + b"/") for top in tops)


def _moves_of(store: Store, number: InodeNo) -> Iterator[Move]:
    """The open moves of an object and of the directories it lies in."""
    while store.index.has_open_moves():
        yield from store.index.open_moves_of(number)
        names = store.index.parents(number)
        if not names:
            return
        number = names[0][0]


def _fact_of(move: Move) -> Fact:
    what = f"move {move.number} from {move.source} to {move.target}"
    if move.state is MoveState.WAITING:
        hint = HINTS.get(move.reason, "it is tried again by itself, and goes on when the cause is gone")
        return Fact("move-waiting", f"{what} waits: {move.reason}", hint)
    if move.state is MoveState.PAUSED:
        return Fact("move-paused", f"{what} is paused", f"`fusestore moves resume {move.number}` lets it go on")
    if move.state is MoveState.RUNNING:
        return Fact(
            "move-running",
            f"{what} is running, {move.files_done} of {counted(move.files_total, 'file is', 'files are')} there",
        )
    return Fact(f"move-{move.state}", f"{what} waits for its turn")


def _roots(store: Store, inode: Inode, concerned: list[Move]) -> Iterator[Fact]:
    """What is wrong with the roots where the bytes are and where a move brings them."""
    here = {spot.root for spot in store.placement.spots(inode.number)}
    home = store.placement.home(inode.number)
    replicas = ", ".join(store.roots[root].name for root, _ in _good_replicas(store, inode))
    for number in sorted(here | ({home} if home is not None and concerned else set())):
        root = store.roots[number]
        if not root.online:
            text = f"root {root.name} is offline: "
            if number not in here:
                text += "its bytes cannot get there"
            elif replicas:
                text += f"its bytes are read from the replica on {replicas}, and cannot be written, moved or removed"
            else:
                text += "its bytes cannot be read, written, moved or removed"
            yield Fact("root-offline", text, f"bring back the disk of {root.path}")
            continue
        if root.read_only:
            yield Fact("root-read-only", f"root {root.name} is read-only")
        space = usable(store, root)
        needed = inode.size if number not in here and inode.is_regular else 0
        if space is not None and space.available <= needed:
            text = (
                f"root {root.name} is full: {counted(space.available, 'byte is', 'bytes are')} free"
                + f", {needed} needed" * bool(needed)
            )
            yield Fact("root-full", text, "remove or move something else there")


def _in_the_way(store: Store, inode: Inode) -> Iterator[Fact]:
    """What lies at the places that an object, and the directories it lies in, have to get to."""
    number: InodeNo | None = inode.number
    while number is not None and number >= FIRST_INODE and number not in store.tops:
        record = store.index.inode(number)
        if record is not None and not store.placement.is_home(number):
            for spot in store.disk_spots(record, store.placement.home_spots(number)):
                stranger = _stranger(store, record, spot)
                if stranger:
                    yield Fact("conflict", f"{stranger} is in its way", "move that away; the move goes on by itself")
        names = store.index.parents(number)
        number = names[0][0] if names else None


def _stranger(store: Store, inode: Inode, spot: Spot) -> str:
    """What lies at `spot` and will not make way by itself; "" for nothing."""
    if spot.by_id or spot in store.condemned or store.index.occupant(spot) is not None:
        return ""
    try:
        at = store.places.at(spot, inode.number)
        seen = at.driver.stat(at.directory, at.name)
        mine = at.driver.backing(at.directory, at.name) == inode.backing
    except (OSError, FusestoreError):
        return ""
    kind = describing.TYPES.get(seen.st_mode & 0o170000, "object")
    size = f" of {counted(seen.st_size, 'byte')}" if kind == "file" else ""
    where = describing.disk_path(store, at.driver, spot, inode)
    return "" if mine else f"{where}, a {kind}{size} that the index does not know, changed {moment(seen.st_mtime_ns)},"


def _left_behind(store: Store, inode: Inode) -> Iterator[Fact]:
    """Directories that were left and are still there, and why."""
    if not inode.is_dir or not store.placement.is_home(inode.number):
        return
    home = store.placement.home(inode.number)
    for spot in store.index.skeletons(inode.number):
        if spot.root != home:
            root = store.roots[spot.root]
            where = describing.disk_path(store, root, spot, inode) or f"a place on {root.name}"
            strangers = _names_in(store, inode.number, spot.root)
            text = f"{where}, which it has left, is still there" + (f" with {strangers} in it" if strangers else "")
            yield Fact("leftover-directory", text, "what is in it and not in the mount is somebody's; take it out")


def _names_in(store: Store, directory: InodeNo, root: RootNo) -> str:
    try:
        driver, fd = store.places.directory(directory, root)
        names = sorted(describing.text(name) for name in driver.list(fd))
    except (OSError, FusestoreError):
        return ""
    more = f" and {len(names) - STRANGERS_SHOWN} more" if len(names) > STRANGERS_SHOWN else ""
    return ", ".join(names[:STRANGERS_SHOWN]) + more


def _content(store: Store, inode: Inode, writers: int) -> Iterator[Fact]:
    """How far the content can be trusted."""
    if not inode.is_regular:
        return
    if inode.state is State.INTERRUPTED:
        said = [entry.outcome for entry in store.index.journal(inode.id) if entry.outcome.startswith("interrupted: ")]
        why = said[-1].removeprefix("interrupted: ") if said else "its writer was cut off"
        yield Fact("interrupted", f"its content is not what its writer wrote: {why}", "write it anew, or remove it")
    elif inode.state is State.WRITING and not writers:
        yield Fact("unsettled", "it was closed and is not durable and hashed yet", "see `fusestore wait`")
    bad = soundness.unsound(store, inode)
    if bad is not None:
        how = "does not match its recorded hash" if bad.outcome is Outcome.DAMAGED else "cannot be read from its disk"
        text = f"its content {how}, seen {moment(bad.time_ns)}; mv renames it, and a move to another disk waits for"
        hint = "put a good copy in its place (cp over it), or, if it is right as it is, write it anew"
        good = [store.roots[root].name for root, record in _good_replicas(store, inode) if _is_same(record, inode)]
        if good:
            hint = f"`fusestore scrub --root {store.roots[bad.root].name}` repairs it from the replica on {good[0]}"
        yield Fact("damaged", f"{text} it to be whole", hint)
    elif inode.current_hash:
        at_ns = describing.verification(store, inode)["verified_ns"]
        when = f"was compared with the disk {moment(at_ns)}" if at_ns else "was not compared with the disk yet"
        verified = [
            f"{store.roots[root].name} was {moment(record.verified_ns)}"
            for root, record in store.index.replicas(inode.number)
            if record.state is ReplicaState.CURRENT
        ]
        replicas = "".join(f"; its replica on {each}" for each in verified)
        yield Fact("hash-known", f"the hash of version {inode.version} is recorded and {when}{replicas}")
    else:
        yield Fact("hash-unknown", f"no hash of version {inode.version} is recorded: it was not written or moved here")


def _good_replicas(store: Store, inode: Inode) -> list[tuple[RootNo, Replica]]:
    """The replicas that are known to be current and are within reach."""
    return [
        (root, record)
        for root, record in store.index.replicas(inode.number)
        if record.state is ReplicaState.CURRENT and store.roots[root].online
    ]


def _is_same(record: Replica, inode: Inode) -> bool:
    """Whether a replica was made of what the file's hash says; it may be of damaged bytes."""
    return (record.algorithm, record.digest) == (inode.hash_algorithm, inode.current_hash)


def _opened(found: list[Holder], writers: int, readers: int) -> Iterator[Fact]:
    for count, how, code in ((writers, "writing", "open-for-writing"), (readers, "reading", "open-for-reading")):
        if count:
            who = [f"{each.command} ({each.pid})" for each in found if each.writes == (how == "writing")]
            times = f", {count} times" if count > 1 else ""
            yield Fact(code, f"it is open for {how}{times}" + (f" by {', '.join(who)}" if who else ""))


def _reserved(store: Store, inode: Inode) -> Iterator[Fact]:
    for owner in store.reservations.owners(inode.number):
        text = f"it is reserved by {owner}, and can be neither removed nor replaced"
        yield Fact("reserved", text, "it is free once that connection releases it or ends")


def _unfinished(store: Store, inode: Inode) -> Iterator[Fact]:
    """What was decided about it and is not done."""
    for _, intent in store.condemned.of(store.condemned.keys()):
        if intent.inode == inode.number:
            root: Driver = store.roots[intent.spots[0].root]
            yield Fact("condemned", f"old bytes of it on {root.name} wait to be destroyed")
    for _, begun in store.index.intents():
        if (
            begun.inode == inode.number
            and not isinstance(begun, Discard | Writing)
            and not getattr(begun, "done", False)
        ):
            what = type(begun).__name__.lower()
            yield Fact("unfinished", f"a change of it that was cut off ({what}) waits for its root to be back")
