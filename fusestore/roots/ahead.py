"""Work done ahead: the next blocks of a file are read by a thread while whoever asked for them uses the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

DEPTH: Final = 2  # items made before they are asked for
AT_A_TIME: Final = DEPTH + 1  # items that there are: the one in use too


def ahead(items: Iterator[T]) -> Generator[T]:
    """The same items, made by a thread of their own; each is good until the next is asked for.

    What making them raises comes in their place. When this generator ends, or is closed, so has the thread, and with
    it whatever made the items.
    """
    pool = ThreadPoolExecutor(1, "ahead")
    try:
        coming = deque(pool.submit(next, items, None) for _ in range(DEPTH))
        while (item := coming.popleft().result()) is not None:
            coming.append(pool.submit(next, items, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(items, Generator):
            items.close()
