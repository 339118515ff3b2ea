"""vethctl config: apply, save."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from vethd.cli.grammar import FILE, UsageError, Words, garbage, once
from vethd.cli.output import Row, plain
from vethd.cli.session import Session


def apply(words: Words, session: Session) -> int:
    """`vethctl config apply`; status 2 if a pair failed."""
    name = words.take(FILE)
    flags: dict[str, Any] = {}
    while words:
        word = words.keyword("prune", "dry-run")
        if word is None:
            raise garbage(words.take())
        once(flags, word.replace("-", "_"), True, word)
    pairs, bridges = _read(name)
    found = session.call("config.apply", pairs=pairs, bridges=bridges, **flags)
    if session.output.json:
        session.output.value(found)
    else:
        for row in found["plan"]:
            if row["action"] != "keep" or row["error"] is not None:
                session.output.record(_record(row))
    return 2 if found["failed"] else 0


def _read(name: str) -> list[list[Any]]:
    """The `[[pair]]` tables of a file, and its `[[bridge]]` tables. Raises UsageError."""
    import tomllib

    try:
        if name == "-":
            text = sys.stdin.buffer.read().decode("utf-8-sig")
        else:
            with open(name, "rb") as file:
                text = file.read().decode("utf-8-sig")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f'Cannot open file "{name}" for reading: {error.strerror}', status=1) from None
    except ValueError as error:  # no UTF-8, no TOML; it names the line
        raise UsageError(f"{name}: {error}", status=1) from None
    tables = []
    for word in ("pair", "bridge"):
        tables.append(content.get(word, []))
        if not isinstance(tables[-1], list):
            raise UsageError(f"{name}: {word} is not a list of tables", f"write [[{word}]], with two brackets", 1)
    return tables


def _record(row: Row) -> list[str]:
    lines = [f"{row['action']} {plain(row['name'])}" + (f" pair {row['pair']}" if row["pair"] else "")]
    lines += [f"    {name}: {_value(was)} -> {_value(shall)}" for name, (was, shall) in row["changes"].items()]
    if (error := row["error"]) is not None:
        lines.append(f"    failed: {plain(error['message'])}")
        if error.get("hint"):
            lines.append(f"    hint: {plain(error['hint'])}")
    return lines


def _value(value: Any) -> str:
    return plain(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def save(words: Words, session: Session) -> None:
    """`vethctl config save`."""
    name = words.take(FILE) if words else None
    words.end()
    found = session.call("config.save")
    if name is not None:
        _write(name, found["toml"])
    elif session.output.json:
        session.output.value(found)
    else:
        session.output.line(found["toml"].rstrip("\n"))
    for reason in found["left_out"]:
        print(f"left out: {plain(reason)}", file=sys.stderr)


def _write(name: str, text: str) -> None:
    """Write a file; a regular one as a whole or not at all, its mode kept. Raises UsageError."""
    path = os.path.realpath(name)
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe, /dev/stdout
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        else:
            _replace(path, text)
    except OSError as error:
        raise UsageError(f'Cannot write file "{name}": {error.strerror}', status=1) from None


def _replace(path: str, text: str) -> None:
    mode = os.stat(path).st_mode & 0o7777 if os.path.exists(path) else 0o644
    with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(path), delete=False, encoding="utf-8") as file:
        try:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except OSError:
            os.unlink(file.name)
            raise
