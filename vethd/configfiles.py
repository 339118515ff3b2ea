"""Where the configuration comes from: a main file, and the files of the directory `conf.d` beside it.

All files say the same things in the same way. They are read in the order of their names, the main file first. What two
of them set, the later one sets, key by key, as with drop-ins of systemd; pairs add up. Each file is checked by itself,
so that everything wrong is told by file, line and key.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from vethd.config import Config
from vethd.configlines import Lines
from vethd.frameio.choice import Wanted
from vethd.validation import Problem, problems

DEFAULT_CONFIG: Final = Path("/etc/vethd/vethd.toml")
_DROP_INS: Final = "conf.d"


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
            self._text = raw.decode()
            self.content = tomllib.loads(self._text)
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise ConfigError([Finding(path, line, "", f"byte {raw[error.start]:#04x} is not UTF-8")]) from error
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
        try:
            config = Config.model_validate(self.content)
        except ValidationError as error:
            yield from map(self.finding, problems(error, Config))
            return
        if config.pair:
            from vethd.pairs.desired import wrong  # not sooner: the doctor runs where this can't be imported

            for number, pair in enumerate(config.pair):
                for path, refusal in wrong(pair, in_file=True):
                    yield self.finding(Problem(("pair", number, *path), refusal.message, refusal.hint))

    def pair_names(self) -> Iterator[tuple[str, Problem]]:
        """The names of its pairs, as far as they have one, and how to say that one of them is wrong."""
        pairs = self.content.get("pair")
        for number, pair in enumerate(pairs if isinstance(pairs, list) else ()):
            name = pair.get("name") if isinstance(pair, dict) else None
            if isinstance(name, str):
                yield name, Problem(("pair", number, "name"), "")

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
    """Pairs with a name that another one has already."""
    seen: dict[str, tuple[_File, Problem]] = {}
    for file in files:
        for name, problem in file.pair_names():
            if name in seen:
                there, first = seen[name]
                at = there.finding(first)
                text = f'"{name}" is the pair in {at.file}:{at.line} already'
                yield file.finding(replace(problem, text=text, hint="give each pair a name of its own"))
            else:
                seen[name] = file, problem


def _merge(content: dict[str, Any], later: dict[str, Any]) -> None:
    """Let a later file have its say. Both are valid, so what is a table in one is a table in the other."""
    for key, value in later.items():
        if isinstance(value, dict) and key in content:
            _merge(content[key], value)
        elif isinstance(value, list) and key == "pair":
            content[key] = content.get(key, []) + value
        else:
            content[key] = value
