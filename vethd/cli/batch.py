"""Many commands from a file, over one connection. Comments, continuation and quotes are those of `ip -batch`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO

from vethd.cli.grammar import UsageError, Words
from vethd.cli.main import attempt, complain
from vethd.cli.session import Session

_BLANKS = " \t\r\n"


def batch(name: str, words: Words, session: Session) -> int:
    """Run the lines of a file, or of standard input when it is called `-`.

    It ends with the first line that fails; with -force it goes on. Returns the exit status, as `ip` does: 255 when the
    words of a line make no sense, 1 when it failed otherwise. Raises OSError when standard output fails.
    """
    if words:
        return complain(f'Error: "{words.take()}" is a garbage.', "with -b, the commands stand in the file", 255)
    try:
        file = _open(name)
    except OSError as error:
        return complain(f'Cannot open file "{name}" for reading: {error.strerror}', None, 1)
    worst = 0
    with file:
        for number, line in joined(file):
            status = _line(line, session)
            session.output.flush()  # what was done is seen, whatever comes next
            if status:
                complain(f"Command failed {name}:{number}", None, status)
                worst = max(worst, 255 if status == 255 else 1)
                if not session.options.force:
                    break
    return worst


def _open(name: str) -> TextIO:
    """The file, or standard input; names of interfaces are any bytes, and only \\n ends a line. Raises OSError."""
    standard = name == "-"
    file = 0 if standard else name
    return open(file, encoding="utf-8", errors="surrogateescape", newline="\n", closefd=not standard)


def _line(line: str | None, session: Session) -> int:
    if line is None:
        return complain("Missing continuation line", None, 1)
    try:
        words = split(line)
    except UsageError as error:
        return complain(str(error), error.hint, error.status)
    return attempt(Words(words), session) if words else 0


def joined(lines: Iterable[str]) -> Iterator[tuple[int, str | None]]:
    """Lines without comments, continued lines joined; each with the number of its last line, as `ip` tells it.

    None at the end, if the last line says that it is continued. iproute2, lib/utils.c: getcmdline().
    """
    held = ""
    number, continued = 0, False
    for number, line in enumerate(lines, 1):
        text, hash_, _comment = line.partition("#")
        held += text
        continued = not hash_ and held.endswith("\\\n")
        if continued:
            held = held[:-2]
        else:
            yield number, held
            held = ""
    if continued:
        yield number, None


def split(line: str) -> list[str]:
    """The words of a line; quotes keep together a word that begins with one. Raises UsageError.

    iproute2, lib/utils.c: makeargs().
    """
    words: list[str] = []
    rest = line.lstrip(_BLANKS)
    while rest:
        if rest[0] in "'\"":
            word, quote, rest = rest[1:].partition(rest[0])
            if not quote:
                raise UsageError("Unterminated quoted string")
            words.append(word)
        else:
            end = min((at for at in map(rest.find, _BLANKS) if at >= 0), default=len(rest))
            words.append(rest[:end])
            rest = rest[end:]
        rest = rest.lstrip(_BLANKS)
    return words
