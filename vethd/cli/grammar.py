"""iproute2's grammar: words one after the other, each of which may be abbreviated, the first match in order winning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class UsageError(Exception):
    """Raised when the words make no sense; the text is what `ip` would say, naming the word.

    hint: what to do about it, or None.
    """

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint = hint


def garbage(word: str) -> UsageError:
    """The error for a word that fits nowhere."""
    return UsageError(f'Error: "{word}" is a garbage.', hint="vethctl help shows the grammar")


class Words:
    """The words of a command line, taken from the front."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._words)

    def peek(self) -> str:
        """The next word, which stays."""
        return self._words[self._at]

    def take(self) -> str:
        """The next word. Raises UsageError at the end of the line."""
        if not self:
            raise UsageError("Command line is not complete.", hint="vethctl help shows the grammar")
        self._at += 1
        return self._words[self._at - 1]

    def keyword(self, *keywords: str) -> str | None:
        """Take the next word if it is one of the keywords or the beginning of one, and return that keyword in full."""
        if self:
            for keyword in keywords:
                if self.peek() and keyword.startswith(self.peek()):
                    self._at += 1
                    return keyword
        return None

    def number(self, name: str) -> int:
        """The next word as a number of any sign. Raises UsageError naming the argument."""
        word = self.take()
        try:
            return int(word, 0)
        except ValueError:
            raise UsageError(f'Error: argument "{word}" is wrong: Invalid "{name}" value') from None

    def on_or_off(self, name: str) -> bool:
        """The next word, `on` or `off`, as true or false. Raises UsageError naming the argument, as `ip` does."""
        word = self.take()
        if word not in ("on", "off"):
            raise UsageError(f'Error: argument of "{name}" must be one of "on", "off", not "{word}"')
        return word == "on"


@dataclass
class Request:
    """Parameters of a method, and the namespace fds that go with them. close() when it was sent."""

    params: dict[str, Any] = field(default_factory=dict)
    fds: list[int] = field(default_factory=list)

    def netns(self, word: str) -> dict[str, int]:
        """Open a namespace and return the reference to it; opened here, with the caller's rights, and sent along.

        word: a name from `ip netns`, a pid, or a path, as with `ip link set netns`. Raises UsageError.
        """
        hint = None
        if "/" in word:
            path = Path(word)
        else:
            path = Path("/run/netns") / word
            hint = f"create it first: ip netns add {word}"
            if word.isdecimal() and not path.exists():
                path = Path(f"/proc/{word}/ns/net")
                hint = "is that process still running?"
        try:
            self.fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            text = f'Error: argument "{word}" is wrong: Invalid "netns" value ({error.strerror})'
            raise UsageError(text, hint=hint) from None
        return {"fd": len(self.fds) - 1}

    def close(self) -> None:
        """Close the namespaces again."""
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


_END_WORDS = ("netns", "address", "lladdr", "mtu", "txqueuelen", "txqlen", "qlen", "gro", "up", "down")
_PAIR_WORDS = ("placement", "numqueues")


def link_add(words: Words, request: Request) -> None:
    """`[dev] NAME [netns N] [address MAC] [mtu N] [txqueuelen N] [gro G] [up] type veth [peer ...] [placement P]
    [numqueues N]`; the last two may stand anywhere behind NAME.
    """
    a: dict[str, Any] = {}
    kind = None
    _end(words, request, a, ("type", *_PAIR_WORDS))
    while words:
        word = words.keyword("type", "placement", *_END_WORDS, "numqueues")
        if word == "type" and kind is None:
            kind = words.take()
            if kind != "veth":
                raise UsageError(f'Error: Unknown device type "{kind}".', hint="vethd makes pairs of type veth")
            if words.keyword("peer"):
                request.params["b"] = b = dict[str, Any]()
                _end(words, request, b, _PAIR_WORDS)
        elif word == "placement":
            _once(request.params, "placement", words.take())
        elif word == "numqueues":
            _once(request.params, "numqueues", words.number("numqueues"))
        elif word in _END_WORDS:
            _attribute(word, words, request, a)
        elif word is None:
            raise garbage(words.peek())
        else:
            raise UsageError('Error: duplicate "type".')
    if kind is None:
        raise UsageError('Not enough information: "type" argument is required', hint="add: type veth")
    request.params["a"] = a


def _end(words: Words, request: Request, end: dict[str, Any], stops: tuple[str, ...]) -> None:
    """The words of one end, up to a word in `stops` or the end of the line."""
    while words:
        begins = [stop for stop in stops if stop.startswith(words.peek())]
        if words.peek() in stops or ("ifname" in end and begins and not "netns".startswith(words.peek())):
            return
        if words.peek() in ("name", "dev"):
            words.take()
            _once(end, "ifname", words.take(), "name")
        elif "ifname" not in end and words.peek() not in _END_WORDS:
            end["ifname"] = words.take()  # `a` is a name here, not the beginning of `address`
        elif (word := words.keyword(*_END_WORDS)) is not None:
            _attribute(word, words, request, end)
        else:
            raise garbage(words.peek())


def _attribute(word: str, words: Words, request: Request, end: dict[str, Any]) -> None:
    if word == "netns":
        _once(end, "netns", request.netns(words.take()))
    elif word in ("address", "lladdr"):
        _once(end, "address", words.take())
    elif word == "mtu":
        _once(end, "mtu", words.number("mtu"))
    elif word in ("txqueuelen", "txqlen", "qlen"):
        _once(end, "txqueuelen", words.number("txqueuelen"))
    elif word == "gro":
        _once(end, "gro", words.on_or_off("gro"))
    else:
        _once(end, "up", word == "up")


def _once(values: dict[str, Any], name: str, value: Any, word: str | None = None) -> None:
    """Note a value. Raises UsageError when there is one already; word: what the user calls it, else `name`."""
    if name in values:
        raise UsageError(f'Error: duplicate "{word or name}".', hint="give it once per end")
    values[name] = value


def link_select(words: Words, request: Request) -> None:
    """`[dev] NAME [netns N]`."""
    while words:
        named = "ifname" in request.params
        if words.peek() == "netns" or (named and words.peek() and "netns".startswith(words.peek())):
            words.take()
            _once(request.params, "netns", request.netns(words.take()))
        else:
            if words.peek() == "dev":
                words.take()
            elif named:
                raise garbage(words.peek())
            _once(request.params, "ifname", words.take(), "dev")
