"""Where and how vethctl prints: records and tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

from vethd.cli.options import Options

#: As `ip -c`.
_COLORS: Final = {"ifname": "\033[36m", "address": "\033[33m", "UP": "\033[32m", "DOWN": "\033[31m"}
_RESET: Final = "\033[0m"

Row = dict[str, Any]


class Output:
    """Standard output, as the options want it."""

    def __init__(self, options: Options, stream: TextIO | None = None) -> None:
        self.json = options.json
        self._pretty = options.pretty
        self._line_end = "\\" if options.oneline else "\n"
        self._stream = stream if stream is not None else sys.stdout
        wanted = self._stream.isatty() and not os.environ.get("NO_COLOR")
        self._color = not options.json and (options.color == "always" or (options.color == "auto" and wanted))

    def value(self, value: Any) -> None:
        """Print one JSON text."""
        print(json.dumps(value, indent=4 if self._pretty else None), file=self._stream)

    def line(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._stream)

    def record(self, lines: Iterable[str]) -> None:
        """Print the lines of one record; with -o as one line."""
        print(self._line_end.join(lines), file=self._stream)

    def columns(self, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; see columns."""
        for line in columns(names, rows):
            self.line(line)

    def flush(self) -> None:
        """Let readers have what was printed so far."""
        self._stream.flush()

    def paint(self, text: str, color: str) -> str:
        """The text in a colour, or as it is."""
        return f"{_COLORS[color]}{text}{_RESET}" if self._color and color in _COLORS else text


def columns(names: Sequence[str], rows: Iterable[Sequence[str]], left: int = 0) -> list[str]:
    """A line of names, and a line per row aligned under it; the first `left` columns begin at the left."""
    lines = [names, *rows]
    widths = [max(7, *map(len, column)) for column in zip(*lines, strict=True)]
    return [
        " ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def table(tables: dict[str, dict[str, int]]) -> list[str]:
    """Per title a line of names and a line of numbers aligned under them, as `ip -s link` lays them out.

    Tables made together have as many columns each, and get the same widths.
    """
    cells = [cell for row in tables.values() for cell in (row.keys(), map(str, row.values()))]
    widths = [max(7, *map(len, column)) for column in zip(*cells, strict=True)]
    widths[0] = max(10, widths[0], *(len(f"{title} {next(iter(row))}") for title, row in tables.items()))
    lines: list[str] = []
    for title, row in tables.items():
        first, *others = row
        names = [first.rjust(widths[0] - len(title)), *map(str.rjust, others, widths[1:])]
        lines.append(f"    {title}{' '.join(names)}")
        lines.append(f"    {' '.join(map(str.rjust, map(str, row.values()), widths))}")
    return lines


def plain(text: str) -> str:
    """A text without anything that a terminal would obey: who owns a namespace names its interfaces."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def netns_name(row: Row) -> str:
    """The namespace of an end: its `ip netns` name, or its inode as /proc/PID/ns/net shows it."""
    return plain(row["netns"]) if row["netns"] else f"net:[{row['netns_inode']}]"
