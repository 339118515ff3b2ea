"""The manual pages: `python -m docs.manual DIRECTORY` writes them, `make man` into build/man.

Their sources are docs/man/*.rst, made into pages by docutils. A line `.. generated: NAME` stands for what the code
itself knows best: commands, options and methods.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from docutils.core import publish_string
from docutils.writers.manpage import Writer

from vethd.cli.commands import DEFINITIONS, OBJECTS, Command
from vethd.cli.options import OPTIONS
from vethd.rpc.call import Method
from vethd.rpc.generate.files import table
from vethd.rpc.records import summary

SOURCES: Final = Path(__file__).parent / "man"
_MARK: Final = ".. generated: "


def source(page: Path, methods: Iterable[Method]) -> str:
    """The reStructuredText of a page, complete."""
    lines = []
    for line in page.read_text().splitlines():
        if line.startswith(_MARK):
            lines += _generated(line.removeprefix(_MARK), methods)
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def manual(text: str) -> str:
    """A page for man(1). Raises docutils.utils.SystemMessage for whatever docutils would warn of."""
    settings = {"halt_level": 2, "report_level": 2, "input_encoding": "unicode", "output_encoding": "unicode"}
    return str(publish_string(text, writer=Writer(), settings_overrides=settings))


def _generated(name: str, methods: Iterable[Method]) -> list[str]:
    if name == "options":
        return [
            line for option in OPTIONS for line in (f"``{option.shown}``", f"    {_sentence(_plain(option.text))}", "")
        ]
    if name == "commands":
        return [
            line
            for thing in OBJECTS
            if not thing.hidden
            for each in thing.commands
            for line in _command(" ".join((thing.name, *each.names[:1])), each)
        ]
    if name == "definitions":
        return [
            line
            for word, meaning in DEFINITIONS.items()
            for line in (
                "::",
                "",
                f"    {word} := {meaning[0]}",
                *(f"    {'':{len(word)}}    {m}" for m in meaning[1:]),
                "",
            )
        ]
    if name == "methods":
        return [line for each in sorted(methods, key=lambda each: each.name) for line in _method(each)]
    raise ValueError(f"{_MARK}{name}: nothing of that name is generated")


def _command(name: str, command: Command) -> list[str]:
    usage = [f"        {'        ' if at else 'vethctl '}{line}" for at, line in enumerate(command.usage)]
    text = f"{_sentence(command.summary)} {' '.join(command.text.split())}"
    return [f"**{name}**", f"    {_plain(text)}", "", "    ::", "", *usage, ""]


def _method(method: Method) -> list[str]:
    return [f"**{method.name}**", f"    {_sentence(_plain(summary(method.call.__doc__)))}", ""]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _plain(text: str) -> str:
    """Text of the code as reStructuredText: what stands in backquotes there is literal."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("`", "``").replace("|", "\\|")


def main() -> None:
    """Write every page into the directory that the command line names."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    methods = asyncio.run(table())
    for page in sorted(SOURCES.glob("*.rst")):
        (directory / page.stem).write_text(manual(source(page, methods)))


if __name__ == "__main__":
    main()
