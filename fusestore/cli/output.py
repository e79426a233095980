"""What commands print: JSON for programs, tables for people.

Names are bytes and may hold anything. JSON is pure ASCII; for people, what a terminal could take amiss is escaped.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
WIDE: Final = 100_000  # columns of an output that is no terminal: a program's lines are not folded


def print_json(data: Any) -> None:
    """One JSON document, in lines."""
    print(json.dumps(data, indent=2))


def print_json_line(data: Any, *, flush: bool) -> None:
    """One JSON document of several, on one line."""
    print_line(json.dumps(data, separators=(",", ":")), flush=flush)


def print_line(text: str, *, flush: bool) -> None:
    """A line in one piece: also where output is not buffered, who is killed leaves none without its end."""
    sys.stdout.write(f"{text}\n")
    if flush:
        sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns with a header."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(readable(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """One fact a line."""
    kept = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        print(f"{name:<{width}}  {readable(value)}")


def readable(text: str) -> str:
    """`text` with everything escaped that does not print: control characters, and bytes that are not UTF-8."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00 if "\udc80" <= character <= "\udcff" else None
    return f"\\x{byte:02x}" if byte is not None else character.encode("unicode_escape", "backslashreplace").decode()


def size(count: int | None) -> str:
    """A number of bytes for people; "" for None."""
    if count is None:
        return ""
    value = float(count)
    for unit in _UNITS[:-1]:
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_UNITS[-1]}"


def moment(time_ns: int | None) -> str:
    """A point in time, local; "" for 0 and None."""
    if not time_ns:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns / 1e9)) + f".{time_ns // 1_000_000 % 1000:03d}"


def duration(seconds: float | None) -> str:
    """A length of time; "" for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
