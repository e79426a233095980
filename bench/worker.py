"""The process that does a part's work in one place: `python -m bench.worker PART PLACE SIZE`, prints a JSON object."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec

from bench import anywhere, data, latency, names, parallel, tools
from bench.clock import Clock
from bench.peers import Place
from bench.sizes import Size

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS: Final[dict[str, Callable[[Place, Size, Clock], None]]] = {
    "names": names.run,
    "data": data.run,
    "tools": tools.run,
    "parallel": parallel.run,
    "latency": latency.run,
    "anywhere": anywhere.run,
}


def main() -> None:
    part, place, size = sys.argv[1:]
    clock = Clock()
    where = msgspec.json.decode(place, type=Place, dec_hook=lambda kind, text: kind(text))
    PARTS[part](where, msgspec.json.decode(size, type=Size), clock)
    sys.stdout.buffer.write(msgspec.json.encode(clock.rates) + b"\n")


if __name__ == "__main__":
    main()
