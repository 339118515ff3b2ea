"""Words of a command line, read in iproute2's manner: one after the other, keywords abbreviated, the first match wins.

A command takes its words by `keyword`, `exact`, `choice` and `take`, which say what may stand at a place. That is all
there is of a grammar, so the same code also completes a line: vethd/cli/complete.py hands it words of which the last
one is not finished, and notes what was asked for there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

#: Kinds of values, for completion.
ANY: Final = "any"
FILE: Final = "file"
LABEL: Final = "label"
LABEL_NAME: Final = "label name"
LINK: Final = "link"
NETNS: Final = "netns"
SYSCTL: Final = "sysctl"
WORKER: Final = "worker"


class UsageError(Exception):
    """Raised when the words make no sense; the text is what `ip` would say, naming the word.

    hint: what to do about it, or None. status: with which vethctl ends, as `ip` does.
    """

    def __init__(self, text: str, hint: str | None = None, status: int = 255) -> None:
        super().__init__(text)
        self.hint = hint
        self.status = status


class GrammarError(UsageError):
    """Raised when a word is missing or one too many; the help of the command is what to do about it."""


class Words:
    """The words of a command line, taken from the front."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._words)

    def peek(self) -> str:
        """The next word, which stays; empty at the end."""
        return self._words[self._at] if self else ""

    def take(self, kind: str = ANY) -> str:
        """The next word, a value of this kind. Raises GrammarError at the end of the line."""
        del kind  # what completion wants to know
        if not self:
            raise GrammarError("Command line is not complete.")
        self._at += 1
        return self._words[self._at - 1]

    def keyword(self, *keywords: str) -> str | None:
        """Take the next word if it is one of the keywords or the beginning of one, and return that keyword in full."""
        word = self.peek()
        for keyword in keywords:
            if word and keyword.startswith(word):
                self._at += 1
                return keyword
        return None

    def exact(self, *keywords: str) -> str | None:
        """Take and return the next word if it is one of the keywords: where the beginning of one may be a name."""
        word = self.peek()
        if word not in keywords or not self:
            return None
        self._at += 1
        return word

    def only(self, keyword: str) -> bool:
        """Take the next word if it is this one, and the last."""
        if self._words[self._at :] != [keyword]:
            return False
        self._at += 1
        return True

    def choice(self, name: str, *values: str) -> str:
        """Take one of the values, unabbreviated. Raises UsageError naming the argument, as `ip` does."""
        value = self.exact(*values)
        if value is None:
            word = self.take()
            listed = ", ".join(f'"{value}"' for value in values)
            raise UsageError(f'Error: argument of "{name}" must be one of {listed}, not "{word}"')
        return value

    def number(self, name: str, kind: str = ANY) -> int:
        """The next word as a number of any sign. Raises UsageError naming the argument."""
        word = self.take(kind)
        try:
            return int(word, 0)
        except ValueError:
            raise wrong(word, name) from None

    def rest(self) -> list[str]:
        """The words that are left; they stay."""
        return self._words[self._at :]

    def end(self) -> None:
        """Raises GrammarError unless all words are taken."""
        if self:
            raise garbage(self.take())


def garbage(word: str) -> GrammarError:
    """The error for a word that fits nowhere."""
    return GrammarError(f'Error: "{word}" is a garbage.')


def wrong(word: str, name: str, reason: str | None = None, hint: str | None = None) -> UsageError:
    """The error for a value that the argument `name` can't have."""
    return UsageError(
        f'Error: argument "{word}" is wrong: Invalid "{name}" value' + (f" ({reason})" if reason else ""), hint
    )


def once(values: dict[str, Any], name: str, value: Any, word: str | None = None) -> None:
    """Note a value. Raises UsageError when there is one already; word: what the user calls it, else `name`."""
    if name in values:
        raise UsageError(f'Error: duplicate "{word or name}".', hint="give it once")
    values[name] = value
