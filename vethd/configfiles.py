"""Where the configuration comes from: a main file, and the files of the directory `conf.d` beside it.

All files say the same things in the same way. They are read in the order of their names, the main file first. What two
of them set, the later one sets, key by key, as with drop-ins of systemd; bridges and pairs add up. Each file is checked
by itself, so that everything wrong is told by file, line and key.
"""

from __future__ import annotations

import codecs
import os
import re
import tomllib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from vethd.config import Config
from vethd.configlines import Lines
from vethd.frameio.choice import Wanted
from vethd.rpc.schema.config import StaticBridge, StaticPair
from vethd.validation import Problem, problems

DEFAULT_CONFIG: Final = Path("/etc/vethd/vethd.toml")
_DROP_INS: Final = "conf.d"
#: Lists of tables, which add up.
_LISTS: Final = (("bridge",), ("pair",))


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong in a file. line: None when it is about the file. key: "" when it is about no key."""

    file: Path
    line: int | None
    key: str
    text: str
    hint: str | None = None

    def __str__(self) -> str:
        place = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        key = f"{self.key}: " if self.key else ""
        return f"{place}: {key}{self.text}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(Exception):
    """Raised when configuration files can't be read or say something that is not valid. findings: all of it."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)


@dataclass(frozen=True, slots=True)
class Loaded:
    """config: what the files say together. files: those that were read, in order."""

    config: Config
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a daemon has its configuration from. path: the main file, see load. socket, frameio: the last word."""

    path: Path | None = None
    socket: str | None = None
    frameio: Wanted | None = None

    def load(self) -> Loaded:
        """Read the files; what is said elsewhere is not in it. Raises ConfigError."""
        return load(self.path)

    def overrule(self, config: Config) -> Config:
        """The configuration with what has the last word."""
        if self.frameio is not None:
            config = config.model_copy(update={"worker": config.worker.model_copy(update={"frameio": self.frameio})})
        return config if self.socket is None else config.model_copy(update={"socket": self.socket})

    @property
    def overruled(self) -> frozenset[str]:
        """Keys that files have no say in."""
        says = {"socket": self.socket, "worker.frameio": self.frameio}
        return frozenset(key for key, value in says.items() if value is not None)


def load(path: Path | None = None) -> Loaded:
    """Read the main file and its drop-ins. path: the main file; None for the default one, which need not exist.

    Raises ConfigError.
    """
    findings: list[Finding] = []
    files: list[_File] = []
    for name in _files(path, findings):
        try:
            files.append(_File(name))
        except ConfigError as error:
            findings.extend(error.findings)
    for file in files:
        findings.extend(file.findings())
    findings.extend(_names_taken(files))
    if findings:
        raise ConfigError(sorted(findings, key=lambda finding: (finding.file, finding.line or 0)))
    content: dict[str, Any] = {}
    for file in files:
        _merge(content, file.content)
    return Loaded(Config.model_validate(content), tuple(file.path for file in files))


class _File:
    """A file that was read. content: what it says. Raises ConfigError when it can't be read or is no TOML."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigError([Finding(path, None, "", error.strerror or str(error))]) from error
        try:
            self._text = raw.removeprefix(codecs.BOM_UTF8).decode()  # some editors begin every file so
            self.content = tomllib.loads(self._text)
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            text = f"byte {error.object[error.start]:#04x} is not UTF-8"
            raise ConfigError([Finding(path, line, "", text, "save the file as UTF-8")]) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([self._not_toml(str(error))]) from error

    @cached_property
    def _lines(self) -> Lines:
        return Lines(self._text)

    def finding(self, problem: Problem) -> Finding:
        """A problem, with its place in this file."""
        return Finding(self.path, self._lines.of(problem.path), problem.name, problem.text, problem.hint)

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong in this file."""
        wrong_tables: set[Any] = set()
        try:
            Config.model_validate(self.content)
        except ValidationError as error:
            for problem in problems(error, Config):
                wrong_tables.add(problem.path[:2])
                hint = f"write [[{problem.path[0]}]], with two brackets" if problem.path in _LISTS else problem.hint
                yield self.finding(replace(problem, hint=hint))
        tables = [(place, table) for place, table in self.tables("bridge", "pair") if place not in wrong_tables]
        if tables:
            from vethd.pairs.desired import wrong, wrong_bridge  # what pairs need takes a while to be imported

            for place, table in tables:
                if place[0] == "pair":
                    refusals = wrong(StaticPair.model_validate(table), in_file=True)
                else:
                    refusals = wrong_bridge(StaticBridge.model_validate(table), in_file=True)
                for path, refusal in refusals:
                    yield self.finding(Problem((*place, *path), refusal.message, refusal.hint))

    def tables(self, *names: str) -> list[tuple[tuple[str, int], dict[str, Any]]]:
        """Place and content of each table of these lists, whatever is in them."""
        found = []
        for name in names:
            tables = self.content.get(name)
            for number, table in enumerate(tables if isinstance(tables, list) else ()):
                if isinstance(table, dict):
                    found.append(((name, number), table))
        return found

    def _not_toml(self, text: str) -> Finding:
        said = re.fullmatch(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", text)
        if said is None:
            return Finding(self.path, None, "", text)
        line = int(said[2]) if said[2] else self._text.rstrip().count("\n") + 1
        return Finding(self.path, line, "", said[1], f"column {said[3]}" if said[3] else "at the end of the file")


def _files(path: Path | None, findings: list[Finding]) -> list[Path]:
    """The main file, and the drop-ins in the order of their names."""
    main = path or DEFAULT_CONFIG
    directory = main.parent / _DROP_INS
    try:
        drop_ins = sorted(file for file in directory.iterdir() if file.suffix == ".toml" and file.name[0] != ".")
    except FileNotFoundError:
        drop_ins = []
    except OSError as error:
        findings.append(Finding(directory, None, "", error.strerror or str(error)))
        drop_ins = []
    return drop_ins if path is None and not os.path.lexists(main) else [main, *drop_ins]


def _names_taken(files: list[_File]) -> Iterator[Finding]:
    """Pairs of which another one has the name already, or the name of an end in the same namespace."""
    seen: dict[Hashable, tuple[_File, Problem]] = {}
    for file in files:
        for place, table in file.tables("bridge", "pair"):
            for name, problem in _names(*place, table):
                there, first = seen.setdefault(name, (file, problem))
                if first is not problem:
                    at = there.finding(first)
                    yield file.finding(replace(problem, text=f"{problem.text} in {at.file}:{at.line} already"))
                    break  # where a pair is there twice, one word about it is enough


def _names(kind: str, number: int, table: dict[str, Any]) -> Iterator[tuple[Hashable, Problem]]:
    """What no other bridge or pair can have, as far as it is there, and how to say that another one has it."""
    if kind == "bridge":
        yield from _device(table, "name", ("bridge", number), "the bridge")
        return
    if isinstance(name := table.get("name"), str):
        yield name, Problem(("pair", number, "name"), f'"{name}" is the pair', "give each pair a name of its own")
    for letter in ("a", "b"):
        end = table.get(letter)
        if isinstance(end, dict):
            yield from _device(end, "ifname", ("pair", number, letter), "the end")


def _device(
    table: dict[str, Any], key: str, place: tuple[str | int, ...], what: str
) -> Iterator[tuple[Hashable, Problem]]:
    """The name of a device in its namespace."""
    if isinstance(name := table.get(key), str):
        hint = "give each end and bridge in a namespace a name of its own"
        yield (_place(table.get("netns")), name), Problem((*place, key), f'"{name}" is {what}', hint)


def _place(netns: Any) -> Hashable:
    """A namespace as a file names it, the same for a string and a table."""
    if isinstance(netns, dict):
        netns = next(iter(netns.values()), None)
    return netns if isinstance(netns, str | int) else None


def _merge(content: dict[str, Any], later: dict[str, Any]) -> None:
    """Let a later file have its say. Both are valid, so what is a table in one is a table in the other."""
    for key, value in later.items():
        if isinstance(value, dict) and key in content:
            _merge(content[key], value)
        elif isinstance(value, list) and (key,) in _LISTS:
            content[key] = content.get(key, []) + value
        else:
            content[key] = value
