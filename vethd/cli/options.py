"""What stands before the object: `vethctl [ OPTIONS ] OBJECT COMMAND`."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from vethd.cli.grammar import ANY, FILE, NETNS, GrammarError, UsageError, Words

ColorMode = Literal["auto", "always", "never"]
COLOR_MODES: Final[tuple[ColorMode, ...]] = ("auto", "always", "never")


class Option(NamedTuple):
    """An option: its name in full, how it is written in the help, what it takes, and what it does."""

    name: str
    shown: str
    takes: str | None
    text: str


#: In the order in which an abbreviation is looked up, which is ip's.
OPTIONS: Final = (
    Option("S", "-S SOCKET", FILE, "socket; else $VETHD_SOCKET or /run/vethd/control.sock"),
    Option("netns", "-n[etns] NETNS", NETNS, "be in NETNS: look for names and make ends there"),
    Option("statistics", "-s[tatistics]", None, "counters; twice: also the drop points"),
    Option("details", "-d[etails]", None, "pair, workers, offloads; with -s -s also each queue"),
    Option("oneline", "-o[neline]", None, "one line per record, with \\ where a line would end"),
    Option("timestamp", "-t[imestamp]", None, "monitor: when it happened, in a line of its own"),
    Option("tshort", "-ts[hort]", None, "monitor: when it happened, in front"),
    Option("json", "-j[son]", None, "JSON"),
    Option("pretty", "-p[retty]", None, "with -j: line breaks and indents"),
    Option("color", "-c[olor][=WHEN]", None, "always, never, or auto: on a terminal, unless $NO_COLOR"),
    Option("batch", "-b[atch] FILE", FILE, "run the lines of FILE, - is standard input"),
    Option("force", "-f[orce]", None, "with -b: go on after an error"),
    Option("Version", "-V[ersion]", None, "print the version"),
    Option("help", "-h[elp]", None, "print this"),
)


class Options:
    """The options of one call."""

    def __init__(self) -> None:
        self.socket: str | None = None
        self.netns: str | None = None
        self.statistics = 0
        self.details = self.oneline = self.timestamp = self.tshort = self.json = self.pretty = self.force = False
        self.color: ColorMode = "auto"
        self.batch: str | None = None
        self.version = self.help = False

    def read(self, words: Words) -> None:
        """Take the options in front. Raises UsageError."""
        while (word := _next(words)) is not None and word != "--":
            option, value = _find(word)
            if option.takes is not None:
                value = words.take(option.takes)
            self._set(option.name, value)

    def _set(self, name: str, value: str) -> None:
        if name == "S":
            self.socket = value
        elif name == "netns":
            self.netns = value
        elif name == "batch":
            self.batch = value
        elif name == "statistics":
            self.statistics += 1
        elif name == "color":
            self.color = _color(value)
        elif name == "Version":
            self.version = True
        else:
            setattr(self, name, True)


def _next(words: Words) -> str | None:
    """Take the next word if it begins with a dash; a dash alone is no option of ours either."""
    option = words.exact(*(f"-{option.name}" for option in OPTIONS))
    if option is None and words.peek().startswith("-"):
        option = words.take(ANY)
    return option


def _find(word: str) -> tuple[Option, str]:
    """The option that a word names, with one dash or two, and what stands behind `=` in it. Raises UsageError."""
    name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
    for option in OPTIONS:
        names = (option.name, "stats") if option.name == "statistics" else (option.name,)
        if name and any(full.startswith(name) for full in names) and (not equals or option.name == "color"):
            return option, value if equals else "always"
    raise UsageError(f'Option "{word}" is unknown.', hint="vethctl -help lists the options")


def _color(value: str) -> ColorMode:
    for mode in COLOR_MODES:
        if mode == value:
            return mode
    raise GrammarError(f'Error: argument "{value}" is wrong: Invalid "color" value')
