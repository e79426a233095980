"""Numbers that are never given out twice: inode numbers, and seqs within an epoch.

What may not happen here: reading or writing the index; this is arithmetic over what it stored.

**High-water marks.** The counters are in every commit, but up to a second of them is not committed yet, and a power
cut takes that second away with the log records that were not synced. So numbers are used only below a limit that a
durable commit raised *before*: in blocks of `BLOCK`, renewed in passing by the regular commits. After an unclean end,
inode numbers go on at the limit.

**Seqs** may not jump like that: a watcher is promised that there is no gap after `kill -9`. A killed process loses
nothing that it wrote, because the page cache stays; a power cut does lose. The two must be told apart, and the
machine's boot id cannot do it: a virtual machine goes back to an older image of its disk, or a file system is
remounted after an I/O error, without a new boot, and an orderly reboot changes it though nothing was lost. What has
to be known is not whether the machine stayed up but whether the log still holds the last record it ever took. So
there is a *witness* (`index.witness`) in memory outside the process:

    witness of the same run, not ahead of the replayed log   nothing was lost: seqs go on without a gap
    ahead, of another run, or missing                        something may be lost: epoch + 1, seqs go on at the
                                                             limit, and an `epoch` event says so

The log is written first and the witness after it, and events are shown to watchers after both: what anyone saw is
witnessed, and a kill between the two leaves the witness behind the log, which is no loss.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fusestore.index.schema import Numbers
from fusestore.model import FIRST_INODE

if TYPE_CHECKING:
    from fusestore.index.witness import Testimony

BLOCK: Final = 65536
FIRST: Final = Numbers(next_inode=FIRST_INODE, last_seq=0, epoch=1, inode_limit=FIRST_INODE + BLOCK, seq_limit=BLOCK)


def renewed(numbers: Numbers) -> Numbers:
    """The same counters with limits that leave at least half a block; valid once they are committed."""
    inode_limit, seq_limit = numbers.inode_limit, numbers.seq_limit
    if inode_limit - numbers.next_inode < BLOCK // 2:
        inode_limit = numbers.next_inode + BLOCK
    if seq_limit - numbers.last_seq < BLOCK // 2:
        seq_limit = numbers.last_seq + BLOCK
    return replace(numbers, inode_limit=inode_limit, seq_limit=seq_limit)


def after_unclean_end(numbers: Numbers, last_seq: int, *, lost: bool) -> Numbers:
    """Where the counters go on.

    Args:
        numbers: of the last commit.
        last_seq: of the last event in the index, replayed log included.
        lost: events may have been given out that are not in it.
    """
    numbers = replace(numbers, next_inode=numbers.inode_limit, last_seq=max(numbers.last_seq, last_seq))
    if lost:
        numbers = replace(numbers, epoch=numbers.epoch + 1, last_seq=numbers.seq_limit)
    return numbers


def beyond(inode: int, seq: int, epoch: int, move: int) -> Numbers:
    """Where the counters of a rebuilt index begin, when these are the highest that were seen of the lost one.

    It may have given out more since they were written down: a block of each, as far as anybody can tell, and an epoch
    at each start. There were fewer of those than seconds since 1970.
    """
    first, last = inode + BLOCK, seq + BLOCK
    return Numbers(
        next_inode=first,
        last_seq=last,
        epoch=max(epoch + 1, int(time.time())),
        inode_limit=first + BLOCK,
        seq_limit=last + BLOCK,
        last_move=move + BLOCK,
    )


def is_lost(testimony: Testimony | None, run: bytes, record: int) -> bool:
    """Whether a log that was replayed up to `record` may lack something that the run `run` gave out."""
    return testimony is None or testimony.run != run or testimony.record > record
