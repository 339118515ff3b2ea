"""In which line of a TOML file a key is: tomllib does not say, so it is asked about each statement alone.

A statement is a table's header, or a key with its value; it ends with the first line at which the lines since its
beginning are TOML. So nothing here knows how TOML writes keys, strings or comments.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from vethd.validation import Path


class Lines:
    """Where each key of a text is. text: TOML; that it is has been found out before."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._elements: dict[Path, int] = {}  # tables that an array of tables has so far
        table: Path = ()
        for number, statement in _statements(text):
            said = tomllib.loads(statement)
            if statement.lstrip().startswith("["):
                table = self._header(said, number)
            else:
                self._enter(table, said, number)

    def of(self, path: Path) -> int:
        """The line of the key at a path, or of the nearest table or key around it; 1 when there is none."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _header(self, said: dict[str, Any], number: int) -> Path:
        """Enter the table that a header opens, and return its path: `[[pair]]` opens another one each time."""
        path: Path = ()
        while said:
            ((name, value),) = said.items()
            path += (name,)
            self._lines.setdefault(path, number)
            if isinstance(value, list):
                self._elements[path] = self._elements.get(path, 0) + 1
                value = value[0]
            if path in self._elements:
                path += (self._elements[path] - 1,)
                self._lines.setdefault(path, number)
            said = value
        return path

    def _enter(self, path: Path, value: Any, number: int) -> None:
        if path:
            self._lines.setdefault(path, number)
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            self._enter((*path, key), child, number)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Every statement, with the number of its first line; empty lines and comments are none."""
    begun, first = "", 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not begun:
            first = number
        begun += line + "\n"
        try:
            said = tomllib.loads(begun)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        if said:
            yield first, begun
        begun = ""
